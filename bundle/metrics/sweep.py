"""Pooled overlap at the best of several thresholds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Literal

import torch
from monai.metrics import CumulativeIterationMetric
from torch import Tensor

from bundle.metrics.handler import DetailedMetricHandler
from bundle.metrics.inputs import (
    foreground_mask,
    foreground_probability,
    known_pixels,
    require_counted,
    require_same_size,
    require_truth,
)
from bundle.metrics.pooled import OverlapName, overlap_of

SweptName = Literal["dice", "jaccard", "threshold"]


class SweptOverlapMetric(CumulativeIterationMetric):
    """Dice or Jaccard of the foreground over all pixels of all images, at the best threshold.

    A pixel is foreground if its probability is larger than the threshold, in the data type of the probability, as in
    ``probability > threshold`` in torch. Of several best thresholds, the lowest is used. Dice and Jaccard have the same
    best threshold, because J = D / (2 - D) increases with D. If prediction and label are both empty, the score is 1; if
    only one is empty, 0.

    Choosing the threshold on the scored images makes the score optimistic. Use it only to compare with tables made in
    the same way, such as those of Semi-MoE (BMVC 2025; 0, 0.02, ... 0.88, by Jaccard).

    Integer counts for each image and threshold are gathered over ranks; the result is exact and does not depend on
    batches or ranks. Each rank needs at least one image, as for every cumulative metric of MONAI.
    """

    def __init__(self, thresholds: Sequence[float], metric: SweptName = "dice", num_classes: int = 2) -> None:
        """Initialize the metric.

        Args:
            thresholds: thresholds to evaluate, ascending, in [0, 1).
            metric: ``dice`` or ``jaccard`` at the best threshold, or ``threshold`` for the threshold itself.
            num_classes: number of classes, including the background; must be 2.

        Raises:
            ValueError: if ``metric`` is unknown, there are more classes, or the thresholds are empty, not ascending or
                outside [0, 1).
        """
        super().__init__()
        if num_classes != 2:
            raise ValueError(
                f"num_classes is {num_classes}, but a threshold needs exactly one foreground class; choose a protocol "
                "without thresholds, for example heldout"
            )
        if metric not in ("dice", "jaccard", "threshold"):
            raise ValueError(f"metric is {metric!r}; choose 'dice', 'jaccard' or 'threshold'")
        values = [float(threshold) for threshold in thresholds]
        ascending = all(low < high for low, high in pairwise(values))
        if not values or not ascending or not (values[0] >= 0 and values[-1] < 1):
            raise ValueError(f"thresholds are {values}; give at least one, in ascending order, in [0, 1)")
        self.metric = metric
        self.thresholds = torch.tensor(values, dtype=torch.float64)

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **kwargs: Any) -> Tensor:
        """Count intersection, predicted and true pixels at each threshold: (B, thresholds, 3), int64.

        Args:
            y_pred: probability of the foreground (B, 1, H, W) in [0, 1]; or a list of (1, H, W), whose sizes may
                differ.
            y: the label, class indices 0 and 1, in the same form; pixels with ``IGNORE`` are left out.
            kwargs: not used; part of MONAI's interface.

        Raises:
            ValueError: if there is no label, or a shape or value is wrong.
        """
        labels = require_truth(y)
        require_same_size(y_pred, labels)
        probability, truth = foreground_probability(y_pred), foreground_mask(labels)
        edges = self.thresholds.to(probability)
        exceeded = torch.bucketize(probability.contiguous(), edges)  # number of thresholds below the probability
        counts = []
        for levels, inside, known in zip(exceeded, truth, known_pixels(labels), strict=True):
            predicted = _at_least(levels[known], len(edges))
            counts.append(
                torch.stack([_at_least(levels[inside], len(edges)), predicted, inside.sum().expand(len(edges))], 1)
            )
        return torch.stack(counts)

    def aggregate(self) -> Tensor:
        """Return the largest overlap, or its threshold, a 0-d tensor, float64, in [0, 1].

        Raises:
            ValueError: if no image was added.
        """
        curves = self.curves()
        best = curves["jaccard"].argmax()  # the first of several
        return curves[self.metric][best]

    def curves(self) -> dict[str, Tensor]:
        """Return ``threshold``, and ``dice`` and ``jaccard`` of the set at each, (thresholds,), float64.

        Raises:
            ValueError: if no image was added.
        """
        counts = require_counted(self.get_buffer()).sum(0)
        names: tuple[OverlapName, ...] = ("dice", "jaccard")
        overlaps = {name: overlap_of(counts, name) for name in names}
        return {"threshold": self.thresholds.to(counts.device)} | overlaps


class SweptOverlap(DetailedMetricHandler):
    """Ignite handler of :class:`SweptOverlapMetric`, for configs.

    For example ``{"_target_": "bundle.metrics.SweptOverlap", "metric": "jaccard", "thresholds":
    "$[0.02 * step for step in range(45)]", "output_transform": "$monai.handlers.from_engine(['probability',
    'label'])"}``.
    """

    def __init__(
        self,
        thresholds: Sequence[float],
        metric: SweptName = "dice",
        output_transform: Callable[[Any], Any] = lambda output: output,
        save_details: bool = False,
        num_classes: int = 2,
    ) -> None:
        """Initialize the handler.

        Args:
            thresholds: thresholds to evaluate, ascending, in [0, 1).
            metric: ``dice``, ``jaccard`` or ``threshold``.
            output_transform: maps the output of the engine to (probability of the foreground, label).
            save_details: whether to save the scores at all thresholds in ``engine.state.metric_details``, as columns.
            num_classes: number of classes, including the background; must be 2.

        Raises:
            ValueError: as for :class:`SweptOverlapMetric`.
        """
        swept = SweptOverlapMetric(thresholds, metric, num_classes)
        super().__init__(swept, output_transform, swept.curves if save_details else None)


def _at_least(levels: Tensor, count: int) -> Tensor:
    """Return how many of the given levels are at least 1, 2, ... count: (count,), int64."""
    return torch.bincount(levels, minlength=count + 1).flip(0).cumsum(0).flip(0)[1:]
