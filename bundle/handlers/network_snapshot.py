"""Frozen copy of a network that is updated at growing intervals."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

from ignite.engine import Engine, Events
from torch import nn


class GrowingSnapshot:
    """Frozen copy of a network, updated at growing intervals (Khan, Chen, Niazi 2026, arXiv 2603.08605).

    Its pseudo-masks stay the same until the next update, without storing a mask. The network is copied when the first
    epoch starts, and at the end of the epochs i_1, i_1 + i_2, i_1 + i_2 + i_3, ... with the intervals
    i_1 = ``interval``, i_(k+1) = ``growth`` i_k; fractions are rounded up. It is a handler of the trainer, after the
    handler of the network that it copies, and an item of ``train#resume_file#items``.

    Args:
        network: the network to copy, for example the average of a ``MovingAverage``; bare, not wrapped.
        interval: epochs up to the first update, above 0.
        growth: factor between successive intervals, 1 or more; 1 keeps the intervals equal.

    Attributes:
        network: the copy, in evaluation mode and without gradient.

    Raises:
        ValueError: if the interval or growth is out of range.
    """

    def __init__(self, network: nn.Module, interval: float = 1.0, growth: float = 1.5) -> None:
        if not 0.0 < interval < math.inf:
            raise ValueError(f"the interval of a snapshot is {interval} epochs; it must be above 0")
        if not 1.0 <= growth < math.inf:
            raise ValueError(f"the growth of a snapshot's intervals is {growth}; it must be 1 or more")
        self.interval = interval
        self.growth = growth
        self.source = network
        self.network = copy.deepcopy(network).eval().requires_grad_(False)

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED(once=1), self.renew)
        engine.add_event_handler(Events.EPOCH_COMPLETED(event_filter=self._is_due), self.renew)

    def is_due(self, epoch: int) -> bool:
        """Return whether the copy is updated at the end of an epoch, counted from 1."""
        time, interval = self.interval, self.interval
        while math.ceil(time) < epoch:
            interval *= self.growth
            time += interval
        return math.ceil(time) == epoch

    def renew(self) -> None:
        """Copy the network, including its buffers."""
        self.network.load_state_dict(self.source.state_dict())

    def state_dict(self) -> dict[str, Any]:
        """Return the copy; the next update depends only on the epoch."""
        return {"network": self.network.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a saved copy.

        Raises:
            RuntimeError: if it belongs to another network.
        """
        self.network.load_state_dict(state["network"])

    def _is_due(self, engine: Engine, epoch: int) -> bool:
        return self.is_due(epoch)
