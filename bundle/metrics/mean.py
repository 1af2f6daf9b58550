"""Mean overlap: MONAI's Dice or Jaccard of each image, averaged over the images."""

from __future__ import annotations

from typing import Any

from monai.handlers import IgniteMetricHandler
from monai.metrics import DiceMetric, MeanIoU
from monai.networks import one_hot
from torch import Tensor

from bundle.metrics.inputs import known_from_engine
from bundle.metrics.pooled import OverlapName
from bundle.types import LABEL, PRED


class MeanOverlap(IgniteMetricHandler):
    """Ignite handler of MONAI's ``DiceMetric`` or ``MeanIoU`` over the foreground classes, for configs.

    The scores of each image and class are saved in ``engine.state.metric_details``. If a class is in neither prediction
    nor label, its overlap is 1. Unknown pixels count as background in both.

    For example ``{"_target_": "bundle.metrics.MeanOverlap", "metric": "dice", "num_classes": "@classes"}``.
    """

    def __init__(self, metric: OverlapName = "dice", num_classes: int = 2) -> None:
        """Initialize the handler.

        Args:
            metric: ``dice`` or ``jaccard``, which MONAI calls IoU.
            num_classes: number of classes, including the background.

        Raises:
            ValueError: if ``metric`` is unknown.
        """
        if metric not in ("dice", "jaccard"):
            raise ValueError(f"metric is {metric!r}; choose 'dice' or 'jaccard'")
        known = known_from_engine([PRED, LABEL])

        def known_one_hot(output: Any) -> list[list[Tensor]]:
            return [[one_hot(item, num_classes, dim=0) for item in items] for items in known(output)]

        if metric == "dice":
            dice = DiceMetric(include_background=False, num_classes=num_classes, ignore_empty=False)
            super().__init__(metric_fn=dice, output_transform=known)
        else:
            jaccard = MeanIoU(include_background=False, ignore_empty=False)
            super().__init__(metric_fn=jaccard, output_transform=known_one_hot)
