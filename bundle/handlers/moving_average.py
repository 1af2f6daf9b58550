"""The moving average of a network: the teacher that Mean Teacher and its kin have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from ignite.engine import Engine, Events
from ignite.handlers import EMAHandler
from torch import nn

from bundle.types import Ramp


class MovingAverage:
    """The exponential moving average of a network in training (Tarvainen, Valpola 2017, arXiv 1703.01780).

    After each optimizer step: average <- d average + (1 - d) network, d = min(1 - 1 / (n + 1), decay), n = 0, 1, ...
    being the number of updates so far. So it begins as the plain mean of the first networks, and nothing is left of
    the random weights that it was made with. Ignite's ``EMAHandler`` does the arithmetic; its momentum is 1 - d.

    It stands among the trainer's handlers and, for going on after a stop, among the items of the resume file.

    - Buffers follow: running statistics of batch normalization are averaged with the same d as the weights, because
      they describe the activations of those weights; whole numbers are the network's own.
    - Where gradients are accumulated there is one update an optimizer step, not one an iteration: ``decay`` then
      means the same for any number of accumulated batches.
    - When the first epoch starts the network is copied anew, as weights may have been loaded since construction. A
      resumed training starts with a later epoch, and its average comes from the resume file.
    - Every rank keeps one. The weights are the same on all; statistics are those of rank 0 from the end of each
      epoch on, as the trainer has it for the network.

    Differs from the paper: the running statistics, where its code takes those of each batch, in training mode.

    Args:
        network: the network that is followed; bare, so that the average has the same keys.
        decay: largest d, in [0, 1); or a ramp, progress in [0, 1] -> largest d, for a trainer with ``progress``. With
            0 the average is the network of the last step.
        name: attribute of the trainer's state that holds 1 - d; two averages in one training need two names.

    Attributes:
        average: the averaged network, always in evaluation mode and without gradient.
        updates: number of updates so far.

    Raises:
        ValueError: for a decay outside of [0, 1).
    """

    def __init__(self, network: nn.Module, decay: float | Ramp = 0.99, name: str = "ema_momentum") -> None:
        if not callable(decay):
            refuse_decay(decay)
        self.decay = decay
        self.name = name
        self.updates = 0
        self._follower = EMAHandler(network, handle_buffers="update")
        self.network = self._follower.model
        self.average = self._follower.ema_model.requires_grad_(False)

    def attach(self, engine: Engine) -> None:
        """Follow the network that a trainer trains."""
        engine.add_event_handler(Events.EPOCH_STARTED(once=1), self._begin)
        stepped = Events.ITERATION_COMPLETED(event_filter=self._has_stepped)
        engine.add_event_handler(stepped, self._set_momentum)
        self._follower.attach(engine, self.name, warn_if_exists=False, event=stepped)
        engine.add_event_handler(stepped, self._count)

    def state_dict(self) -> dict[str, Any]:
        """The average and the number of its updates."""
        return {"average": self.average.state_dict(), "updates": self.updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved average.

        Raises:
            RuntimeError: where it is the average of another network.
        """
        self.average.load_state_dict(state["average"])
        self.updates = int(state["updates"])

    def _begin(self) -> None:
        """Start from the network as it is when training begins."""
        self.average.load_state_dict(self.network.state_dict())
        self.updates = 0

    @staticmethod
    def _has_stepped(engine: Any, iteration: int) -> bool:
        """Whether this iteration ended with an optimizer step; the trainer makes one at the end of an epoch, too."""
        place = (iteration - 1) % engine.state.epoch_length + 1
        return place % getattr(engine, "accumulation_steps", 1) == 0 or place == engine.state.epoch_length

    def _set_momentum(self, engine: Any) -> None:
        """Say how much of the network this update takes, where Ignite's handler reads it."""
        decay = self.decay(engine.progress) if callable(self.decay) else self.decay
        refuse_decay(decay)
        setattr(engine.state, self.name, 1.0 - min(1.0 - 1.0 / (self.updates + 1), decay))

    def _count(self, engine: Engine) -> None:
        """Count the update; at the end of an epoch give all ranks the statistics of rank 0, which saves the model."""
        self.updates += 1
        last = engine.state.iteration % (engine.state.epoch_length or 1) == 0
        if last and torch.distributed.is_available() and torch.distributed.is_initialized():
            for buffer in self.average.buffers():
                torch.distributed.broadcast(buffer, src=0)


def refuse_decay(decay: float) -> None:
    """Raise a ValueError for a decay outside of [0, 1)."""
    if not 0.0 <= decay < 1.0:
        raise ValueError(f"the decay of a moving average lies in [0, 1), got {decay}")
