"""Loss of uncertainty rectified pyramid consistency, compared with values computed by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from bundle.losses import RectifiedSquaredError


def logits(*foreground: float) -> Tensor:
    """Return logits (1, 2, 1, W) for foreground probabilities."""
    chances = torch.tensor(foreground)
    return torch.stack([1.0 - chances, chances]).log()[None, :, None]


def target(*foreground: float) -> Tensor:
    """Return probabilities (1, 2, 1, W)."""
    return logits(*foreground).exp()


def divergence(p: float, t: float) -> float:
    """Return KL(p, t) of two classes, in nats."""
    return p * math.log(p / t) + (1 - p) * math.log((1 - p) / (1 - t))


def test_by_hand() -> None:
    """Predictions 0.8, 0.5 and 0.3; the mean is 0.6, 0.5 and 0.7."""
    loss = RectifiedSquaredError()(logits(0.8, 0.5, 0.3), target(0.6, 0.5, 0.7)).item()
    v = [divergence(0.8, 0.6), 0.0, divergence(0.3, 0.7)]
    squared = [0.2**2, 0.0, 0.4**2]  # both classes have the same error
    trust = [math.exp(-item) for item in v]
    rectified = sum(w * e for w, e in zip(trust, squared, strict=True)) / sum(trust)
    assert loss == pytest.approx(rectified + sum(v) / 3, rel=1e-5)


def test_the_divergence_is_that_of_the_prediction_from_the_mean() -> None:
    """KL is not symmetric: of 0.9 from 0.5 it is 0.368, of 0.5 from 0.9 it is 0.511."""
    loss = RectifiedSquaredError()(logits(0.9), target(0.5)).item()
    assert loss == pytest.approx(0.4**2 + 0.36806, abs=1e-4)


def test_pixels_with_a_large_divergence_have_less_weight() -> None:
    """An unweighted mean of squares and divergences would be larger."""
    prediction, mean = logits(0.99, 0.5), target(0.4, 0.4)
    plain = (0.59**2 + 0.1**2) / 2 + (divergence(0.99, 0.4) + divergence(0.5, 0.4)) / 2
    assert RectifiedSquaredError()(prediction, mean).item() < plain - 0.01


def test_the_loss_is_zero_for_equal_maps() -> None:
    assert RectifiedSquaredError()(logits(0.2, 0.9), target(0.2, 0.9)).item() == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("through_divergence", [True, False])
def test_the_divergence_has_a_gradient(through_divergence: bool) -> None:
    """Compared with autograd of the equation, and different if v is detached."""
    prediction = torch.randn(2, 3, 4, 4, requires_grad=True)
    mean = torch.randn(2, 3, 4, 4).softmax(dim=1)
    (gradient,) = torch.autograd.grad(RectifiedSquaredError()(prediction, mean), prediction)
    p = prediction.softmax(dim=1)
    v = (p * (p / mean).log()).sum(dim=1, keepdim=True)
    v = v if through_divergence else v.detach()
    squared = ((p - mean) ** 2).mean(dim=1, keepdim=True)
    loss = (torch.exp(-v) * squared).sum() / torch.exp(-v).sum() + v.mean()
    (expected,) = torch.autograd.grad(loss, prediction)
    assert torch.allclose(gradient, expected, atol=1e-6) == through_divergence


def test_pixels_with_weight_0_are_ignored() -> None:
    prediction = logits(0.8, 0.3, 0.1).requires_grad_()
    mean, weight = target(0.6, 0.7, 0.9), torch.tensor([[[[1.0, 1.0, 0.0]]]])
    loss = RectifiedSquaredError()(prediction, mean, weight)
    loss.backward()
    expected = RectifiedSquaredError()(logits(0.8, 0.3), target(0.6, 0.7)).item()
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    assert not prediction.grad[..., 2].any()
    nothing = RectifiedSquaredError()(prediction, mean, 0.0 * weight)
    assert nothing.item() == 0.0
    assert nothing.requires_grad


def test_probabilities_of_0_and_1_stay_finite() -> None:
    prediction = torch.tensor([[[[300.0]], [[-300.0]]]], requires_grad=True)
    for mean in ([1.0, 0.0], [0.0, 1.0], [0.5, 0.5]):
        loss = RectifiedSquaredError()(prediction, torch.tensor(mean).view(1, 2, 1, 1))
        loss.backward()
        assert loss.isfinite()
        assert prediction.grad is not None
        assert prediction.grad.isfinite().all()


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        RectifiedSquaredError()(torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 4, 2))
