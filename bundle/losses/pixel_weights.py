"""Functions shared by the class losses: pixel weights, and hard or soft targets as probabilities."""

from __future__ import annotations

import torch
from monai.networks import one_hot
from torch import Tensor

from bundle.types import IGNORE


def is_hard(target: Tensor) -> bool:
    """Return whether a target holds class indices (B, 1, H, W), not class probabilities (B, C, H, W), C >= 2."""
    return target.shape[1] == 1


def pixel_weights(prediction: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
    """Return the weight of each pixel (B, 1, H, W), float32; 0 where a hard target is ``IGNORE``.

    Args:
        prediction: logits (B, C, H, W), C >= 2.
        target: class indices (B, 1, H, W) of an integer type, or class probabilities (B, C, H, W).
        weight: (B, 1, H, W), 0 or more; ``None`` weights all pixels equally.

    Raises:
        ValueError: if the shapes do not match (nothing is broadcast), or class indices are not integers.
    """
    expected = (prediction.shape[0], 1, *prediction.shape[2:])
    if prediction.ndim != 4 or prediction.shape[1] < 2:
        raise ValueError(
            f"the prediction must be (B, C, H, W) with at least two classes, got {tuple(prediction.shape)}"
        )
    if target.shape not in (expected, prediction.shape):
        raise ValueError(f"target {tuple(target.shape)} and prediction {tuple(prediction.shape)} differ in shape")
    if is_hard(target) and target.is_floating_point():
        raise ValueError(f"class indices must be integers, got a target of {target.dtype}")
    if weight is not None and weight.shape != expected:
        raise ValueError(f"weight {tuple(weight.shape)} and prediction {tuple(prediction.shape)} differ in shape")
    known = (target != IGNORE).float() if is_hard(target) else target.new_ones(expected, dtype=torch.float32)
    return known if weight is None else known * weight.float()


def as_probabilities(target: Tensor, classes: int) -> Tensor:
    """Convert a target to class probabilities (B, C, H, W), float32; undefined where it is ``IGNORE``."""
    if not is_hard(target):
        return target.float()
    return one_hot(target.masked_fill(target == IGNORE, 0), num_classes=classes)


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean of one value per pixel; 0, with gradient 0, if all weights are 0."""
    return (values * weights).sum() / weights.sum().clamp_min(torch.finfo(torch.float32).tiny)
