"""The ONNX file of a network: written, and held against the network itself."""

from __future__ import annotations

import copy
import importlib
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

from bundle.networks.outputs import PRED
from bundle.types import IMAGE, Heads

TRACED = (2, 3, 64, 96)
"""Shape of the image that an export looks at; the file takes any other."""
SHAPES = ((1, 3, 256, 256), (3, 3, 192, 160), (2, 3, 75, 130))
"""Shapes at which a file is held against its network: other batches, oblong, sides that 16 does not divide."""
TOLERANCE = 1e-4
"""Largest difference of file and network; where an output goes beyond 1, times its largest value."""
OPSET = 18
LARGEST = 2**31
"""Bytes that one ONNX file may have, its weights inside."""


def required(name: str) -> Any:
    """A library of the extra ``onnx``.

    Raises:
        RuntimeError: where it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise RuntimeError(f'ONNX files need {name}, which is not here; pip install "{name}", or .[onnx]') from error


class FittedUpCat(nn.Module):
    """MONAI's ``UpCat`` without its question whether a side is odd: a trace would answer it once for all images.

    It pads by as many rows and columns as are missing, also by none.

    Args:
        block: the block whose parts it takes over.
    """

    def __init__(self, block: UpCat) -> None:
        super().__init__()
        self.upsample = block.upsample
        self.convs = block.convs

    def forward(self, x: Tensor, x_e: Tensor | None) -> Tensor:
        """Features (B, C, H, W) of the level, of those below it, (B, C', H // 2, W // 2), and the encoder's if any."""
        below = self.upsample(x)
        if x_e is None:
            return self.convs(below)
        missing = [0, x_e.shape[3] - below.shape[3], 0, x_e.shape[2] - below.shape[2]]
        return self.convs(torch.cat([x_e, functional.pad(below, missing, mode="replicate")], dim=1))


class Listed(nn.Module):
    """A network whose maps come one after the other, as an ONNX file has them.

    Args:
        network: answers with a tensor, or with tensors by name.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> list[Tensor]:
        """All that the network answers to images (B, C, H, W)."""
        answer = self.network(image)
        return list(answer.values()) if isinstance(answer, dict) else [answer]


def traceable(network: nn.Module) -> nn.Module:
    """A copy of a network for evaluation on the CPU whose trace takes images of every size."""
    made = copy.deepcopy(network).eval().to("cpu", torch.float32)
    for part in list(made.modules()):
        for name, child in part.named_children():
            if isinstance(child, UpCat) and child.is_pad:
                setattr(part, name, FittedUpCat(child))
    return made


def answers_of(network: nn.Module, image: Tensor) -> Heads:
    """What ``forward`` gives, by name: ``pred`` where it is one tensor."""
    with torch.no_grad():
        answer = network(image)
    return answer if isinstance(answer, dict) else {PRED: answer}


def write_onnx(
    network: nn.Module, path: str | os.PathLike[str], metadata: Mapping[str, str], opset: int = OPSET
) -> list[str]:
    """Write a network as an ONNX file with free batch, height and width.

    The input is called ``image``, the outputs as ``forward`` names them, ``pred`` where it gives one tensor.

    Args:
        network: takes images (B, 3, H, W); it is not changed.
        path: file to write, weights inside.
        metadata: what the file says of itself beside ``outputs``, name -> text.
        opset: version of the ONNX operators.

    Returns:
        Names of the outputs.

    Raises:
        RuntimeError: without the library ``onnx``.
        ValueError: where the network cannot be written so.
    """
    onnx = required("onnx")
    made = traceable(network)
    size = sum(value.numel() * value.element_size() for value in made.state_dict().values())
    if size >= LARGEST:
        raise ValueError(
            f"the weights take {size / 2**30:.1f} GiB, and an ONNX file holds less than 2; lower the widths"
        )
    image = torch.zeros(TRACED)
    answers = answers_of(made, image)
    free = {0: "batch", 2: "height", 3: "width"}
    axes = {name: free if value.ndim == 4 else {0: "batch"} for name, value in ({IMAGE: image} | answers).items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a trace warns of each size it looks at; `check_onnx` sees what came of it
        try:
            torch.onnx.export(
                Listed(made),
                (image,),
                os.fspath(path),
                input_names=[IMAGE],
                output_names=list(answers),
                dynamic_axes=axes,
                opset_version=opset,
                dynamo=False,  # the same answers as with `dynamo=True`, in a twentieth of the time
            )
        except Exception as error:  # operators and versions that ONNX lacks raise a dozen kinds
            raise ValueError(
                f"{type(network).__name__} cannot be written as ONNX, opset {opset}: {_short(error)}; "
                "give another --opset, or leave the outputs at pred"
            ) from error
    model = onnx.load(os.fspath(path))
    onnx.helper.set_model_props(model, {**metadata, "outputs": json.dumps(list(answers))})
    onnx.checker.check_model(model)
    onnx.save(model, os.fspath(path))
    return list(answers)


def check_onnx(
    network: nn.Module,
    path: str | os.PathLike[str],
    shapes: Sequence[Sequence[int]] = SHAPES,
    tolerance: float = TOLERANCE,
) -> float:
    """Hold an ONNX file against its network, by ONNX Runtime on the CPU and noise as images.

    Args:
        network: what the file shall answer like.
        path: the file.
        shapes: shapes (B, 3, H, W) of the images.
        tolerance: largest difference that is taken for rounding; of an output whose values go beyond 1, times the
            largest of them.

    Returns:
        The largest difference found, so measured.

    Raises:
        RuntimeError: without ONNX Runtime.
        ValueError: where the file does not answer, or otherwise.
    """
    runtime = required("onnxruntime")
    settings = runtime.SessionOptions()
    settings.log_severity_level = 4  # what fails is told here, in one sentence
    session = runtime.InferenceSession(os.fspath(path), settings, providers=["CPUExecutionProvider"])
    reference = copy.deepcopy(network).eval().to("cpu", torch.float32)
    noise = torch.Generator().manual_seed(0)
    names = [output.name for output in session.get_outputs()]
    worst = 0.0
    for shape in shapes:
        image = torch.randn(*shape, generator=noise)
        expected = answers_of(reference, image)
        if list(expected) != names:
            raise ValueError(f"{Path(path).name} has the outputs {names}, and the network {list(expected)}")
        place = "x".join(map(str, shape))
        try:
            found = session.run(None, {IMAGE: image.numpy()})
        except Exception as error:  # a class of ONNX Runtime's own
            raise ValueError(
                f"the ONNX file does not take images of {place}, so {type(network).__name__} has parts that keep the "
                f"size they were traced at; leave the outputs at pred ({_short(error)})"
            ) from error
        for (name, value), other in zip(expected.items(), found, strict=True):
            difference = _difference(value, torch.from_numpy(other))
            if not difference <= tolerance:  # NaN is no agreement
                raise ValueError(
                    f"the ONNX file answers {name} otherwise than {type(network).__name__} at {place}: they differ by "
                    f"{difference:.2g}, and {tolerance:g} is rounding"
                )
            worst = max(worst, difference)
    return worst


def _difference(expected: Tensor, found: Tensor) -> float:
    """Largest difference of two maps, as a share of the largest value where that is above 1."""
    if expected.shape != found.shape:
        return float("inf")
    return float((expected - found).abs().max() / expected.abs().max().clamp_min(1.0))


def _short(error: BaseException) -> str:
    return shorten(" ".join(str(error).split()), 160, placeholder=" ...")
