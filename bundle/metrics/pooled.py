"""Pooled overlap: Dice or Jaccard over all pixels of a set, as if it were one image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from monai.handlers import from_engine
from monai.metrics import CumulativeIterationMetric
from monai.utils import convert_to_tensor
from torch import Tensor

from bundle.metrics.handler import DetailedMetricHandler
from bundle.metrics.inputs import in_file, known_pixels, require_counted, require_same_size, require_truth
from bundle.types import IGNORE, LABEL, PRED

OverlapName = Literal["dice", "jaccard"]
PAIR = from_engine([PRED, LABEL])
"""Output transform: (predictions, labels) of an engine."""


class PooledOverlapMetric(CumulativeIterationMetric):
    """Dice or Jaccard of each class over all pixels of all images, averaged over the classes.

    Dice D = 2 |P and T| / (|P| + |T|), Jaccard J = |P and T| / |P or T|, with P the predicted and T the true pixels of
    a class in the whole set; J = D / (2 - D) for each class. If both are empty, the overlap is 1; if only one is empty,
    0. Large images and large glands weigh more than in the mean over images of MONAI's ``DiceMetric``. The tables of
    Semi-MoE (BMVC 2025) are pooled overlaps of the gland class.

    With ``include_background`` and two classes it is the mean over background and gland that other papers report; its
    Jaccard is their mIoU. It includes the easier class, so it cannot be compared with an overlap of glands.

    Integer counts are gathered over ranks, so the result is exact and does not depend on batches or ranks. Each rank
    needs at least one image, as for every cumulative metric of MONAI.

    Example::

        >>> metric = PooledOverlapMetric("dice")
        >>> predicted, truth = torch.tensor([[[[1, 1, 0, 0]]]]), torch.tensor([[[[1, 0, 0, 0]]]])
        >>> _ = metric(predicted, truth)
        >>> metric.aggregate()
        tensor(0.6667, dtype=torch.float64)
    """

    def __init__(self, metric: OverlapName = "dice", num_classes: int = 2, include_background: bool = False) -> None:
        """Initialize the metric.

        Args:
            metric: ``dice`` or ``jaccard``.
            num_classes: number of classes, including the background, at least 2.
            include_background: whether to include class 0 in the mean over classes.

        Raises:
            ValueError: if ``metric`` is unknown, or there are fewer than 2 classes.
        """
        super().__init__()
        if metric not in ("dice", "jaccard"):
            raise ValueError(f"metric is {metric!r}; choose 'dice' or 'jaccard'")
        if num_classes < 2:
            raise ValueError(f"num_classes is {num_classes}; it must be at least 2, including the background")
        self.metric = metric
        self.num_classes = num_classes
        self.classes = range(0 if include_background else 1, num_classes)

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **kwargs: Any) -> Tensor:
        """Count intersection, predicted and true pixels: (B, classes, 3), int64.

        Args:
            y_pred: class indices (B, 1, H, W), or scores or one-hot (B, num_classes, H, W), whose argmax is used. Also
                a list of (1, H, W) or (num_classes, H, W), whose sizes may differ.
            y: the label, in either form; pixels with ``IGNORE`` are left out.
            kwargs: not used; part of MONAI's interface.

        Raises:
            ValueError: if there is no label, a shape is wrong, or a value is not a class index.
        """
        labels = require_truth(y)
        predicted, truth = self._class_index(y_pred, "y_pred"), self._class_index(labels, "y", may_ignore=True)
        where = in_file(labels, y_pred)
        require_same_size(predicted, truth, where)
        known = known_pixels(truth, where)
        counts = []
        for index in self.classes:
            predicted_class, truth_class = (predicted == index) & known, truth == index
            counts += [predicted_class & truth_class, predicted_class, truth_class]
        return torch.stack([count.flatten(1).sum(1) for count in counts], 1).reshape(len(truth), -1, 3)

    def _class_index(self, value: Tensor, name: str, may_ignore: bool = False) -> Tensor:
        """Convert indices, scores or one-hot to class indices (B, 1, H, W), optionally with ``IGNORE``."""
        where = in_file(value)
        value = convert_to_tensor(value, track_meta=False)
        if value.ndim < 3 or value.shape[1] not in (1, self.num_classes):
            raise ValueError(
                f"{name} has the shape {tuple(value.shape)}, not (B, 1 or {self.num_classes}, H, W){where}"
            )
        if value.shape[1] > 1:
            return value.float().argmax(1, keepdim=True)
        index = value.long()
        is_class = (index == value) & (index >= 0) & (index < self.num_classes)
        if not bool((is_class | (may_ignore & (index == IGNORE))).all()):
            raise ValueError(f"{name} has values other than the class indices 0..{self.num_classes - 1}{where}")
        return index

    def aggregate(self) -> Tensor:
        """Return the pooled overlap, mean over classes, a 0-d tensor, float64, in [0, 1].

        Raises:
            ValueError: if no image was added.
        """
        return overlap_of(self._counts().sum(0), self.metric).mean()

    def per_image(self) -> Tensor:
        """Return the overlap of each image and class, (images, classes), float64.

        Raises:
            ValueError: if no image was added.
        """
        return overlap_of(self._counts(), self.metric)

    def _counts(self) -> Tensor:
        """Return the counts of all images of all ranks, (images, classes, 3)."""
        return require_counted(self.get_buffer())


def overlap_of(counts: Tensor, metric: OverlapName) -> Tensor:
    """Convert counts of intersection, predicted and true pixels (..., 3) to overlaps (...), float64 in [0, 1]."""
    intersection, predicted, truth = counts.unbind(-1)
    if metric == "dice":
        numerator, denominator = 2 * intersection, predicted + truth
    else:
        numerator, denominator = intersection, predicted + truth - intersection
    return torch.where(denominator > 0, numerator.double() / denominator.clamp_min(1).double(), 1.0)


class PooledOverlap(DetailedMetricHandler):
    """Ignite handler of :class:`PooledOverlapMetric`, for configs.

    For example ``{"_target_": "bundle.metrics.PooledOverlap", "metric": "dice"}`` as key metric of an evaluator.
    """

    def __init__(
        self,
        metric: OverlapName = "dice",
        num_classes: int = 2,
        include_background: bool = False,
        output_transform: Callable[[Any], Any] = PAIR,
        save_details: bool = False,
    ) -> None:
        """Initialize the handler.

        Args:
            metric: ``dice`` or ``jaccard``.
            num_classes: number of classes, including the background.
            include_background: whether to include class 0 in the mean over classes.
            output_transform: maps the output of the engine to (prediction, label); the default takes ``pred`` and
                ``label``.
            save_details: whether to save the overlap of each image, (images, classes), in
                ``engine.state.metric_details``.
        """
        pooled = PooledOverlapMetric(metric, num_classes, include_background)
        super().__init__(pooled, output_transform, pooled.per_image if save_details else None)
