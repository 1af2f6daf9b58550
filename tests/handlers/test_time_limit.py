"""Time limit of a training: it ends after the step, and the epoch is completed with its validation."""

from __future__ import annotations

from typing import Any

import pytest
from ignite.engine import Engine, Events

import bundle.handlers.time_limit as module
from bundle.handlers import TimeLimit


@pytest.mark.parametrize(("seconds", "steps", "epochs"), [(0.5, 1, 1), (6.0, 6, 2), (8.0, 8, 2), (99.0, 12, 3)])
def test_the_epoch_of_the_limit_is_the_last_one(
    monkeypatch: pytest.MonkeyPatch, seconds: float, steps: int, epochs: int
) -> None:
    clock = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])

    def step(engine: Engine, batch: Any) -> None:
        clock[0] += 1.0

    trainer, completed = Engine(step), []
    TimeLimit(seconds).attach(trainer)
    last = Events.EPOCH_COMPLETED(event_filter=lambda engine, epoch: epoch == engine.state.max_epochs)
    trainer.add_event_handler(last, lambda: completed.append("last epoch"))  # as LastValidation does
    trainer.add_event_handler(Events.COMPLETED, lambda: completed.append("training"))
    trainer.run(range(4), max_epochs=3)
    assert clock[0] - 100.0 == steps
    assert trainer.state.epoch == epochs
    assert completed == ["last epoch", "training"]


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_a_limit_of_no_time_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="must be above 0"):
        TimeLimit(seconds)
