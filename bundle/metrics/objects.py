"""The scores of the GlaS challenge: object F1, object Dice and object Hausdorff distance of instance label maps.

K. Sirinukunwattana et al., Gland segmentation in colon histology images: the GlaS challenge contest, Medical Image
Analysis 35 (2017), arXiv:1603.00275.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from monai.metrics import CumulativeIterationMetric
from torch import Tensor

from bundle.metrics.distances import ObjectDistances
from bundle.metrics.handler import DetailedMetricHandler
from bundle.metrics.inputs import label_maps, require_counted, require_same_size, require_truth
from bundle.metrics.matching import Overlaps, Plane, Values, numbered, overlaps

ObjectScore = Literal["f1", "dice", "hausdorff"]
ObjectReduction = Literal["set", "image"]


class ObjectScoresMetric(CumulativeIterationMetric):
    """Object F1, object Dice or object Hausdorff distance of numbered objects, at the size that they come in.

    The partner of an object is the one on the other side that shares the most pixels with it; of several, the one with
    the lowest number. Partnership need not be mutual.

    - ``f1``: a true object is found where a predicted object whose partner it is covers at least half of it; each true
      object counts once. F1 = 2 found / (predicted + true). No object on either side: 1; on one side only: 0.
    - ``dice``: Dice of each object and its partner, 0 without partner, mean weighted by area; once over the predicted
      and once over the true objects, and the mean of both. No object on either side: 1; on one side only: 0.
    - ``hausdorff``: likewise with the Hausdorff distance of the two sets of pixels, in px; an object without partner
      takes the nearest of the other side, nearest by this distance. Where the other side of its image is empty it is
      the image's diagonal, the largest distance that two of its pixels can have. No object on either side: 0.

    ``reduction="set"`` is the challenge's: found, predicted and true objects are summed over all images, and areas are
    weights over all objects of the set, so a large image weighs more. ``"image"`` is the mean over images of what each
    would score alone; some papers give that. Sums are gathered over ranks; batches and ranks do not matter. Like every
    cumulative metric of MONAI it needs at least one image on each rank.

    The truth names every object: labels with unknown pixels are refused, since no one can say whether an object that
    reaches into them was found.

    Differs from the paper: its program asks for more than half of a true object, its text for at least half, as here.
    """

    def __init__(
        self,
        score: ObjectScore,
        reduction: ObjectReduction = "set",
        connected_prediction: bool = False,
        connected_truth: bool = False,
    ) -> None:
        """Make the metric.

        Args:
            score: ``f1``, ``dice`` or ``hausdorff``.
            reduction: ``set`` or ``image``.
            connected_prediction: whether the connected pieces (by sides and corners) of each number are objects of
                their own in the prediction, for masks of 0 and 1. Without, all pixels with one number are one object.
            connected_truth: likewise in the truth. The challenge scores masks as they are stored, without.

        Raises:
            ValueError: for another score or reduction.
        """
        super().__init__()
        if score not in ("f1", "dice", "hausdorff"):
            raise ValueError(f"score is {score!r}; write 'f1', 'dice' or 'hausdorff'")
        if reduction not in ("set", "image"):
            raise ValueError(f"reduction is {reduction!r}; write 'set' or 'image'")
        self.score = score
        self.reduction = reduction
        self.connected_prediction = connected_prediction
        self.connected_truth = connected_truth

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **kwargs: Any) -> Tensor:
        """Sum over the objects of each image: (B, 4) float64.

        Args:
            y_pred: label maps (B, 1, H, W), 0 background, each other number an object; or a list of (1, H, W), whose
                sizes may differ.
            y: the truth, likewise.
            kwargs: nothing; MONAI's interface has them.

        Returns:
            Sum of values and sum of weights of the predicted objects, then of the true ones.

        Raises:
            ValueError: without truth, for other shapes, or for values that are no whole numbers from 0 on.
        """
        truth = require_truth(y)
        require_same_size(y_pred, truth)
        pairs = zip(label_maps(y_pred, "y_pred"), label_maps(truth, "y"), strict=True)
        return torch.tensor([self._sums(*pair) for pair in pairs], dtype=torch.float64, device=y_pred.device)

    def _sums(self, predicted: Plane, truth: Plane) -> list[float]:
        """Sums of values and weights of one image: predicted objects, true objects."""
        predicted = numbered(predicted, self.connected_prediction)
        truth = numbered(truth, self.connected_truth)
        both = overlaps(predicted, truth)
        if self.score == "f1":
            found = both.found()
            return [found, len(both.areas_predicted), found, len(both.areas_true)]
        values = _dice(both) if self.score == "dice" else _hausdorff(both, predicted, truth)
        weights = (both.areas_predicted, both.areas_true)
        return [float(number) for side in (0, 1) for number in (values[side] @ weights[side], weights[side].sum())]

    def aggregate(self) -> Tensor:
        """Give the score of the set: a tensor without dimensions, float64; px for ``hausdorff``, else in [0, 1].

        Raises:
            ValueError: before the first image.
        """
        sums = require_counted(self.get_buffer())
        return self._scored(sums.sum(0)) if self.reduction == "set" else self._scored(sums).mean()

    def per_image(self) -> Tensor:
        """Give what each image would score alone, (images, 1) float64.

        Raises:
            ValueError: before the first image.
        """
        return self._scored(require_counted(self.get_buffer())).unsqueeze(1)

    def _scored(self, sums: Tensor) -> Tensor:
        """Turn sums (..., 4) into scores (...)."""
        values, weights = sums[..., 0::2], sums[..., 1::2]
        has_objects = weights > 0
        if self.score == "f1":
            return torch.where(has_objects.any(-1), values.sum(-1) / weights.sum(-1).clamp_min(1), 1.0)
        means = values / weights.clamp_min(1)
        if self.score == "dice":
            return torch.where(has_objects.any(-1), means.mean(-1), 1.0)
        return means.sum(-1) / has_objects.sum(-1).clamp_min(1)


class ObjectScores(DetailedMetricHandler):
    """Handler of :class:`ObjectScoresMetric`, as a config names it.

    For example ``{"_target_": "bundle.metrics.ObjectScores", "score": "f1", "output_transform":
    "$monai.handlers.from_engine(['pred_instances', 'instances'])"}``.
    """

    def __init__(
        self,
        score: ObjectScore,
        reduction: ObjectReduction = "set",
        connected_prediction: bool = False,
        connected_truth: bool = False,
        output_transform: Callable[[Any], Any] = lambda output: output,
        save_details: bool = True,
    ) -> None:
        """Make the handler.

        Args:
            score: ``f1``, ``dice`` or ``hausdorff``.
            reduction: ``set`` or ``image``.
            connected_prediction: whether connected pieces of a number are objects of their own in the prediction.
            connected_truth: likewise in the truth.
            output_transform: takes (prediction, truth) from the output of the engine.
            save_details: whether the score of each image goes to ``engine.state.metric_details``, (images, 1).

        Raises:
            ValueError: for another score or reduction.
        """
        metric = ObjectScoresMetric(score, reduction, connected_prediction, connected_truth)
        super().__init__(metric, output_transform, metric.per_image if save_details else None)


def _dice(both: Overlaps) -> tuple[Values, Values]:
    """Dice of each predicted and of each true object with its partner, 0 without."""
    dice = both.dice()
    return _of_partner(dice, both.partners_of_predicted), _of_partner(dice.T, both.partners_of_true)


def _of_partner(values: Values, partners: Plane) -> Values:
    found = np.zeros(len(partners))
    matched = partners >= 0
    found[matched] = values[matched, partners[matched]]
    return found


def _hausdorff(both: Overlaps, predicted: Plane, truth: Plane) -> tuple[Values, Values]:
    """Distance of each predicted and of each true object to its partner, else to the nearest, else the diagonal."""
    distances = ObjectDistances(predicted, truth)
    diagonal = np.hypot(*(side - 1 for side in truth.shape))
    of_predicted = distances.of_partners(0, both.partners_of_predicted)
    return np.minimum(of_predicted, diagonal), np.minimum(distances.of_partners(1, both.partners_of_true), diagonal)
