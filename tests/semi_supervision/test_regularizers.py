"""Terms without a target, worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from bundle.semi_supervision import (
    BalanceRegularizer,
    ConstantRamp,
    CrossTaskRegularizer,
    EntropyRegularizer,
    Regularizer,
)


def entropy(logits: Tensor) -> Tensor:
    """The term for a head named `seg`."""
    return EntropyRegularizer("seg", ConstantRamp())({"seg": logits}, 0.5)


def balance(weights: list[list[float]]) -> float:
    """The term for gate weights, one row an image."""
    return BalanceRegularizer("gate_seg", ConstantRamp())({"gate_seg": torch.tensor(weights)}, 0.5).item()


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_entropy_is_one_without_a_clue_and_zero_when_sure(classes: int) -> None:
    assert entropy(torch.zeros(1, classes, 2, 2)).item() == pytest.approx(1.0)
    sure = torch.zeros(1, classes, 2, 2)
    sure[:, 1] = 200.0  # softmax gives exact zeros, whose 0 log 0 must not be NaN
    assert entropy(sure).item() == pytest.approx(0.0, abs=1e-6)


def test_entropy_by_hand() -> None:
    """Pixels with probabilities (3/4, 1/4) and (1/2, 1/2)."""
    logits = torch.tensor([[[[math.log(3.0), 0.0]], [[0.0, 0.0]]]])
    first = -(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25))
    assert entropy(logits).item() == pytest.approx((first + 1.0) / 2)


def test_entropy_pushes_away_from_the_undecided() -> None:
    logits = torch.tensor([[[[0.3, -0.3]], [[0.0, 0.0]]]], requires_grad=True)
    entropy(logits).backward()
    assert logits.grad is not None
    # downhill: the leading class rises
    assert logits.grad[0, 0, 0, 0] < 0 < logits.grad[0, 0, 0, 1]


def test_entropy_of_a_sure_head_has_a_finite_gradient() -> None:
    logits = torch.tensor([[[[200.0]], [[0.0]]]], requires_grad=True)
    entropy(logits).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ([[1 / 3, 1 / 3, 1 / 3], [1 / 3, 1 / 3, 1 / 3]], 0.0),
        # each image takes one expert, the batch all alike: that is no collapse
        ([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], 0.0),
        ([[0.0, 1.0, 0.0], [0.0, 1.0, 0.0]], math.log(3)),
        ([[1.0, 0.0], [0.5, 0.5]], math.log(2) + 0.75 * math.log(0.75) + 0.25 * math.log(0.25)),
    ],
)
def test_balance_by_hand(weights: list[list[float]], expected: float) -> None:
    assert balance(weights) == pytest.approx(expected, abs=1e-6)


def test_balance_of_a_collapsed_gate_has_a_finite_gradient() -> None:
    logits = torch.tensor([[200.0, 0.0, 0.0]], requires_grad=True)
    BalanceRegularizer("gate_seg", ConstantRamp())({"gate_seg": logits.softmax(dim=1)}, 0.0).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_balance_moves_the_gate_to_the_neglected() -> None:
    logits = torch.tensor([[2.0, 0.0, 0.0], [1.0, 0.0, 0.5]], requires_grad=True)
    BalanceRegularizer("gate_seg", ConstantRamp())({"gate_seg": logits.softmax(dim=1)}, 0.0).backward()
    assert logits.grad is not None
    assert (logits.grad[:, 0] > 0).all()
    assert (logits.grad[:, 1] < 0).all()


def test_a_regularizer_that_says_nothing_is_refused() -> None:
    with pytest.raises(TypeError, match="Regularizer does not implement forward"):
        Regularizer(ConstantRamp())({}, 0.0)


def cross_task(seg: Tensor, sdf: Tensor, steepness: float = 20.0) -> Tensor:
    return CrossTaskRegularizer(ConstantRamp(), steepness)({"seg": seg, "sdf": sdf}, 0.5)


def test_cross_task_by_hand() -> None:
    """Foreground with probability 3/4, in two classes, against sigmoid(20 tanh(0)) = 1/2 and about 1."""
    seg = torch.tensor([0.25, 0.5, 0.25]).log().reshape(1, 3, 1, 1).expand(1, 3, 1, 2)
    assert cross_task(seg, torch.tensor([[[[0.0, 9.0]]]])).item() == pytest.approx(0.25**2, abs=1e-6)


def test_cross_task_is_zero_if_both_tasks_agree_and_one_if_they_contradict_each_other() -> None:
    seg = torch.tensor([[[[99.0, 0.0]], [[0.0, 99.0]]]])
    sdf = torch.tensor([[[[-9.0, 9.0]]]])
    assert cross_task(seg, sdf).item() == pytest.approx(0.0, abs=1e-6)
    assert cross_task(seg, -sdf).item() == pytest.approx(1.0, abs=1e-6)


def test_cross_task_pulls_both_heads_together() -> None:
    seg = torch.zeros(1, 2, 1, 1, requires_grad=True)
    sdf = torch.full((1, 1, 1, 1), 0.05, requires_grad=True)
    cross_task(seg, sdf).backward()
    assert seg.grad is not None
    assert sdf.grad is not None
    assert seg.grad[0, 1] < 0 < sdf.grad.squeeze()  # downhill: more foreground, a smaller distance


def test_a_steepness_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="steepness of a cross-task consistency must be above 0, got 0"):
        CrossTaskRegularizer(ConstantRamp(), 0.0)
