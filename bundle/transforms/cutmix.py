"""CutMix: a box of one image pasted into another, with its label."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bundle.transforms.color_view import refuse_probability, uniform
from bundle.types import IMAGE, Batch, PseudoLabel, Viewed


@dataclass
class Mixed:
    """A batch in which some images hold a box of another.

    Attributes:
        batch: what is shown.
        partner: (B,), the image that each takes its box from.
        inside: (B, 1, H, W), bool, where the box is.
    """

    batch: Batch
    partner: Tensor
    inside: Tensor

    def carry(self, label: PseudoLabel) -> PseudoLabel:
        """Paste target and weight with the same boxes; a weight of ``None`` stays so, as all pixels count alike."""
        weight = None if label.weight is None else self.mix(label.weight)
        return PseudoLabel(self.mix(label.target), weight)

    def mix(self, maps: Tensor) -> Tensor:
        """Maps (B, C, H, W) of any type, with the boxes."""
        return torch.where(self.inside, maps[self.partner], maps)


class CutMix:
    """Pastes into images a box of another image of the batch, at the same place.

    Yun et al. 2019 (arXiv 1905.04899) for classification, French et al. 2020 (arXiv 1906.01916) for segmentation, where
    the label is pasted likewise. It tears context apart: what a pixel is must be told from what is near.

    The images of a batch stand in a random ring and each takes from its neighbor, so none takes from itself; a batch
    of one image stays as it is. Each has a box of its own.

    Differs from UniMatch, whose amounts these are: partners are of the same batch; a box too long for the image is cut
    where there another is drawn; wide and tall boxes are equally likely.

    Args:
        area: smallest and largest share of the image, in [0, 1].
        aspect: smallest and largest ratio of its sides, each as a share of the image's, above 0; the logarithm is drawn
            evenly.
        probability: share of the images that get a box.

    Raises:
        ValueError: for a range that is none, or a probability outside of [0, 1].
    """

    def __init__(self, area: Sequence[float], aspect: Sequence[float], probability: float = 1.0) -> None:
        refuse_probability(probability)
        if not 0.0 <= area[0] <= area[1] <= 1.0 or not 0.0 < aspect[0] <= aspect[1]:
            raise ValueError(f"area is a range in [0, 1], aspect one above 0; got {list(area)} and {list(aspect)}")
        self.area = (area[0], area[1])
        self.aspect = (aspect[0], aspect[1])
        self.probability = probability

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Viewed:
        """Show ``batch`` with boxes; every (B, C, H, W) of it follows, a number an image stays its own."""
        image: Tensor = batch[IMAGE]
        ring = uniform(image, (len(image),), 0.0, 1.0).argsort()
        partner = torch.empty_like(ring).scatter_(0, ring, ring.roll(1))
        mixed = Mixed(batch, partner, self._boxes(image))
        maps = {key: mixed.mix(value) for key, value in batch.items() if _is_map(value, image)}
        return Mixed(batch | maps, partner, mixed.inside)

    def _boxes(self, image: Tensor) -> Tensor:
        """Boxes of random size and place (B, 1, H, W), bool; none where an image is not drawn."""
        each = (len(image), 1, 1, 1)
        area = uniform(image, each, *self.area)
        aspect = uniform(image, each, math.log(self.aspect[0]), math.log(self.aspect[1])).exp()
        inside = uniform(image, each, 0.0, 1.0) < self.probability
        for dim, side in ((2, (area * aspect).sqrt()), (3, (area / aspect).sqrt())):
            side = side.clamp_max(1.0)
            start = uniform(image, each, 0.0, 1.0) * (1.0 - side)
            length = image.shape[dim]
            middle = (torch.arange(length, device=image.device) + 0.5) / length
            middle = middle[:, None] if dim == 2 else middle
            inside = inside & (middle >= start) & (middle < start + side)
        return inside


def _is_map(value: Any, image: Tensor) -> bool:
    """Whether an entry of a batch has pixels, those of the image."""
    return isinstance(value, Tensor) and value.ndim == 4 and value.shape[2:] == image.shape[2:]
