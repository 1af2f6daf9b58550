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
    require_counted,
    require_same_size,
    require_truth,
)


class CalibrationMetric(CumulativeIterationMetric):
    """Expected calibration error of the foreground over all pixels of all images together.

    Probabilities are sorted into bins of equal width, [low, high), the last one with 1. The error is the mean over bins
    of |mean probability - share of true pixels|, weighted by the pixels of the bin: 0 is perfect, 1 the worst. Empty
    bins take no part. It is that of Guo et al. (ICML 2017, arXiv:1706.04599) for the probability of one class.

    Not MONAI's ``CalibrationErrorMetric``: that is a mean over images, keeps no bins, and adds probabilities in
    float32, whose steps are too coarse where a bin holds some 100,000 pixels: the mean of 400,000 times 0.99 comes out
    as 0.992. Sums here are float64, gathered over ranks. Like every cumulative metric of MONAI it needs at least one
    image on each rank.
    """

    def __init__(self, bins: int = 15) -> None:
        """Make the metric.

        Args:
            bins: number of bins, at least 1.

        Raises:
            ValueError: for fewer than 1 bin.
        """
        super().__init__()
        if bins < 1 or bins != int(bins):
            raise ValueError(f"bins is {bins}; it must be a whole number, at least 1")
        self.edges = torch.linspace(0, 1, int(bins) + 1, dtype=torch.float64)

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **kwargs: Any) -> Tensor:
        """Count pixels, their probabilities and the true ones in each bin: (B, bins, 3) float64.

        Args:
            y_pred: probability of the foreground (B, 1, H, W) in [0, 1]; or a list of (1, H, W), whose sizes may
                differ.
            y: the truth, class indices 0 and 1, likewise.
            kwargs: nothing; MONAI's interface has them.

        Raises:
            ValueError: without truth, for other shapes, or for values outside their range.
        """
        given = require_truth(y)
        require_same_size(y_pred, given)
        probability, truth = foreground_probability(y_pred).double(), foreground_mask(given)
        edges = self.edges.to(probability.device)
        bins = torch.bucketize(probability.contiguous(), edges[1:-1], right=True)
        sums = []
        for index, value, inside in zip(bins, probability, truth, strict=True):
            columns = (None, value.flatten(), inside.flatten().double())
            sums.append([torch.bincount(index.flatten(), weights, len(edges) - 1).double() for weights in columns])
        return torch.stack([torch.stack(columns, 1) for columns in sums])

    def aggregate(self) -> Tensor:
        """Give the expected calibration error: a tensor without dimensions, float64, in [0, 1].

        Raises:
            ValueError: before the first image.
        """
        count, confidence, true = require_counted(self.get_buffer()).sum(0).unbind(-1)
        return (confidence - true).abs().sum() / count.sum().clamp_min(1)

    def bins(self) -> dict[str, Tensor]:
        """Give the bins: ``low``, ``high``, mean ``confidence``, ``share`` of true pixels, ``count``; (bins,) each.

        Confidence and share of a bin without pixels are NaN.

        Raises:
            ValueError: before the first image.
        """
        count, confidence, true = require_counted(self.get_buffer()).sum(0).unbind(-1)
        edges = self.edges.to(count.device)
        means = {"confidence": confidence / count, "share": true / count}
        return {"low": edges[:-1], "high": edges[1:], **means, "count": count.long()}


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
    ) -> None:
        """Make the handler.

        Args:
            bins: number of bins, at least 1.
            output_transform: takes (probability of the foreground, truth) from the output of the engine.
            save_details: whether the bins go to ``engine.state.metric_details``, as columns of a table.

        Raises:
            ValueError: for fewer than 1 bin.
        """
        metric = CalibrationMetric(bins)
        super().__init__(metric, output_transform, metric.bins if save_details else None)
