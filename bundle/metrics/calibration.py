"""Expected calibration error of the predicted probabilities."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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


class CalibrationMetric(CumulativeIterationMetric):
    """Expected calibration error of the foreground over all pixels of all images.

    Probabilities are sorted into bins of equal width, [low, high); the last one includes 1. The error is the mean over
    bins of |mean probability - share of foreground pixels|, weighted by the number of pixels: 0 is perfect, 1 the
    worst. Empty bins are skipped. This is the error of Guo et al. (ICML 2017, arXiv:1706.04599) for the probability of
    one class. With several foreground classes, the errors of each class against all others are averaged, as in the
    static calibration error of Nixon et al. (2019, arXiv:1904.01685), here without the background.

    Differs from MONAI's ``CalibrationErrorMetric``, which is a mean over images, keeps no bins and sums probabilities
    in float32. That is too coarse for bins with some 100,000 pixels: the mean of 400,000 times 0.99 becomes 0.992.
    Sums here are float64 and gathered over ranks. Each rank needs at least one image, as for every cumulative metric of
    MONAI.
    """

    def __init__(self, bins: int = 15, num_classes: int = 2) -> None:
        """Initialize the metric.

        Args:
            bins: number of bins, at least 1.
            num_classes: number of classes, including the background, at least 2.

        Raises:
            ValueError: if there are fewer than 1 bin or 2 classes.
        """
        super().__init__()
        if bins < 1 or bins != int(bins):
            raise ValueError(f"bins is {bins}; it must be an integer of at least 1")
        if num_classes < 2:
            raise ValueError(f"num_classes is {num_classes}; it must be at least 2, including the background")
        self.num_classes = num_classes
        self.edges = torch.linspace(0, 1, int(bins) + 1, dtype=torch.float64)

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **kwargs: Any) -> Tensor:
        """Compute pixels, sum of probabilities and foreground pixels per bin: (B, num_classes - 1, bins, 3), float64.

        Args:
            y_pred: probability of each foreground class (B, num_classes - 1, H, W) in [0, 1]; or a list of
                (num_classes - 1, H, W), whose sizes may differ.
            y: the label, class indices (B, 1, H, W), or a list; pixels with ``IGNORE`` are left out.
            kwargs: not used; part of MONAI's interface.

        Raises:
            ValueError: if there is no label, or a shape or value is wrong.
        """
        labels = require_truth(y)
        probability = foreground_probability(y_pred, self.num_classes).double()
        require_same_size(y_pred[:, :1], labels)
        truth = foreground_mask(labels, self.num_classes)
        known = known_pixels(labels).expand_as(truth)
        edges = self.edges.to(probability.device)
        bins = torch.bucketize(probability.contiguous(), edges[1:-1], right=True)
        sums = []
        planes = zip(*(maps.flatten(0, 1) for maps in (bins, probability, truth, known)), strict=True)
        for index, value, inside, valid in planes:
            columns = (None, value[valid], inside[valid].double())
            sums.append([torch.bincount(index[valid], weights, len(edges) - 1).double() for weights in columns])
        stacked = torch.stack([torch.stack(columns, 1) for columns in sums])
        return stacked.unflatten(0, bins.shape[:2])

    def aggregate(self) -> Tensor:
        """Return the expected calibration error, a 0-d tensor, float64, in [0, 1].

        Raises:
            ValueError: if no image was added.
        """
        count, confidence, true = require_counted(self.get_buffer()).sum(0).unbind(-1)
        return ((confidence - true).abs().sum(1) / count.sum(1).clamp_min(1)).mean()

    def bins(self) -> dict[str, Tensor]:
        """Return the bins: ``low``, ``high``, mean ``confidence``, ``share`` of foreground, ``count``; (bins,) each.

        Confidence and share of an empty bin are NaN. With several foreground classes, their bins are concatenated, and
        ``class`` is the class of each bin.

        Raises:
            ValueError: if no image was added.
        """
        count, confidence, true = require_counted(self.get_buffer()).sum(0).unbind(-1)
        edges = self.edges.to(count.device)
        columns = {"low": edges[:-1].expand_as(count), "high": edges[1:].expand_as(count)}
        columns |= {"confidence": confidence / count, "share": true / count, "count": count.long()}
        if len(count) > 1:
            classes = torch.arange(1, len(count) + 1, device=count.device)
            columns = {"class": classes[:, None].expand_as(count), **columns}
        return {name: column.flatten() for name, column in columns.items()}


class Calibration(DetailedMetricHandler):
    """Ignite handler of :class:`CalibrationMetric`, for configs.

    For example ``{"_target_": "bundle.metrics.Calibration", "bins": 15, "output_transform":
    "$monai.handlers.from_engine(['probability', 'label'])"}``.
    """

    def __init__(
        self,
        bins: int = 15,
        output_transform: Callable[[Any], Any] = lambda output: output,
        save_details: bool = True,
        num_classes: int = 2,
    ) -> None:
        """Initialize the handler.

        Args:
            bins: number of bins, at least 1.
            output_transform: maps the output of the engine to (probability of the foreground classes, label).
            save_details: whether to save the bins in ``engine.state.metric_details``, as columns of a table.
            num_classes: number of classes, including the background, at least 2.

        Raises:
            ValueError: if there are fewer than 1 bin or 2 classes.
        """
        metric = CalibrationMetric(bins, num_classes)
        super().__init__(metric, output_transform, metric.bins if save_details else None)
