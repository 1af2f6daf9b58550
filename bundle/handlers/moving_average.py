"""Exponential moving average of a network: the teacher of Mean Teacher and related methods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from ignite.engine import Engine, Events
from ignite.handlers import EMAHandler
from torch import nn

from bundle.types import Ramp


class MovingAverage:
    """Exponential moving average of a network in training (Tarvainen, Valpola 2017, arXiv 1703.01780).

    After each optimizer step: average <- d average + (1 - d) network, with d = min(1 - 1 / (n + 1), decay) and n the
    number of updates so far. It starts as the arithmetic mean of the first networks, and the initial random weights
    have no influence. Ignite's ``EMAHandler`` does the computation; its momentum is 1 - d.

    It is a handler of the trainer and an item of the resume file.

    - Running statistics of batch normalization are averaged with the same d as the weights, because they describe the
      activations of those weights; integer buffers are copied.
    - With gradient accumulation there is one update per optimizer step, not per iteration, so that ``decay`` does not
      depend on the number of accumulated batches.
    - When the first epoch starts, the network is copied again, because weights may have been loaded since construction.
      A resumed training starts with a later epoch, and its average comes from the resume file.
    - Every rank keeps its own average. The weights are equal on all ranks; at the end of each epoch the statistics of
      rank 0 are copied to all ranks, as the trainer does for the network.

    Differs from the paper: its code uses the batch statistics, in training mode.

    Args:
        network: the network to average; bare, so that the average has the same keys.
        decay: maximal d, in [0, 1); or a ramp, progress in [0, 1] -> maximal d, for a trainer with ``progress``. With
            0 the average is the network of the last step.
        name: attribute of the trainer's state that holds 1 - d; two averages in one training need two names.

    Attributes:
        average: the averaged network, always in evaluation mode and without gradient.
        updates: number of updates so far.

    Raises:
        ValueError: if decay is not in [0, 1).

    Example::

        >>> network = nn.Linear(2, 1)
        >>> ema = MovingAverage(network, decay=0.99)
        >>> ema.average is network, ema.updates
        (False, 0)
    """

    def __init__(self, network: nn.Module, decay: float | Ramp = 0.99, name: str = "ema_momentum") -> None:
        if not callable(decay):
            check_decay(decay)
        self.decay = decay
        self.name = name
        self.updates = 0
        self._follower = EMAHandler(network, handle_buffers="update")
        self.network = self._follower.model
        self.average = self._follower.ema_model.requires_grad_(False)

    def attach(self, engine: Engine) -> None:
        """Update the average after each optimizer step of a trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED(once=1), self._begin)
        stepped = Events.ITERATION_COMPLETED(event_filter=self._has_stepped)
        engine.add_event_handler(stepped, self._set_momentum)
        self._follower.attach(engine, self.name, warn_if_exists=False, event=stepped)
        engine.add_event_handler(stepped, self._count)

    def state_dict(self) -> dict[str, Any]:
        """Return the average and the number of updates."""
        return {"average": self.average.state_dict(), "updates": self.updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a saved average.

        Raises:
            RuntimeError: if it belongs to another network.
        """
        self.average.load_state_dict(state["average"])
        self.updates = int(state["updates"])

    def _begin(self) -> None:
        """Copy the network at the start of training."""
        self.average.load_state_dict(self.network.state_dict())
        self.updates = 0

    @staticmethod
    def _has_stepped(engine: Any, iteration: int) -> bool:
        """Return whether this iteration ended with an optimizer step; the last one of an epoch always does."""
        number = (iteration - 1) % engine.state.epoch_length + 1
        return number % getattr(engine, "accumulation_steps", 1) == 0 or number == engine.state.epoch_length

    def _set_momentum(self, engine: Any) -> None:
        """Set the momentum of this update in the trainer's state, where Ignite's handler reads it."""
        decay = self.decay(engine.progress) if callable(self.decay) else self.decay
        check_decay(decay)
        setattr(engine.state, self.name, 1.0 - min(1.0 - 1.0 / (self.updates + 1), decay))

    def _count(self, engine: Engine) -> None:
        """Count the update; at the end of an epoch copy the statistics of rank 0, which saves the model."""
        self.updates += 1
        last = engine.state.iteration % (engine.state.epoch_length or 1) == 0
        if last and torch.distributed.is_available() and torch.distributed.is_initialized():
            for buffer in self.average.buffers():
                torch.distributed.broadcast(buffer, src=0)


def check_decay(decay: float) -> None:
    """Raise a ValueError if a decay is not in [0, 1)."""
    if not 0.0 <= decay < 1.0:
        raise ValueError(f"the decay of a moving average must be in [0, 1), got {decay}")
