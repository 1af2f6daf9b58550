"""A frozen copy of a network that is renewed less and less often."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

from ignite.engine import Engine, Events
from torch import nn


class GrowingSnapshot:
    """A frozen copy of a network, renewed often at first and then less (Khan, Chen, Niazi 2026, arXiv 2603.08605).

    What it answers to an image is a pseudo-mask that stays the same until the next renewal, without a mask being
    stored. It is taken when the first epoch starts, and again at the end of the epochs i_1, i_1 + i_2, i_1 + i_2 + i_3,
    ... with the intervals i_1 = ``interval``, i_(k+1) = ``growth`` i_k. A renewal falls on the first epoch that is not
    before its time. For the trainer, behind the handler of the network that it copies, and under
    ``train#resume_file#items``.

    Args:
        network: what is copied, for instance the average of a ``MovingAverage``; bare, not wrapped.
        interval: epochs up to the first renewal, above 0.
        growth: factor from each interval to the next, 1 or more; 1 keeps the intervals equal.

    Attributes:
        network: the copy, in evaluation mode and without gradient.

    Raises:
        ValueError: for an interval or growth out of range.
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
        """Follow a trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED(once=1), self.renew)
        engine.add_event_handler(Events.EPOCH_COMPLETED(event_filter=self._is_due), self.renew)

    def is_due(self, epoch: int) -> bool:
        """Whether the copy is renewed at the end of an epoch, counted from 1."""
        time, interval = self.interval, self.interval
        while math.ceil(time) < epoch:
            interval *= self.growth
            time += interval
        return math.ceil(time) == epoch

    def renew(self) -> None:
        """Copy the network as it is now, with its buffers."""
        self.network.load_state_dict(self.source.state_dict())

    def state_dict(self) -> dict[str, Any]:
        """The copy; when it is renewed is a function of the epoch."""
        return {"network": self.network.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved copy.

        Raises:
            RuntimeError: where it is the copy of another network.
        """
        self.network.load_state_dict(state["network"])

    def _is_due(self, engine: Engine, epoch: int) -> bool:
        return self.is_due(epoch)
