"""Calibration: whether a stated probability is the share of pixels that are true."""

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
    """Expected calibration error of the foreground over all pixels of all images together.

    Probabilities are sorted into bins of equal width, [low, high), the last one with 1. The error is the mean over bins
    of |mean probability - share of true pixels|, weighted by the pixels of the bin: 0 is perfect, 1 the worst. Empty
    bins take no part. It is that of Guo et al. (ICML 2017, arXiv:1706.04599) for the probability of one class. With
    several foreground classes each is held against all others, and their errors are averaged, as in the static
    calibration error of Nixon et al. (2019, arXiv:1904.01685), here without the background.

    Not MONAI's ``CalibrationErrorMetric``: that is a mean over images, keeps no bins, and adds probabilities in
    float32, whose steps are too coarse where a bin holds some 100,000 pixels: the mean of 400,000 times 0.99 comes out
    as 0.992. Sums here are float64, gathered over ranks. Like every cumulative metric of MONAI it needs at least one
    image on each rank.
    """

    def __init__(self, bins: int = 15, num_classes: int = 2) -> None:
        """Make the metric.

        Args:
            bins: number of bins, at least 1.
            num_classes: number of classes, background counted, at least 2.

        Raises:
            ValueError: for fewer than 1 bin or 2 classes.
        """
        super().__init__()
        if bins < 1 or bins != int(bins):
            raise ValueError(f"bins is {bins}; it must be a whole number, at least 1")
        if num_classes < 2:
            raise ValueError(f"num_classes is {num_classes}; it counts the background too, so it is at least 2")
        self.num_classes = num_classes
        self.edges = torch.linspace(0, 1, int(bins) + 1, dtype=torch.float64)

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **kwargs: Any) -> Tensor:
        """Count pixels, their probabilities and the true ones in each bin: (B, num_classes - 1, bins, 3) float64.

        Args:
            y_pred: probability of each foreground class (B, num_classes - 1, H, W) in [0, 1]; or a list of
                (num_classes - 1, H, W), whose sizes may differ.
            y: the truth, class indices (B, 1, H, W), likewise; pixels with ``IGNORE`` are left out.
            kwargs: nothing; MONAI's interface has them.

        Raises:
            ValueError: without truth, for other shapes, or for values outside their range.
        """
        given = require_truth(y)
        probability = foreground_probability(y_pred, self.num_classes).double()
        require_same_size(y_pred[:, :1], given)
        truth = foreground_mask(given, self.num_classes)
        known = known_pixels(given).expand_as(truth)
        edges = self.edges.to(probability.device)
        bins = torch.bucketize(probability.contiguous(), edges[1:-1], right=True)
        sums = []
        planes = zip(*(maps.flatten(0, 1) for maps in (bins, probability, truth, known)), strict=True)
        for index, value, inside, here in planes:
            columns = (None, value[here], inside[here].double())
            sums.append([torch.bincount(index[here], weights, len(edges) - 1).double() for weights in columns])
        counted = torch.stack([torch.stack(columns, 1) for columns in sums])
        return counted.unflatten(0, bins.shape[:2])

    def aggregate(self) -> Tensor:
        """Give the expected calibration error: a tensor without dimensions, float64, in [0, 1].

        Raises:
            ValueError: before the first image.
        """
        count, confidence, true = require_counted(self.get_buffer()).sum(0).unbind(-1)
        return ((confidence - true).abs().sum(1) / count.sum(1).clamp_min(1)).mean()

    def bins(self) -> dict[str, Tensor]:
        """Give the bins: ``low``, ``high``, mean ``confidence``, ``share`` of true pixels, ``count``; (bins,) each.

        Confidence and share of a bin without pixels are NaN. With several foreground classes the bins of each follow
        one another, and ``class`` says whose they are.

        Raises:
            ValueError: before the first image.
        """
        count, confidence, true = require_counted(self.get_buffer()).sum(0).unbind(-1)
        edges = self.edges.to(count.device)
        columns = {"low": edges[:-1].expand_as(count), "high": edges[1:].expand_as(count)}
        columns |= {"confidence": confidence / count, "share": true / count, "count": count.long()}
        if len(count) > 1:
            whose = torch.arange(1, len(count) + 1, device=count.device)
            columns = {"class": whose[:, None].expand_as(count), **columns}
        return {name: column.flatten() for name, column in columns.items()}


class Calibration(DetailedMetricHandler):
    """Handler of :class:`CalibrationMetric`, as a config names it.

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
        """Make the handler.

        Args:
            bins: number of bins, at least 1.
            output_transform: takes (probability of the foreground classes, truth) from the output of the engine.
            save_details: whether the bins go to ``engine.state.metric_details``, as columns of a table.
            num_classes: number of classes, background counted, at least 2.

        Raises:
            ValueError: for fewer than 1 bin or 2 classes.
        """
        metric = CalibrationMetric(bins, num_classes)
        super().__init__(metric, output_transform, metric.bins if save_details else None)
