"""Model packages of bioimage.io (spec 0.5): TorchScript and ONNX files from RGB images to probabilities."""

from __future__ import annotations

import re
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.networks.utils import convert_to_torchscript
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from bundle.export.onnx_export import OPSET, check_onnx, import_required, write_onnx

PROBABILITY = "probability"
"""Name of the output tensor."""
DOI = re.compile(r"\bdoi (10\.\d{4,}/\S+)")
NOT_IN_NAMES = re.compile(r"[^\w+\- ()]+ *", re.ASCII)
"""Characters that a name must not contain."""
TAGS = ("histopathology", "H&E", "gland", "semantic-segmentation", "semi-supervised", "2d", "pytorch", "monai")
FIRST_SIDE = 64
"""Smallest side of an image that the package accepts, px."""
TINT = np.array([255, 255, 0], np.float32)
"""RGB color of the foreground on the cover."""


class RGBToProbabilities(nn.Module):
    """Network with its preprocessing and softmax, in the order of axes of image files.

    Args:
        network: returns logits (B, C, W, H) for normalized images (B, 3, W, H); width first, as in the bundle.
        mean: subtracted from each channel, after values are scaled to [0, 1].
        std: divides each channel after that.
    """

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.network = network
        deviation = torch.tensor(std, dtype=torch.float32).reshape(1, -1, 1, 1)
        self.register_buffer("factor", 1 / (255 * deviation))
        self.register_buffer("offset", -torch.tensor(mean, dtype=torch.float32).reshape(1, -1, 1, 1) / deviation)

    def forward(self, image: Tensor) -> Tensor:
        """Return class probabilities (B, C, H, W) of RGB images (B, 3, H, W), float32 in [0, 255]."""
        normalized = image * self.factor + self.offset  # type: ignore[operator]
        return self.network(normalized.transpose(2, 3)).softmax(dim=1).transpose(2, 3)


