"""A view with noise."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from bundle.transforms.color_view import Recolored
from bundle.types import IMAGE, Batch, Viewed


@dataclass(frozen=True)
class GaussianNoiseView:
    """Adds Gaussian noise to every value of the images, cut at a limit: what Mean Teacher for segmentation sees.

    image + clamp(sd * e, -limit, limit), e ~ N(0, 1), drawn anew at each call: for student and teacher to see
    different noise, each needs a view of its own.

    Args:
        sd: standard deviation before the cut, in units of the normalized image; 0 or more.
        limit: largest size of the noise, in the same units, 0 or more.

    Raises:
        ValueError: for a negative number.
    """

    sd: float = 0.1
    limit: float = 0.2

    def __post_init__(self) -> None:
        """Refuse what is no size of noise."""
        if self.sd < 0.0 or self.limit < 0.0:
            raise ValueError(f"sd and limit of the noise are 0 or more, got {self.sd} and {self.limit}")

    def __call__(self, batch: Batch) -> Viewed:
        """Show ``batch`` with noise on ``image`` (B, 3, H, W); its other entries are the same."""
        image = batch[IMAGE]
        noise = torch.randn_like(image).mul_(self.sd).clamp_(-self.limit, self.limit)
        return Recolored(batch | {IMAGE: image + noise})
