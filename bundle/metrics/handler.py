"""What the handlers of this folder share: one figure for the set, and what lies behind it for the tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from monai.handlers import IgniteMetricHandler
from monai.metrics import CumulativeIterationMetric
from torch import Tensor

Details = Tensor | Mapping[str, Tensor]
"""Values of each image (images, values), or a table of the set, its columns by name."""


class DetailedMetricHandler(IgniteMetricHandler):
    """Ignite handler whose details are not the metric's buffer, which here holds counts and sums."""

    def __init__(
        self,
        metric_fn: CumulativeIterationMetric,
        output_transform: Callable[[Any], Any],
        details: Callable[[], Details] | None,
    ) -> None:
        """Make the handler.

        Args:
            metric_fn: the metric; ``aggregate`` gives one figure.
            output_transform: takes (prediction, truth) from the output of the engine.
            details: makes what goes to ``engine.state.metric_details`` under the metric's name; ``None``: nothing.
        """
        super().__init__(metric_fn=metric_fn, output_transform=output_transform, save_details=details is not None)
        self._details = details

    def compute(self) -> float:
        """Give the figure of the set, and leave the details with the engine.

        Raises:
            ValueError: before the first image.
        """
        figure = float(super().compute())
        if self._details is not None and self._engine is not None:
            self._engine.state.metric_details[self._name] = self._details()  # type: ignore[attr-defined]
        return figure
