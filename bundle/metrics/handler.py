"""Base class of the metric handlers: one number for the set, and details for tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from monai.handlers import IgniteMetricHandler
from monai.metrics import CumulativeIterationMetric
from torch import Tensor

Details = Tensor | Mapping[str, Tensor]
"""Values of each image (images, values), or columns of a table of the set by name."""


class DetailedMetricHandler(IgniteMetricHandler):
    """Ignite handler that saves other details than the metric's buffer, which holds counts and sums."""

    def __init__(
        self,
        metric_fn: CumulativeIterationMetric,
        output_transform: Callable[[Any], Any],
        details: Callable[[], Details] | None,
    ) -> None:
        """Initialize the handler.

        Args:
            metric_fn: the metric; ``aggregate`` returns one number.
            output_transform: maps the output of the engine to (prediction, label).
            details: returns what to save in ``engine.state.metric_details`` under the metric's name; ``None`` saves
                nothing.
        """
        super().__init__(metric_fn=metric_fn, output_transform=output_transform, save_details=details is not None)
        self._details = details

    def compute(self) -> float:
        """Return the score of the set, and save the details in the engine.

        Raises:
            ValueError: if no image was added.
        """
        score = float(super().compute())
        if self._details is not None and self._engine is not None:
            self._engine.state.metric_details[self._name] = self._details()  # type: ignore[attr-defined]
        return score
