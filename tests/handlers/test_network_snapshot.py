"""Frozen copy of a network: its updates, and that it does not change otherwise."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from ignite.engine import Engine, Events
from torch import nn

from bundle.handlers import GrowingSnapshot


def renewals(snapshot: GrowingSnapshot, epochs: int = 40) -> list[int]:
    return [epoch for epoch in range(1, epochs + 1) if snapshot.is_due(epoch)]


def train(network: nn.BatchNorm1d, snapshot: GrowingSnapshot, epochs: int, start: int = 0) -> list[float]:
    """Train a network whose weight and running mean are the epoch; return the values of the copy in each epoch."""
    recorded: list[float] = []

    def step(engine: Engine, batch: int) -> None:
        nn.init.constant_(network.weight, engine.state.epoch)
        network.running_mean.fill_(engine.state.epoch)  # type: ignore[union-attr]

    engine = Engine(step)
    snapshot.attach(engine)

    @engine.on(Events.ITERATION_STARTED)
    def look() -> None:
        assert torch.equal(snapshot.network.weight, snapshot.network.running_mean)
        recorded.append(snapshot.network.weight.item())  # type: ignore[operator, union-attr]

    engine.load_state_dict({"epoch": start, "epoch_length": 1, "max_epochs": epochs})
    engine.run([0], max_epochs=epochs)
    return recorded


@pytest.mark.parametrize(
    ("interval", "growth", "expected"),
    [
        (1.0, 2.0, [1, 3, 7, 15, 31]),
        (1.0, 1.5, [1, 3, 5, 9, 14, 21, 33]),  # 1, 2.5, 4.75, 8.125, 13.19, 20.78, 32.17
        (2.0, 3.0, [2, 8, 26]),
        (5.0, 1.0, [5, 10, 15, 20, 25, 30, 35, 40]),
    ],
)
def test_it_is_renewed_at_growing_intervals(interval: float, growth: float, expected: list[int]) -> None:
    assert renewals(GrowingSnapshot(nn.Linear(1, 1), interval, growth)) == expected


def test_intervals_never_shrink() -> None:
    times = renewals(GrowingSnapshot(nn.Linear(1, 1), 1.0, 1.5), 400)
    intervals = [after - before for before, after in pairwise(times)]
    assert intervals == sorted(intervals)
    assert intervals[-1] > 20 * intervals[0]


def test_it_stays_what_it_was_between_renewals() -> None:
    """Updated at the end of epochs 1, 3 and 7; before that it is the network at the start of training."""
    network = nn.BatchNorm1d(1)
    snapshot = GrowingSnapshot(network, 1.0, 2.0)
    nn.init.constant_(network.weight, 9.0)  # weights loaded after it was made
    network.running_mean.fill_(9.0)  # type: ignore[union-attr]
    assert train(network, snapshot, 9) == [9, 1, 1, 3, 3, 3, 3, 7, 7]


def test_it_goes_on_from_a_resume_file() -> None:
    """A training stopped after epoch 5 continues with the copy of epoch 3, and updates it after epoch 7."""
    network = nn.BatchNorm1d(1)
    network.running_mean.fill_(1.0)  # type: ignore[union-attr]
    whole = train(network, GrowingSnapshot(network, 1.0, 2.0), 9)
    first = GrowingSnapshot(network, 1.0, 2.0)
    train(network, first, 5)
    saved = {name: value.clone() for name, value in first.state_dict()["network"].items()}
    second = GrowingSnapshot(network, 1.0, 2.0)
    second.load_state_dict({"network": saved})
    assert train(network, second, 9, start=5) == whole[5:]
    with pytest.raises(RuntimeError):
        second.load_state_dict({"network": nn.Linear(1, 1).state_dict()})


def test_it_has_no_gradient_and_does_not_move_with_its_batches() -> None:
    network = nn.BatchNorm1d(1)
    copied = GrowingSnapshot(network).network
    assert not copied.training
    assert network.training
    assert not any(parameter.requires_grad for parameter in copied.parameters())
    assert all(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("wrong", [{"interval": 0.0}, {"interval": float("inf")}, {"growth": 0.9}])
def test_intervals_that_mean_nothing_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        GrowingSnapshot(nn.Linear(1, 1), **wrong)
