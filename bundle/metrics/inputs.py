"""What metrics are given, checked: shapes and values, with the name of the image where it is known."""

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
    """Give the truth.

    Raises:
        ValueError: without truth.
    """
    if y is None:
        raise ValueError("this metric needs the truth y beside the prediction")
    return y


def require_same_size(predicted: Tensor, truth: Tensor, place: str = "") -> None:
    """Refuse a prediction that does not show the pixels of the truth.

    Args:
        predicted: (B, 1, H, W).
        truth: (B, 1, H, W).
        place: of which image they are, as :func:`of_image` says it; left out, it is asked.

    Raises:
        ValueError: for unequal shapes.
    """
    if predicted.shape != truth.shape:
        where = place or of_image(truth, predicted)
        raise ValueError(
            f"y_pred {tuple(predicted.shape)} and y {tuple(truth.shape)} differ in shape{where}; "
            "bring the prediction to the size of its label first, for example by Invertd"
        )


def foreground_probability(value: Tensor, classes: int = 2) -> Tensor:
    """Give the probability of each foreground class (B, classes - 1, H, W), of a floating type, without metadata.

    Raises:
        ValueError: for another shape, another type or values outside [0, 1].
    """
    _require_planes(value, "y_pred", classes - 1)
    plain: Tensor = convert_to_tensor(value, track_meta=False)
    if not plain.is_floating_point() or not bool(((plain >= 0) & (plain <= 1)).all()):
        raise ValueError(
            f"y_pred is no probability in [0, 1]{of_image(value)}; give the softmax of the foreground, "
            "not logits or class indices"
        )
    return plain


def foreground_mask(value: Tensor, classes: int = 2) -> Tensor:
    """Give where each foreground class truly is (B, classes - 1, H, W), bool, of class indices (B, 1, H, W).

    ``IGNORE`` is nowhere; see :func:`known_pixels`.

    Raises:
        ValueError: for another shape, or values that are no class indices.
    """
    _require_planes(value, "y")
    plain: Tensor = convert_to_tensor(value, track_meta=False)
    indices = torch.arange(classes, device=plain.device)
    if not bool((torch.isin(plain.float(), indices.float()) | (plain == IGNORE)).all()):
        named = ", ".join(map(str, range(classes - 1))) + f" and {classes - 1}"
        raise ValueError(f"y holds values other than the class indices {named}{of_image(value)}")
    return plain == indices[1:, None, None]


def known_pixels(truth: Tensor, place: str = "") -> Tensor:
    """Give where class indices are known (B, 1, H, W), bool: everywhere but at ``IGNORE``.

    Args:
        truth: class indices (B, 1, H, W).
        place: of which image they are, as :func:`of_image` says it; left out, it is asked.

    Raises:
        ValueError: for an image with ``IGNORE`` and without foreground. It is most likely a mask of 0 and 255, of which
            nobody made class indices, and would be scored as if all its glands were unknown.
    """
    plain: Tensor = convert_to_tensor(truth, track_meta=False)
    known = plain != IGNORE
    foreground = known & (plain > 0)
    if bool((~known.flatten(1).all(1) & ~foreground.flatten(1).any(1)).any()):
        raise ValueError(
            f"y holds {IGNORE}, which says that a pixel is unknown, and no foreground{place or of_image(truth)}; "
            "make class indices of a mask first (ForegroundClassd), and leave out images without a known object"
        )
    return known


def known_from_engine(keys: Sequence[str]) -> Callable[[Any], tuple[list[Tensor], list[Tensor]]]:
    """Make an output transform for metrics of foreground classes that know no ``IGNORE``, such as MONAI's.

    Where the truth is unknown both sides become background, which counts for no foreground class.

    Args:
        keys: of the prediction, class indices (1, H, W), and of its truth, in the output of the engine.
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
    """Give label maps (B, H, W): 0 is background, each other number an object.

    Raises:
        ValueError: for another shape, or values that are no whole numbers from 0 on. Below 0 a pixel is unknown: then
            nobody knows which objects there are.
    """
    _require_planes(value, name)
    plain: Tensor = convert_to_tensor(value, track_meta=False)
    if bool((plain < 0).any()):
        raise ValueError(
            f"{name} has values below 0, unknown pixels{of_image(value)}; scores of objects need every object of an "
            "image, so leave this image or these scores out"
        )
    whole = plain.long()
    if not bool(((whole == plain) & (whole >= 0)).all()):
        raise ValueError(f"{name} is no label map{of_image(value)}; write 0 for background and whole numbers above it")
    return whole[:, 0].cpu().numpy()


def of_image(*values: Tensor) -> str:
    """Say `` in FILE`` for a tensor with metadata that names one file; nothing where no one knows."""
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
        raise ValueError(f"{name} has the shape {tuple(value.shape)}{of_image(value)}; it must be (B, {planes}, H, W)")


def require_counted(buffer: Any) -> Tensor:
    """Give what a metric has gathered.

    Raises:
        ValueError: before the first image.
    """
    if not isinstance(buffer, torch.Tensor):
        raise ValueError("no image was counted")
    return buffer