def write_bioimageio(
    folder: Path,
    network: nn.Module,
    settings: Mapping[str, Any],
    metadata: Mapping[str, Any],
    card: str,
    license_text: str,
    image: NDArray[np.uint8],
) -> None:
    """Write a model package and test it with bioimageio.core, as ``bioimageio test`` does.

    Args:
        folder: existing empty folder.
        network: trained network, in evaluation mode on the CPU; returns logits.
        settings: ``mean``, ``std``, ``pixel_size`` (um/px) and ``class_names``, without background.
        metadata: metadata of the bundle: ``name``, ``description``, ``authors``, ``references``, ``version``.
        card: description of the model in Markdown.
        license_text: terms of code and weights.
        image: test image (H, W, 3), RGB.

    Raises:
        RuntimeError: if a library is missing.
        ValueError: if a file does not give the probabilities of the network, or the package does not pass the test.
    """
    core = import_required("bioimageio.core", "bioimageio")
    spec = import_required("bioimageio.spec", "bioimageio")
    complete = RGBToProbabilities(network, settings["mean"], settings["std"]).eval()
    batch = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    with torch.no_grad():
        probabilities = complete(batch)
    with tempfile.TemporaryDirectory() as temporary:
        draft = Path(temporary)
        convert_to_torchscript(complete, filename_or_obj=str(draft / "model.ts"))
        write_onnx(complete, draft / "model.onnx", {})
        check_onnx(complete, draft / "model.onnx")
        np.save(draft / "test_image.npy", batch.numpy())
        np.save(draft / "test_probability.npy", probabilities.numpy())
        cover(image, probabilities[0].numpy()).save(draft / "cover.png")
        (draft / "LICENSE.txt").write_text(license_text, encoding="utf-8")
        (draft / "README.md").write_text(documentation(card, settings), encoding="utf-8")
        with spec.ValidationContext(root=draft, file_name="rdf.yaml", perform_io_checks=True):
            description = _description(draft, settings, metadata)
        spec.save_bioimageio_package_as_folder(description, output_path=folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own parts; errors are in the summary
        summary = core.test_model(folder, devices=["cpu"])
    if summary.status != "passed":
        problems = [
            f"{'.'.join(map(str, error.loc))}: {error.msg}" for part in summary.details for error in part.errors
        ]
        raise ValueError(f"bioimageio.core does not accept the package: {' '.join(' '.join(problems).split())}")


def documentation(card: str, settings: Mapping[str, Any]) -> str:
    """Return the documentation of a package: the card without the commands of a bundle, and what users need to know."""
    about = card.partition("## MONAI bundle commands")[0].rstrip()
    size = settings["pixel_size"]
    names = ", ".join(["background", *settings["class_names"]])
    return f"""{about}

## Input and output
The input is RGB, float32 in [0, 255], {size:g} um/px: resample images of another resolution. Normalization and softmax
are part of the network. The output has the probability of each class: {names}. Sides are {FIRST_SIDE} px or more. The
bundle predicts windows with overlap 0.5 and Gaussian weights; other tilings change the borders of windows.

## Validation
Compare the class of the highest probability with masks of your own images, by the Dice coefficient of the foreground
over all pixels ("pooled Dice") and of the objects. The images of the table above, if any, are not part of this package.
"""


def cover(image: NDArray[np.uint8], probabilities: NDArray[np.float32]) -> Image.Image:
    """Return the picture of a package, twice as wide as high: the image, and the image with the foreground tinted.

    Args:
        image: (H, W, 3).
        probabilities: (C, H, W); class 0 is background.
    """
    side = min(image.shape[:2])
    weight = 0.5 * (1 - probabilities[0, :side, :side, None])
    square = image[:side, :side]
    tinted = np.rint(square * (1 - weight) + TINT * weight).astype(np.uint8)
    return Image.fromarray(np.concatenate([square, tinted], axis=1))


def _description(folder: Path, settings: Mapping[str, Any], metadata: Mapping[str, Any]) -> Any:
    """Return the description of the files in a folder."""
    v0_5 = import_required("bioimageio.spec.model.v0_5", "bioimageio")
    file = import_required("bioimageio.spec.common", "bioimageio").FileDescr
    references = [(text, DOI.search(text)) for text in metadata["references"]]
    return v0_5.ModelDescr(
        name=NOT_IN_NAMES.sub(" ", metadata["name"]),
        description=metadata["description"],
        authors=[v0_5.Author(name=metadata["authors"])],
        cite=[v0_5.CiteEntry(text=text, doi=v0_5.Doi(doi[1])) for text, doi in references if doi],
        license=file(source=folder / "LICENSE.txt"),
        version=v0_5.Version(metadata["version"]),
        tags=list(TAGS),
        covers=[file(source=folder / "cover.png")],
        documentation=file(source=folder / "README.md"),
        inputs=[_input(v0_5, file, folder, settings)],
        outputs=[_output(v0_5, file, folder, settings)],
        weights=v0_5.WeightsDescr(
            torchscript=v0_5.TorchscriptWeightsDescr(
                source=folder / "model.ts", pytorch_version=v0_5.Version(torch.__version__.partition("+")[0])
            ),
            onnx=v0_5.OnnxWeightsDescr(source=folder / "model.onnx", opset_version=OPSET, parent="torchscript"),
        ),
    )


def _input(v0_5: Any, file: Any, folder: Path, settings: Mapping[str, Any]) -> Any:
    side = v0_5.ParameterizedSize(min=FIRST_SIDE, step=1)
    space = {"size": side, "scale": settings["pixel_size"], "unit": "micrometer"}
    return v0_5.InputTensorDescr(
        id=v0_5.TensorId("image"),
        description="RGB image, H&E stain",
        axes=[
            v0_5.BatchAxis(),
            v0_5.ChannelAxis(channel_names=["red", "green", "blue"]),
            *(v0_5.SpaceInputAxis(id=v0_5.AxisId(name), **space) for name in "yx"),
        ],
        data=v0_5.IntervalOrRatioDataDescr(type="float32", range=(0.0, 255.0)),
        test_tensor=file(source=folder / "test_image.npy"),
    )


def _output(v0_5: Any, file: Any, folder: Path, settings: Mapping[str, Any]) -> Any:
    axes = [
        v0_5.SpaceOutputAxis(
            id=v0_5.AxisId(name),
            size=v0_5.SizeReference(tensor_id=v0_5.TensorId("image"), axis_id=v0_5.AxisId(name)),
            scale=settings["pixel_size"],
            unit="micrometer",
        )
        for name in "yx"
    ]
    names = ["background", *(re.sub(r"\W+", "_", name.lower()) for name in settings["class_names"])]
    return v0_5.OutputTensorDescr(
        id=v0_5.TensorId(PROBABILITY),
        description="probability of each class",
        axes=[v0_5.BatchAxis(), v0_5.ChannelAxis(channel_names=names), *axes],
        data=v0_5.IntervalOrRatioDataDescr(type="float32", range=(0.0, 1.0)),
        test_tensor=file(source=folder / "test_probability.npy"),
    )
