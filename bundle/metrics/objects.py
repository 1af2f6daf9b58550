"""Scores of the GlaS challenge: object F1, object Dice and object Hausdorff distance of instance label maps.

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
    """Object F1, object Dice or object Hausdorff distance of label maps.

    The partner of a predicted object is the true object with the largest overlap, and vice versa; of several, the one
    with the lowest number. Partners need not be mutual.

    - ``f1``: a true object is detected if a predicted object, whose partner it is, covers at least half of it; each
      true object counts once. F1 = 2 detected / (predicted + true). No objects at all: 1; in only one of the maps: 0.
    - ``dice``: Dice of each object and its partner, 0 without partner, mean weighted by area; computed over the
      predicted and over the true objects, and averaged. No objects at all: 1; in only one of the maps: 0.
    - ``hausdorff``: the same with the Hausdorff distance of the two sets of pixels, in px. An object without partner
      uses the other map's object with the smallest distance; if there is none, the diagonal of the image, the largest
      possible distance. No objects at all: 0.

    ``reduction="set"``, as in the challenge, sums detected, predicted and true objects over all images, and weights by
    area over all objects of the set, so a large image weighs more. ``"image"`` is the mean of the scores of the images,
    as in some papers. Sums are gathered over ranks; batches and ranks do not change the result. Each rank needs at
    least one image, as for every cumulative metric of MONAI.

    Labels must contain every object. Labels with unknown pixels raise an error, because objects that extend into them
    cannot be scored.

    Differs from the challenge's program, which requires more than half of a true object; the paper says at least half.
    """

    def __init__(
        self,
        score: ObjectScore,
        reduction: ObjectReduction = "set",
        connected_prediction: bool = False,
        connected_truth: bool = False,
    ) -> None:
        """Initialize the metric.

        Args:
            score: ``f1``, ``dice`` or ``hausdorff``.
            reduction: ``set`` or ``image``.
            connected_prediction: whether each connected component (8-connectivity) of a number in the prediction is a
                separate object, for masks of 0 and 1. Otherwise all pixels with the same number are one object.
            connected_truth: the same for the label. The challenge does not split the label.

        Raises:
            ValueError: if ``score`` or ``reduction`` is unknown.
        """
        super().__init__()
        if score not in ("f1", "dice", "hausdorff"):
            raise ValueError(f"score is {score!r}; choose 'f1', 'dice' or 'hausdorff'")
        if reduction not in ("set", "image"):
            raise ValueError(f"reduction is {reduction!r}; choose 'set' or 'image'")
        self.score = score
        self.reduction = reduction
        self.connected_prediction = connected_prediction
        self.connected_truth = connected_truth

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **kwargs: Any) -> Tensor:
        """Compute the sums over the objects of each image: (B, 4), float64.

        Args:
            y_pred: label maps (B, 1, H, W), 0 background, each other number an object; or a list of (1, H, W), whose
                sizes may differ.
            y: the label, in the same form.
            kwargs: not used; part of MONAI's interface.

        Returns:
            Sum of values and sum of weights of the predicted objects, then of the true objects.

        Raises:
            ValueError: if there is no label, a shape is wrong, or a value is not an integer of at least 0.
        """
        truth = require_truth(y)
        require_same_size(y_pred, truth)
        pairs = zip(label_maps(y_pred, "y_pred"), label_maps(truth, "y"), strict=True)
        return torch.tensor([self._sums(*pair) for pair in pairs], dtype=torch.float64, device=y_pred.device)

    def _sums(self, predicted: Plane, truth: Plane) -> list[float]:
        """Return the sums of values and weights of one image: predicted objects, true objects."""
        predicted = numbered(predicted, self.connected_prediction)
        truth = numbered(truth, self.connected_truth)
        both = overlaps(predicted, truth)
        if self.score == "f1":
            detected = both.detected()
            return [detected, len(both.areas_predicted), detected, len(both.areas_true)]
        values = _dice(both) if self.score == "dice" else _hausdorff(both, predicted, truth)
        weights = (both.areas_predicted, both.areas_true)
        return [float(number) for side in (0, 1) for number in (values[side] @ weights[side], weights[side].sum())]

    def aggregate(self) -> Tensor:
        """Return the score of the set, a 0-d tensor, float64; in px for ``hausdorff``, otherwise in [0, 1].

        Raises:
            ValueError: if no image was added.
        """
        sums = require_counted(self.get_buffer())
        return self._scores_of(sums.sum(0)) if self.reduction == "set" else self._scores_of(sums).mean()

    def per_image(self) -> Tensor:
        """Return the score of each image, (images, 1), float64.

        Raises:
            ValueError: if no image was added.
        """
        return self._scores_of(require_counted(self.get_buffer())).unsqueeze(1)

    def _scores_of(self, sums: Tensor) -> Tensor:
        """Convert sums (..., 4) to scores (...)."""
        values, weights = sums[..., 0::2], sums[..., 1::2]
        has_objects = weights > 0
        if self.score == "f1":
            return torch.where(has_objects.any(-1), values.sum(-1) / weights.sum(-1).clamp_min(1), 1.0)
        means = values / weights.clamp_min(1)
        if self.score == "dice":
            return torch.where(has_objects.any(-1), means.mean(-1), 1.0)
        return means.sum(-1) / has_objects.sum(-1).clamp_min(1)


class ObjectScores(DetailedMetricHandler):
    """Ignite handler of :class:`ObjectScoresMetric`, for configs.

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
        """Initialize the handler.

        Args:
            score: ``f1``, ``dice`` or ``hausdorff``.
            reduction: ``set`` or ``image``.
            connected_prediction: whether connected components of a number are separate objects in the prediction.
            connected_truth: the same for the label.
            output_transform: maps the output of the engine to (prediction, label).
            save_details: whether to save the score of each image, (images, 1), in ``engine.state.metric_details``.

        Raises:
            ValueError: if ``score`` or ``reduction`` is unknown.
        """
        metric = ObjectScoresMetric(score, reduction, connected_prediction, connected_truth)
        super().__init__(metric, output_transform, metric.per_image if save_details else None)


def _dice(both: Overlaps) -> tuple[Values, Values]:
    """Return the Dice of each predicted and each true object with its partner, 0 without partner."""
    dice = both.dice()
    return _of_partner(dice, both.partners_of_predicted), _of_partner(dice.T, both.partners_of_true)


def _of_partner(values: Values, partners: Plane) -> Values:
    selected = np.zeros(len(partners))
    matched = partners >= 0
    selected[matched] = values[matched, partners[matched]]
    return selected


def _hausdorff(both: Overlaps, predicted: Plane, truth: Plane) -> tuple[Values, Values]:
    """Return the distance of each predicted and each true object to its partner, at most the diagonal of the image."""
    distances = ObjectDistances(predicted, truth)
    diagonal = np.hypot(*(side - 1 for side in truth.shape))
    of_predicted = distances.of_partners(0, both.partners_of_predicted)
    return np.minimum(of_predicted, diagonal), np.minimum(distances.of_partners(1, both.partners_of_true), diagonal)
