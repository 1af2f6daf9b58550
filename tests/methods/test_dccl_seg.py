"""DCCL-Seg: tasks and models agree, and the assistant head alone learns the pseudo-labels of the teacher."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn


def reached(setup: Any, losses: list[str]) -> dict[str, bool]:
    """Return for each head whether the given parts of the unlabeled loss have a gradient with respect to it."""
    for name in set(setup.step.consistency) - set(losses):
        del setup.step.consistency[name]
    for name in set(setup.step.regularizers) - set(losses):
        del setup.step.regularizers[name]
    setup.open_up()
    setup.only_taught()
    labeled, unlabeled = setup.batches()
    setup.step.train()(labeled, unlabeled, 0.5)["loss"].backward()
    heads: dict[str, nn.Module] = {"seg": setup.network.head, **dict(setup.network.extra_heads.items())}
    return {name: head.weight.grad is not None and bool(head.weight.grad.any()) for name, head in heads.items()}


@pytest.mark.parametrize(
    ("part", "expected"),
    [("models", {"seg", "sdf"}), ("assistant", {"assistant", "embedding"}), ("tasks", {"seg", "sdf"})],
)
def test_each_part_teaches_its_own_heads(part: str, expected: set[str], method: Callable[..., Any]) -> None:
    """Hard pseudo-labels never reach the weights of the head that is evaluated."""
    setup = method("dccl_seg")
    if part == "tasks":  # the objective of the test leaves out losses without a label, so keep one term that is zero
        setup.step.consistency["models"].losses = {"seg": lambda prediction, target: prediction.sum() * 0.0}
        assert {name for name, result in reached(setup, ["tasks", "models"]).items() if result} == expected
        return
    assert {name for name, result in reached(setup, [part]).items() if result} == expected


def test_the_student_makes_one_pass_on_each_stream(method: Callable[..., Any]) -> None:
    """The regularizer and both consistency terms share a view."""
    setup = method("dccl_seg")
    shown: list[Tensor] = []
    original = setup.network.heads

    def heads(image: Tensor) -> dict[str, Tensor]:
        shown.append(image)
        return original(image)  # type: ignore[no-any-return]

    setup.network.heads = heads
    labeled, unlabeled = setup.batches()
    result = setup.step.train()(labeled, unlabeled, 0.5)
    assert len(shown) == 2
    assert not torch.equal(shown[1], unlabeled["image"])
    counted = result["counted/assistant/assistant"]
    assert 0.0 <= counted.item() <= 1.0
    assert torch.equal(counted, result["counted/assistant/embedding"])
