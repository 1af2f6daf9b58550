"""CutMix: a box of one image is pasted into another, with its label."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bundle.transforms.color_view import check_probability, uniform
from bundle.types import IMAGE, Batch, PseudoLabel, Viewed


@dataclass
class MixedBatch:
    """A batch in which some images contain a box of another image.

    Attributes:
        batch: the mixed batch.
        partner: (B,), index of the image that each box comes from.
        inside: (B, 1, H, W), bool, true inside the boxes.
    """

    batch: Batch
    partner: Tensor
    inside: Tensor

    def transform_label(self, label: PseudoLabel) -> PseudoLabel:
        """Paste the same boxes into target and weight; a weight of ``None`` is kept."""
        weight = None if label.weight is None else self.mix(label.weight)
        return PseudoLabel(self.mix(label.target), weight)

    def mix(self, maps: Tensor) -> Tensor:
        """Return maps (B, C, H, W) of any type with the boxes pasted."""
        return torch.where(self.inside, maps[self.partner], maps)


class CutMix:
    """View in which each image gets a box of another image of the batch, at the same position.

    Yun et al. 2019 (arXiv 1905.04899) for classification, French et al. 2020 (arXiv 1906.01916) for segmentation, where
    the label is pasted too. It breaks up the context, so that the network must rely on local structure.

    Images are ordered in a random ring and each takes its box from the previous one, so none takes it from itself; a
    batch of one image is unchanged. Each image has a different box.

    Differs from UniMatch, from which the amounts are taken: partners come from the same batch; a box too long for the
    image is clipped, not drawn again; wide and tall boxes are equally likely.

    Args:
        area: smallest and largest area of the box as a share of the image, in [0, 1].
        aspect: smallest and largest ratio of its sides, each as a share of the image's, above 0; drawn uniformly
            on a logarithmic scale.
        probability: share of the images that get a box.

    Raises:
        ValueError: if ``area`` or ``aspect`` is not a valid range, or ``probability`` is outside [0, 1].

    Example::

        >>> mixed = CutMix(area=(0.25, 0.25), aspect=(1.0, 1.0))({"image": torch.rand(4, 3, 32, 32)})
        >>> mixed.batch["image"].shape
        torch.Size([4, 3, 32, 32])
    """

    def __init__(self, area: Sequence[float], aspect: Sequence[float], probability: float = 1.0) -> None:
        check_probability(probability)
        if not 0.0 <= area[0] <= area[1] <= 1.0 or not 0.0 < aspect[0] <= aspect[1]:
            raise ValueError(f"area must be a range in [0, 1], aspect one above 0; got {list(area)} and {list(aspect)}")
        self.area = (area[0], area[1])
        self.aspect = (aspect[0], aspect[1])
        self.probability = probability

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Viewed:
        """Return ``batch`` with boxes in all entries (B, C, H, W) of the image's size; others are unchanged."""
        image: Tensor = batch[IMAGE]
        ring = uniform(image, (len(image),), 0.0, 1.0).argsort()
        partner = torch.empty_like(ring).scatter_(0, ring, ring.roll(1))
        mixed = MixedBatch(batch, partner, self._boxes(image))
        maps = {key: mixed.mix(value) for key, value in batch.items() if _is_map(value, image)}
        return MixedBatch(batch | maps, partner, mixed.inside)

    def _boxes(self, image: Tensor) -> Tensor:
        """Return masks (B, 1, H, W), bool, of random boxes; empty for images that are not selected."""
        shape = (len(image), 1, 1, 1)
        area = uniform(image, shape, *self.area)
        aspect = uniform(image, shape, math.log(self.aspect[0]), math.log(self.aspect[1])).exp()
        inside = uniform(image, shape, 0.0, 1.0) < self.probability
        for dim, side in ((2, (area * aspect).sqrt()), (3, (area / aspect).sqrt())):
            side = side.clamp_max(1.0)
            start = uniform(image, shape, 0.0, 1.0) * (1.0 - side)
            length = image.shape[dim]
            centers = (torch.arange(length, device=image.device) + 0.5) / length
            centers = centers[:, None] if dim == 2 else centers
            inside = inside & (centers >= start) & (centers < start + side)
        return inside


def _is_map(value: Any, image: Tensor) -> bool:
    """Return whether an entry of a batch is a map of the image's size."""
    return isinstance(value, Tensor) and value.ndim == 4 and value.shape[2:] == image.shape[2:]
