"""Signed-distance loss, compared with values computed by hand."""

from __future__ import annotations

import math

import pytest
import torch

from bundle.losses import SignedDistanceLoss
from bundle.types import IGNORE

PREDICTION = torch.tensor([0.0, math.atanh(0.5), 100.0, -100.0]).reshape(1, 1, 2, 2)
TARGET = torch.tensor([0.5, 0.5, 1.0, 1.0]).reshape(1, 1, 2, 2)


def test_mean_by_hand() -> None:
    """Errors 0.5, 0, 0, 2: squares 0.25, 0, 0, 4."""
    assert SignedDistanceLoss()(PREDICTION, TARGET).item() == pytest.approx(4.25 / 4)


def test_weighted_mean_by_hand() -> None:
    """Only pixels with a weight are averaged; without any, the loss is 0 with a finite gradient."""
    weight = torch.tensor([1.0, 0.5, 0.0, 0.5]).reshape(1, 1, 2, 2)
    assert SignedDistanceLoss()(PREDICTION, TARGET, weight).item() == pytest.approx(2.25 / 2)
    assert SignedDistanceLoss()(PREDICTION, TARGET, torch.ones_like(weight)).item() == pytest.approx(4.25 / 4)
    prediction = PREDICTION.clone().requires_grad_()
    value = SignedDistanceLoss()(prediction, TARGET, torch.zeros_like(weight))
    value.backward()
    assert value.item() == 0
    assert prediction.grad is not None
    assert not prediction.grad.any()


def test_unknown_distances_are_ignored() -> None:
    """An unknown pixel has no effect on the errors 0.5 and 0, and no gradient, with or without weights."""
    target = torch.tensor([0.5, 0.5, IGNORE, IGNORE]).reshape(1, 1, 2, 2)
    prediction = PREDICTION.clamp(-1.0, 1.0).requires_grad_()
    for weight, expected in ((None, 0.25 / 2), (torch.tensor([1.0, 3.0, 9.0, 0.0]).reshape(1, 1, 2, 2), 0.25 / 4)):
        value = SignedDistanceLoss()(prediction, target, weight)
        assert value.item() == pytest.approx(expected)
        (gradient,) = torch.autograd.grad(value, prediction)
        assert gradient[..., 0, 0].all()
        assert not gradient[..., 1, :].any()


def test_an_image_without_known_pixels_is_0_with_gradient_0() -> None:
    prediction = PREDICTION.clone().requires_grad_()
    value = SignedDistanceLoss()(prediction, torch.full_like(TARGET, IGNORE))
    value.backward()
    assert value.item() == 0
    assert prediction.grad is not None
    assert not prediction.grad.any()


def test_shapes_never_broadcast() -> None:
    """The shapes of the authors' code, (B, 1, H, W) against (B, H, W), are refused."""
    with pytest.raises(ValueError, match="shape"):
        SignedDistanceLoss()(torch.zeros(2, 1, 4, 4), torch.zeros(2, 4, 4))
    with pytest.raises(ValueError, match="weight"):
        SignedDistanceLoss()(torch.zeros(2, 1, 4, 4), torch.zeros(2, 1, 4, 4), torch.ones(2, 1, 1, 1))


def test_half_precision_is_computed_in_float32() -> None:
    """Under autocast and for half inputs the loss is float32, and a large sum does not overflow."""
    prediction = torch.full((2, 1, 256, 256), -8.0, dtype=torch.float16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = SignedDistanceLoss()(prediction, torch.ones(2, 1, 256, 256), torch.ones(2, 1, 256, 256))
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(4.0, rel=1e-5)
