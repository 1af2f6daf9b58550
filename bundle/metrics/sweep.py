"""Pooled overlap at the best of many thresholds, and that threshold."""

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
    """Dice or Jaccard of the foreground over all pixels of all images, at the threshold that gives the largest.

    A pixel is foreground where its probability is larger than the threshold, both in the type of the probability, as
    ``probability > threshold`` compares in torch. Of several best thresholds the lowest is taken. Dice and Jaccard have
    the same best threshold, because J = D / (2 - D) grows with D. Empty on both sides is 1, on one side 0.

    A threshold chosen on the images that are scored makes the score optimistic: this is for tables made in that way,
    such as those of Semi-MoE (BMVC 2025; 0, 0.02, ... 0.88, by Jaccard).

    Counts are whole numbers, three for each image and threshold, gathered over ranks; the result is exact and does not
    depend on batches or ranks. Like every cumulative metric of MONAI it needs at least one image on each rank.
    """

    def __init__(self, thresholds: Sequence[float], metric: SweptName = "dice", num_classes: int = 2) -> None:
        """Make the metric.

        Args:
            thresholds: probabilities to try, ascending, each from 0 to below 1.
            metric: ``dice`` or ``jaccard``, at the best threshold, or ``threshold``, which is that itself.
            num_classes: number of classes, background counted. Only 2: one threshold parts one foreground from the
                background.

        Raises:
            ValueError: for another metric, more classes, or thresholds that are none, not ascending or outside [0, 1).
        """
        super().__init__()
        if num_classes != 2:
            raise ValueError(
                f"num_classes is {num_classes}, but a threshold parts one foreground from the background; with more "
                "classes take a protocol without thresholds, for example heldout"
            )
        if metric not in ("dice", "jaccard", "threshold"):
            raise ValueError(f"metric is {metric!r}; write 'dice', 'jaccard' or 'threshold'")
        values = [float(threshold) for threshold in thresholds]
        ascending = all(low < high for low, high in pairwise(values))
        if not values or not ascending or not (values[0] >= 0 and values[-1] < 1):
            raise ValueError(f"thresholds are {values}; give at least one, ascending, each from 0 to below 1")
        self.metric = metric
        self.thresholds = torch.tensor(values, dtype=torch.float64)

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **kwargs: Any) -> Tensor:
        """Count intersection, predicted and true pixels at each threshold: (B, thresholds, 3) int64.

        Args:
            y_pred: probability of the foreground (B, 1, H, W) in [0, 1]; or a list of (1, H, W), whose sizes may
                differ.
            y: the truth, class indices 0 and 1, likewise; pixels with ``IGNORE`` are left out.
            kwargs: nothing; MONAI's interface has them.

        Raises:
            ValueError: without truth, for other shapes, or for values outside their range.
        """
        given = require_truth(y)
        require_same_size(y_pred, given)
        probability, truth = foreground_probability(y_pred), foreground_mask(given)
        edges = self.thresholds.to(probability)
        below = torch.bucketize(probability.contiguous(), edges)  # how many thresholds the probability is larger than
        counts = []
        for levels, inside, known in zip(below, truth, known_pixels(given), strict=True):
            predicted = _at_least(levels[known], len(edges))
            counts.append(
                torch.stack([_at_least(levels[inside], len(edges)), predicted, inside.sum().expand(len(edges))], 1)
            )
        return torch.stack(counts)

    def aggregate(self) -> Tensor:
        """Give the largest overlap, or its threshold: a tensor without dimensions, float64, in [0, 1].

        Raises:
            ValueError: before the first image.
        """
        curves = self.curves()
        best = curves["jaccard"].argmax()  # the first of several
        return curves[self.metric][best]

    def curves(self) -> dict[str, Tensor]:
        """Give the whole sweep: ``threshold``, ``dice`` and ``jaccard`` of the set, (thresholds,) float64 each.

        Raises:
            ValueError: before the first image.
        """
        counts = require_counted(self.get_buffer()).sum(0)
        names: tuple[OverlapName, ...] = ("dice", "jaccard")
        overlaps = {name: overlap_of(counts, name) for name in names}
        return {"threshold": self.thresholds.to(counts.device)} | overlaps


class SweptOverlap(DetailedMetricHandler):
    """Handler of :class:`SweptOverlapMetric`, as a config names it.

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
        """Make the handler.

        Args:
            thresholds: probabilities to try, ascending, each from 0 to below 1.
            metric: ``dice``, ``jaccard`` or ``threshold``.
            output_transform: takes (probability of the foreground, truth) from the output of the engine.
            save_details: whether the sweep goes to ``engine.state.metric_details``, as columns of a table.
            num_classes: number of classes, background counted; only 2.

        Raises:
            ValueError: for another metric, for more classes, or for thresholds out of order or range.
        """
        swept = SweptOverlapMetric(thresholds, metric, num_classes)
        super().__init__(swept, output_transform, swept.curves if save_details else None)


def _at_least(levels: Tensor, count: int) -> Tensor:
    """For each of the levels 1..count, how many of the given ones are as high: (count,) int64."""
    return torch.bincount(levels, minlength=count + 1).flip(0).cumsum(0).flip(0)[1:]
