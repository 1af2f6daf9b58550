"""Objectives against numbers of the authors' code and worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor

from bundle.semi_supervision import AdaptiveObjective, ConstantRamp, LinearRamp, WeightedSum

TASKS = {"seg": ["seg", "fused_seg"], "sdf": ["sdf", "fused_sdf"], "boundary": ["boundary", "fused_boundary"]}


def numbers(**values: float) -> dict[str, Tensor]:
    """Parts of a loss."""
    return {name.replace("__", "/"): torch.tensor(value) for name, value in values.items()}


def adaptive(ramp: float = 1.0, gamma: float = 0.4) -> AdaptiveObjective:
    """The objective as configs/train.json makes it, with a constant ramp."""
    return AdaptiveObjective(TASKS, ConstantRamp(ramp), gamma, {"sdf": 0.5})


def test_adaptive_loss_of_the_authors(reference: Mapping[str, np.ndarray]) -> None:
    """Rows s1 s2 s3 l1 l2 l3 value, in the order seg, sdf, boundary."""
    assert len(reference["adaptive"]) > 0
    for row in reference["adaptive"].tolist():
        objective = adaptive()
        for task, s in zip(TASKS, row[:3], strict=True):
            objective.s[task].data.fill_(s)
        total, _ = objective(numbers(**dict(zip(TASKS, row[3:6], strict=True))), {}, 0.0)
        assert total.item() == pytest.approx(row[6], rel=1e-6)


@pytest.mark.parametrize("gamma", [0.4, 0.8])
def test_minimized_over_s_it_is_twice_the_root(gamma: float) -> None:
    """Each s at its optimum exp(s) = sqrt(c l / gamma): value 2 sqrt(gamma c l) a task, gradient 0."""
    objective = adaptive(gamma=gamma)
    losses = {"seg": 0.8, "sdf": 0.3, "boundary": 0.05}
    factors = {"seg": 1.0, "sdf": 0.5, "boundary": 1.0}
    for task, loss in losses.items():
        objective.s[task].data.fill_(math.log(factors[task] * loss / gamma) / 2)
    total, _ = objective(numbers(**losses), {}, 0.0)
    total.backward()
    assert total.item() == pytest.approx(sum(2 * math.sqrt(gamma * factors[task] * losses[task]) for task in losses))
    for s in objective.s.values():
        assert s.grad.item() == pytest.approx(0.0, abs=1e-6)


def test_heads_of_a_task_are_added_and_the_ramp_weighs_the_unlabeled_parts() -> None:
    """With s = 1 a task's loss l gives l c / e + 0.4 e."""
    objective = AdaptiveObjective(TASKS, LinearRamp(maximum=5.0), 0.4, {"sdf": 0.5}, initial=1.0)
    labeled = numbers(seg=0.5, fused_seg=0.25, sdf=0.5)
    unlabeled = numbers(gates__seg=0.125, other__seg=0.5, gates__boundary=1.0)
    total, log = objective(labeled, unlabeled, 0.5)
    of_labeled = (0.75 + 0.5 * 0.5) / math.e + 2 * 0.4 * math.e
    of_unlabeled = (0.625 + 1.0) / math.e + 2 * 0.4 * math.e
    assert total.item() == pytest.approx(of_labeled + 2.5 * of_unlabeled)
    assert total.ndim == 0
    assert {name: value.item() for name, value in log.items()} == pytest.approx(
        {"weight/seg": 1 / math.e, "weight/sdf": 1 / math.e, "weight/boundary": 1 / math.e, "ramp/unlabeled": 2.5}
    )
    assert not any(value.requires_grad for value in log.values())


def test_without_unlabeled_parts_the_ramp_adds_nothing() -> None:
    """Not even gamma exp(s)."""
    labeled = numbers(seg=0.5)
    assert adaptive(ramp=5.0)(labeled, {}, 1.0)[0].item() == adaptive(ramp=0.0)(labeled, {}, 1.0)[0].item()


def test_s_is_one_set_for_both_streams_and_learns() -> None:
    objective = adaptive(ramp=2.0)
    assert len(list(objective.parameters())) == 3
    total, _ = objective(numbers(seg=0.5), numbers(gates__seg=0.3), 1.0)
    total.backward()
    # d/ds (exp(-s) l + gamma exp(s)) at s = 1, labeled once and unlabeled twice
    expected = -(0.5 + 2 * 0.3) / math.e + 3 * 0.4 * math.e
    assert objective.s["seg"].grad.item() == pytest.approx(expected)
    assert objective.s["sdf"].grad is None


@pytest.mark.parametrize("part", ["peer", "gates/peer"])
def test_a_part_without_task_is_refused(part: str) -> None:
    objective = adaptive()
    stray = {part: torch.tensor(1.0)}
    with pytest.raises(ValueError, match=f"the loss '{part}' belongs to no task of the objective"):
        objective(numbers(seg=1.0) | stray, {}, 0.0)
    with pytest.raises(ValueError, match=f"the loss '{part}' belongs to no task of the objective"):
        objective(numbers(seg=1.0), stray, 0.0)


def test_weighted_sum() -> None:
    parts = numbers(seg=0.5, sdf=0.25), numbers(gates__seg=2.0, gates__boundary=4.0)
    assert WeightedSum()(*parts, 0.3)[0].item() == pytest.approx(6.75)
    total, log = WeightedSum({"seg": 0.1, "boundary": 3.0})(*parts, 0.3)
    assert total.item() == pytest.approx(0.1 * 2.5 + 0.25 + 3.0 * 4.0)
    assert log == {}
    assert total.ndim == 0


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ({"gates/seg": 3.0}, 1.0 + 3.0 * 10.0 + 100.0),
        ({"seg": 2.0}, 2.0 * 111.0),
        ({"seg": 2.0, "gates/seg": 3.0, "other/seg": 0.0}, 2.0 * 1.0 + 3.0 * 10.0),
    ],
)
def test_the_name_of_a_part_wins_over_that_of_its_head(weights: dict[str, float], expected: float) -> None:
    parts = numbers(seg=1.0), numbers(gates__seg=10.0, other__seg=100.0)
    assert WeightedSum(weights)(*parts, 0.0)[0].item() == pytest.approx(expected)
