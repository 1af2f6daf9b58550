"""Pooled overlap: Dice or Jaccard over all pixels of a set together, as if it were one image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from monai.metrics import CumulativeIterationMetric
from monai.utils import convert_to_tensor
from torch import Tensor

from bundle.metrics.handler import DetailedMetricHandler
from bundle.metrics.inputs import known_pixels, of_image, require_counted, require_same_size, require_truth
from bundle.types import IGNORE

OverlapName = Literal["dice", "jaccard"]


class PooledOverlapMetric(CumulativeIterationMetric):
    """Dice or Jaccard of each class over all pixels of all images, averaged over the classes.

    Dice D = 2 |P and T| / (|P| + |T|), Jaccard J = |P and T| / |P or T|, P predicted and T true pixels of a class in
    the whole set; J = D / (2 - D) for each class. Where both are empty the overlap is 1; where only one is, 0. Large
    images and large glands weigh more than in the mean over images, which MONAI's ``DiceMetric`` gives. The tables of
    Semi-MoE (BMVC 2025) are pooled overlaps of the gland class.

    With ``include_background`` and two classes it is the class mean, the mean over background and gland, which other
    papers report; its Jaccard is their mIoU. It holds the easier class too: never set it beside an overlap of glands.

    Counts are whole numbers, gathered over ranks, so the result is exact and does not depend on batches or ranks. Like
    every cumulative metric of MONAI it needs at least one image on each rank.
    """

    def __init__(self, metric: OverlapName = "dice", num_classes: int = 2, include_background: bool = False) -> None:
        """Make the metric.

        Args:
            metric: ``dice`` or ``jaccard``.
            num_classes: number of classes, background counted, at least 2.
            include_background: whether class 0 takes part in the mean over classes: the class mean.

        Raises:
            ValueError: for another metric or fewer than 2 classes.
        """
        super().__init__()
        if metric not in ("dice", "jaccard"):
            raise ValueError(f"metric is {metric!r}; write 'dice' or 'jaccard'")
        if num_classes < 2:
            raise ValueError(f"num_classes is {num_classes}; it counts the background too, so it is at least 2")
        self.metric = metric
        self.num_classes = num_classes
        self.classes = range(0 if include_background else 1, num_classes)

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **kwargs: Any) -> Tensor:
        """Count intersection, predicted and true pixels: (B, classes, 3) int64.

        Args:
            y_pred: class indices (B, 1, H, W), or scores or one-hot (B, num_classes, H, W), of which the largest
                counts. Also a list of (1, H, W) or (num_classes, H, W), whose sizes may differ.
            y: the truth, in either form; pixels whose index is ``IGNORE`` are left out.
            kwargs: nothing; MONAI's interface has them.

        Raises:
            ValueError: without truth, for other shapes, or for values that are no class indices.
        """
        given = require_truth(y)
        predicted, truth = self._class_index(y_pred, "y_pred"), self._class_index(given, "y", may_ignore=True)
        place = of_image(given, y_pred)
        require_same_size(predicted, truth, place)
        known = known_pixels(truth, place)
        counts = []
        for index in self.classes:
            predicted_here, truth_here = (predicted == index) & known, truth == index
            counts += [predicted_here & truth_here, predicted_here, truth_here]
        return torch.stack([count.flatten(1).sum(1) for count in counts], 1).reshape(len(truth), -1, 3)

    def _class_index(self, value: Tensor, name: str, may_ignore: bool = False) -> Tensor:
        """Give class indices (B, 1, H, W), perhaps with ``IGNORE``, for indices, scores or one-hot."""
        place = of_image(value)
        value = convert_to_tensor(value, track_meta=False)
        if value.ndim < 3 or value.shape[1] not in (1, self.num_classes):
            raise ValueError(
                f"{name} has the shape {tuple(value.shape)}, not (B, 1 or {self.num_classes}, H, W){place}"
            )
        if value.shape[1] > 1:
            return value.float().argmax(1, keepdim=True)
        index = value.long()
        is_class = (index == value) & (index >= 0) & (index < self.num_classes)
        if not bool((is_class | (may_ignore & (index == IGNORE))).all()):
            raise ValueError(f"{name} holds values other than the class indices 0..{self.num_classes - 1}{place}")
        return index

    def aggregate(self) -> Tensor:
        """Give the pooled overlap, mean over classes: a tensor without dimensions, float64, in [0, 1].

        Raises:
            ValueError: before the first image.
        """
        return overlap_of(self._counts().sum(0), self.metric).mean()

    def per_image(self) -> Tensor:
        """Give the overlap of each image and class, (images, classes) float64, for reports.

        Raises:
            ValueError: before the first image.
        """
        return overlap_of(self._counts(), self.metric)

    def _counts(self) -> Tensor:
        """Give the counts of all images of all ranks, (images, classes, 3)."""
        return require_counted(self.get_buffer())


def overlap_of(counts: Tensor, metric: OverlapName) -> Tensor:
    """Turn counts of intersection, predicted and true pixels (..., 3) into overlaps (...), float64 in [0, 1]."""
    intersection, predicted, truth = counts.unbind(-1)
    if metric == "dice":
        part, whole = 2 * intersection, predicted + truth
    else:
        part, whole = intersection, predicted + truth - intersection
    return torch.where(whole > 0, part.double() / whole.clamp_min(1).double(), 1.0)


class PooledOverlap(DetailedMetricHandler):
    """Handler of :class:`PooledOverlapMetric`, as a config names it.

    For example ``{"_target_": "bundle.metrics.PooledOverlap", "metric": "dice", "output_transform":
    "$monai.handlers.from_engine(['pred', 'label'])"}`` as key metric of an evaluator.
    """

    def __init__(
        self,
        metric: OverlapName = "dice",
        num_classes: int = 2,
        include_background: bool = False,
        output_transform: Callable[[Any], Any] = lambda output: output,
        save_details: bool = False,
    ) -> None:
        """Make the handler.

        Args:
            metric: ``dice`` or ``jaccard``.
            num_classes: number of classes, background counted.
            include_background: whether class 0 takes part in the mean over classes.
            output_transform: takes (prediction, truth) from the output of the engine.
            save_details: whether the overlap of each image goes to ``engine.state.metric_details``, (images, classes).
        """
        pooled = PooledOverlapMetric(metric, num_classes, include_background)
        super().__init__(pooled, output_transform, pooled.per_image if save_details else None)
