"""Checks of the inputs of metrics; errors include the file name of the image if it is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.handlers import from_engine
from monai.utils import convert_to_tensor
from numpy.typing import NDArray
from torch import Tensor

from bundle.types import IGNORE


def require_truth(y: Tensor | None) -> Tensor:
    """Return the label ``y``.

    Raises:
        ValueError: if it is ``None``.
    """
    if y is None:
        raise ValueError("this metric needs the label y")
    return y


def require_same_size(predicted: Tensor, truth: Tensor, where: str = "") -> None:
    """Check that prediction and label have the same shape.

    Args:
        predicted: (B, 1, H, W).
        truth: (B, 1, H, W).
        where: file name for errors, see :func:`in_file`; by default read from the tensors.

    Raises:
        ValueError: if the shapes differ.
    """
    if predicted.shape != truth.shape:
        where = where or in_file(truth, predicted)
        raise ValueError(
            f"y_pred {tuple(predicted.shape)} and y {tuple(truth.shape)} differ in shape{where}; "
            "resize the prediction to its label first, for example with Invertd"
        )


def foreground_probability(value: Tensor, classes: int = 2) -> Tensor:
    """Return the probability of each foreground class (B, classes - 1, H, W), a float tensor without metadata.

    Raises:
        ValueError: if the shape or type is wrong, or a value is outside [0, 1].
    """
    _require_planes(value, "y_pred", classes - 1)
    plain: Tensor = convert_to_tensor(value, track_meta=False)
    if not plain.is_floating_point() or not bool(((plain >= 0) & (plain <= 1)).all()):
        raise ValueError(
            f"y_pred is not a probability in [0, 1]{in_file(value)}; give the softmax of the foreground, "
            "not logits or class indices"
        )
    return plain


def foreground_mask(value: Tensor, classes: int = 2) -> Tensor:
    """Return the mask of each foreground class (B, classes - 1, H, W), bool, for class indices (B, 1, H, W).

    Pixels with ``IGNORE`` are false in all masks; see :func:`known_pixels`.

    Raises:
        ValueError: if the shape is wrong, or a value is not a class index.
    """
    _require_planes(value, "y")
    plain: Tensor = convert_to_tensor(value, track_meta=False)
    indices = torch.arange(classes, device=plain.device)
    if not bool((torch.isin(plain.float(), indices.float()) | (plain == IGNORE)).all()):
        expected = ", ".join(map(str, range(classes - 1))) + f" and {classes - 1}"
        raise ValueError(f"y has values other than the class indices {expected}{in_file(value)}")
    return plain == indices[1:, None, None]


def known_pixels(truth: Tensor, where: str = "") -> Tensor:
    """Return the mask of pixels that are not ``IGNORE`` (B, 1, H, W), bool.

    Args:
        truth: class indices (B, 1, H, W).
        where: file name for errors, see :func:`in_file`; by default read from the tensor.

    Raises:
        ValueError: if an image has ``IGNORE`` but no foreground. It is most likely a mask of 0 and 255 that was not
            converted to class indices; all its glands would be ignored.
    """
    plain: Tensor = convert_to_tensor(truth, track_meta=False)
    known = plain != IGNORE
    foreground = known & (plain > 0)
    if bool((~known.flatten(1).all(1) & ~foreground.flatten(1).any(1)).any()):
        raise ValueError(
            f"y has the value {IGNORE} (ignored pixels) but no foreground{where or in_file(truth)}; "
            "convert masks to class indices first (ForegroundClassd), and leave out images without a known object"
        )
    return known


def known_from_engine(keys: Sequence[str]) -> Callable[[Any], tuple[list[Tensor], list[Tensor]]]:
    """Return an output transform for metrics of foreground classes that do not support ``IGNORE``, such as MONAI's.

    Where the label is ``IGNORE``, prediction and label become background, which affects no foreground class.

    Args:
        keys: keys of the prediction, class indices (1, H, W), and of its label in the output of the engine.
    """
    pairs_of = from_engine(list(keys))

    def known(output: Any) -> tuple[list[Tensor], list[Tensor]]:
        pairs = [(predicted, truth, truth == IGNORE) for predicted, truth in zip(*pairs_of(output), strict=True)]
        return (
            [predicted.masked_fill(unknown, 0) for predicted, _, unknown in pairs],
            [truth.masked_fill(unknown, 0) for _, truth, unknown in pairs],
        )

    return known


def label_maps(value: Tensor, name: str) -> NDArray[np.int64]:
    """Return label maps (B, H, W): 0 is background, each other number an object.

    Raises:
        ValueError: if the shape is wrong, or a value is not an integer of at least 0. Values below 0 mark unknown
            pixels, so that not every object is known.
    """
    _require_planes(value, name)
    plain: Tensor = convert_to_tensor(value, track_meta=False)
    if bool((plain < 0).any()):
        raise ValueError(
            f"{name} has values below 0 (unknown pixels){in_file(value)}; object scores need every object of an "
            "image, so leave out this image or these scores"
        )
    integers = plain.long()
    if not bool(((integers == plain) & (integers >= 0)).all()):
        raise ValueError(
            f"{name} is not a label map{in_file(value)}; use 0 for background and positive integers for objects"
        )
    return integers[:, 0].cpu().numpy()


def in_file(*values: Tensor) -> str:
    """Return `` in FILE`` for the first tensor whose metadata has a file name, otherwise an empty text."""
    for value in values:
        meta = getattr(value, "meta", None)
        name: Any = meta.get("filename_or_obj") if isinstance(meta, Mapping) else None
        if isinstance(name, list | tuple) and len(name) == 1:
            name = name[0]
        if isinstance(name, str) and name:
            return f" in {name}"
    return ""


def _require_planes(value: Tensor, name: str, planes: int = 1) -> None:
    if value.ndim != 4 or value.shape[1] != planes:
        raise ValueError(f"{name} has the shape {tuple(value.shape)}{in_file(value)}; it must be (B, {planes}, H, W)")


def require_counted(buffer: Any) -> Tensor:
    """Return the buffer of a metric.

    Raises:
        ValueError: if no image was added.
    """
    if not isinstance(buffer, torch.Tensor):
        raise ValueError("no image was added to the metric")
    return buffer
