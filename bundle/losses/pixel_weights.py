"""What losses over classes share: which pixels count, and a target of either form as probabilities."""

from __future__ import annotations

import torch
from monai.networks import one_hot
from torch import Tensor

from bundle.types import IGNORE


def is_hard(target: Tensor) -> bool:
    """Whether a target holds class indices (B, 1, H, W); class probabilities have two channels or more."""
    return target.shape[1] == 1


def counts(prediction: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
    """How much each pixel counts, (B, 1, H, W), float32: its weight, and 0 where a hard target is ``IGNORE``.

    Args:
        prediction: logits (B, C, H, W), C >= 2.
        target: class indices (B, 1, H, W) of an integer type, or class probabilities (B, C, H, W).
        weight: (B, 1, H, W), 0 or more; ``None`` counts all alike.

    Raises:
        ValueError: where a shape is another (nothing is broadcast), or class indices are no integers.
    """
    pixels = (prediction.shape[0], 1, *prediction.shape[2:])
    if prediction.ndim != 4 or prediction.shape[1] < 2:
        raise ValueError(f"a prediction is (B, C, H, W) of two classes or more, got {tuple(prediction.shape)}")
    if target.shape not in (pixels, prediction.shape):
        raise ValueError(f"the target of a prediction {tuple(prediction.shape)} has the shape {tuple(target.shape)}")
    if is_hard(target) and target.is_floating_point():
        raise ValueError(f"class indices are integers, got a target (B, 1, H, W) of {target.dtype}")
    if weight is not None and weight.shape != pixels:
        raise ValueError(f"weight {tuple(weight.shape)} does not fit the prediction {tuple(prediction.shape)}")
    known = (target != IGNORE).float() if is_hard(target) else target.new_ones(pixels, dtype=torch.float32)
    return known if weight is None else known * weight.float()


def as_probabilities(target: Tensor, classes: int) -> Tensor:
    """A target of either form as class probabilities (B, C, H, W), float32; arbitrary where it is ``IGNORE``."""
    if not is_hard(target):
        return target.float()
    return one_hot(target.masked_fill(target == IGNORE, 0), num_classes=classes)


def mean_over(each: Tensor, counted: Tensor) -> Tensor:
    """Mean of one value a pixel, weighted by how much each counts; 0, with gradient 0, where nothing counts."""
    return (each * counted).sum() / counted.sum().clamp_min(torch.finfo(torch.float32).tiny)
