"""What metrics are given, checked: shapes and values, with the name of the image where it is known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from monai.utils import convert_to_tensor
from numpy.typing import NDArray
from torch import Tensor


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


def foreground_probability(value: Tensor) -> Tensor:
    """Give the probability of foreground (B, 1, H, W), of a floating type and without metadata.

    Raises:
        ValueError: for another shape, another type or values outside [0, 1].
    """
    _require_planes(value, "y_pred")
    plain: Tensor = convert_to_tensor(value, track_meta=False)
    if not plain.is_floating_point() or not bool(((plain >= 0) & (plain <= 1)).all()):
        raise ValueError(
            f"y_pred is no probability in [0, 1]{of_image(value)}; give the softmax of the foreground, "
            "not logits or class indices"
        )
    return plain


def foreground_mask(value: Tensor) -> Tensor:
    """Give the true foreground (B, 1, H, W), bool, of class indices.

    Raises:
        ValueError: for another shape, or values other than 0 and 1.
    """
    _require_planes(value, "y")
    plain: Tensor = convert_to_tensor(value, track_meta=False)
    if not bool(((plain == 0) | (plain == 1)).all()):
        raise ValueError(f"y holds values other than the class indices 0 and 1{of_image(value)}")
    return plain == 1


def label_maps(value: Tensor, name: str) -> NDArray[np.int64]:
    """Give label maps (B, H, W): 0 is background, each other number an object.

    Raises:
        ValueError: for another shape, or values that are no whole numbers from 0 on.
    """
    _require_planes(value, name)
    plain: Tensor = convert_to_tensor(value, track_meta=False)
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


def _require_planes(value: Tensor, name: str) -> None:
    if value.ndim != 4 or value.shape[1] != 1:
        raise ValueError(f"{name} has the shape {tuple(value.shape)}{of_image(value)}; it must be (B, 1, H, W)")


def require_counted(buffer: Any) -> Tensor:
    """Give what a metric has gathered.

    Raises:
        ValueError: before the first image.
    """
    if not isinstance(buffer, torch.Tensor):
        raise ValueError("no image was counted")
    return buffer
