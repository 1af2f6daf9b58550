"""Write a network as an ONNX file, and compare the file with the network."""

from __future__ import annotations

import copy
import importlib
import io
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from monai.networks.nets.basic_unet import UpCat
from torch import Tensor, nn
from torch.nn import functional

from bundle.types import IMAGE, PRED, Heads
from bundle.utils import check_output

TRACED = (2, 3, 64, 96)
"""Shape of the image that the export traces; the file accepts other sizes."""
SHAPES = ((1, 3, 256, 256), (3, 3, 192, 160), (2, 3, 75, 130))
"""Image shapes of the comparison: several batch sizes, not square, and sides that are no multiple of 16."""
TOLERANCE = 1e-4
"""Largest allowed difference of file and network, relative to the largest value of an output if that is above 1."""
OPSET = 18
FILES_OF = {"onnx": "ONNX files", "bioimageio": "bioimage.io packages", "huggingface": "Hugging Face repositories"}
"""Extra -> files that need it."""
LARGEST = 2**31
"""Maximum size of an ONNX file with its weights, in bytes."""


def import_required(name: str, extra: str = "onnx") -> Any:
    """Import a library of an optional extra.

    Args:
        name: name of the module.
        extra: name of the extra in pyproject.toml.

    Raises:
        RuntimeError: if it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        what = FILES_OF[extra]
        raise RuntimeError(f'{what} need {name}, which is missing; pip install "{name}", or .[{extra}]') from error


def is_own_export(path: str | os.PathLike[str]) -> bool:
    """Return whether a file is an ONNX file with the metadata of :func:`write_onnx`."""
    try:
        model = import_required("onnx").load(os.fspath(path), load_external_data=False)
    except (OSError, ValueError, import_required("google.protobuf.message").Error):
        return False
    return {"outputs", "weights"} <= {entry.key for entry in model.metadata_props}


class TraceableUpCat(nn.Module):
    """MONAI's ``UpCat`` without its branch on odd sides, which a trace would fix for all images.

    It always pads by the number of missing rows and columns, which may be 0.

    Args:
        block: block whose layers are used.
    """

    def __init__(self, block: UpCat) -> None:
        super().__init__()
        self.upsample = block.upsample
        self.convs = block.convs

    def forward(self, x: Tensor, x_e: Tensor | None) -> Tensor:
        """Return the features (B, C, H, W) of this level.

        Args:
            x: features of the next coarser level, (B, C', H // 2, W // 2).
            x_e: features of the encoder at this level, or ``None``.
        """
        below = self.upsample(x)
        if x_e is None:
            return self.convs(below)
        missing = [0, x_e.shape[3] - below.shape[3], 0, x_e.shape[2] - below.shape[2]]
        return self.convs(torch.cat([x_e, functional.pad(below, missing, mode="replicate")], dim=1))


class OutputList(nn.Module):
    """Network with a list of outputs, as ONNX export needs.

    Args:
        network: returns a tensor, or a dictionary of tensors.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return all outputs of the network for an image (B, C, H, W)."""
        output = self.network(image)
        return list(output.values()) if isinstance(output, dict) else [output]


def traceable(network: nn.Module) -> nn.Module:
    """Return a copy of a network, in evaluation mode on the CPU, whose trace accepts images of every size."""
    traced = copy.deepcopy(network).eval().to("cpu", torch.float32)
    for part in list(traced.modules()):
        for name, child in part.named_children():
            if isinstance(child, UpCat) and child.is_pad:
                setattr(part, name, TraceableUpCat(child))
    return traced


def outputs_of(network: nn.Module, image: Tensor) -> Heads:
    """Return the outputs of ``forward`` by name; a single tensor is ``pred``."""
    with torch.no_grad():
        output = network(image)
    return output if isinstance(output, dict) else {PRED: output}


def write_onnx(
    network: nn.Module, path: str | os.PathLike[str], metadata: Mapping[str, str], opset: int = OPSET
) -> list[str]:
    """Write a network as an ONNX file with dynamic batch size, height and width.

    The input is called ``image``; the outputs have the names that ``forward`` returns, or ``pred`` for a single tensor.

    Args:
        network: takes images (B, 3, H, W); it is not changed.
        path: file to write, with the weights.
        metadata: metadata of the file, name -> text; ``outputs`` is added.
        opset: version of the ONNX operators.

    Returns:
        Names of the outputs.

    Raises:
        RuntimeError: if the library ``onnx`` is not installed.
        ValueError: if the network cannot be written as ONNX.
    """
    onnx = import_required("onnx")
    traced = traceable(network)
    size = sum(value.numel() * value.element_size() for value in traced.state_dict().values())
    if size >= LARGEST:
        raise ValueError(
            f"the weights take {size / 2**30:.1f} GiB, but an ONNX file holds less than 2 GiB; reduce the widths"
        )
    image = torch.zeros(TRACED)
    outputs = outputs_of(traced, image)
    dynamic = {0: "batch", 2: "height", 3: "width"}
    axes = {name: dynamic if value.ndim == 4 else {0: "batch"} for name, value in ({IMAGE: image} | outputs).items()}
    # Export to memory, so that errors of the disk are not taken for errors of the network.
    exported = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing warns about each use of a size; `check_onnx` tests other sizes
        try:
            torch.onnx.export(
                OutputList(traced),
                (image,),
                exported,  # type: ignore[arg-type]  # torch takes files in memory with `dynamo=False`
                input_names=[IMAGE],
                output_names=list(outputs),
                dynamic_axes=axes,
                opset_version=opset,
                dynamo=False,  # same outputs as with `dynamo=True`, twenty times faster
            )
        except Exception as error:  # unsupported operators and versions raise many classes
            raise ValueError(
                f"{type(network).__name__} cannot be written as ONNX, opset {opset}: {_short(error)}; "
                "choose another --opset, or keep the outputs at pred"
            ) from error
    # Add the metadata, check the model, and write it.
    model = onnx.load_from_string(exported.getvalue())
    onnx.helper.set_model_props(model, {**metadata, "outputs": json.dumps(list(outputs))})
    onnx.checker.check_model(model)
    onnx.save(model, os.fspath(path))
    return list(outputs)


def check_onnx(
    network: nn.Module,
    path: str | os.PathLike[str],
    shapes: Sequence[Sequence[int]] = SHAPES,
    tolerance: float = TOLERANCE,
) -> float:
    """Compare the outputs of an ONNX file with those of its network, in ONNX Runtime on the CPU with noise images.

    Args:
        network: network that the file was written from.
        path: the file.
        shapes: shapes (B, 3, H, W) of the images.
        tolerance: largest difference that is accepted as rounding, relative to the largest value of an output if that
            is above 1.

    Returns:
        The largest difference, measured in the same way.

    Raises:
        RuntimeError: if ONNX Runtime is not installed.
        ValueError: if the file cannot be run, or its outputs differ.
    """
    runtime = import_required("onnxruntime")
    settings = runtime.SessionOptions()
    settings.log_severity_level = 4  # errors are reported below in one sentence
    session = runtime.InferenceSession(os.fspath(path), settings, providers=["CPUExecutionProvider"])
    reference = copy.deepcopy(network).eval().to("cpu", torch.float32)
    noise = torch.Generator().manual_seed(0)
    names = [output.name for output in session.get_outputs()]
    worst = 0.0
    for shape in shapes:
        image = torch.randn(*shape, generator=noise)
        expected = outputs_of(reference, image)
        if list(expected) != names:
            raise ValueError(f"{Path(path).name} has the outputs {names}, but the network {list(expected)}")
        size = "x".join(map(str, shape))
        try:
            actual = session.run(None, {IMAGE: image.numpy()})
        except Exception as error:  # ONNX Runtime has its own exception classes
            raise ValueError(
                f"the ONNX file does not accept images of {size}, because {type(network).__name__} has layers that "
                f"keep the size they were traced at; keep the outputs at pred ({_short(error)})"
            ) from error
        for (name, value), output in zip(expected.items(), actual, strict=True):
            check_output(value, f"an image of {size} ({name})")
            difference = _difference(value, torch.from_numpy(output))
            if not difference <= tolerance:  # also fails for NaN
                raise ValueError(
                    f"the output {name} of the ONNX file differs from {type(network).__name__} by {difference:.2g} at "
                    f"{size}; the tolerance is {tolerance:g}"
                )
            worst = max(worst, difference)
    return worst


def _difference(expected: Tensor, actual: Tensor) -> float:
    """Return the largest difference of two maps, relative to the largest value if that is above 1."""
    if expected.shape != actual.shape:
        return float("inf")
    return float((expected - actual).abs().max() / expected.abs().max().clamp_min(1.0))


def _short(error: BaseException) -> str:
    return shorten(" ".join(str(error).split()), 160, placeholder=" ...")
