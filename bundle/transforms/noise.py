"""A view with Gaussian noise."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from bundle.transforms.color_view import RecoloredBatch
from bundle.types import IMAGE, Batch, Viewed


@dataclass(frozen=True)
class GaussianNoiseView:
    """View with additive clipped Gaussian noise, as in Mean Teacher for segmentation.

    image + clamp(sd * e, -limit, limit), e ~ N(0, 1), random at each call. Use two views if student and teacher shall
    see different noise.

    Args:
        sd: standard deviation before clipping, in units of the normalized image; 0 or more.
        limit: largest absolute value of the noise, in the same units; 0 or more.

    Raises:
        ValueError: if ``sd`` or ``limit`` is negative.
    """

    sd: float = 0.1
    limit: float = 0.2

    def __post_init__(self) -> None:
        """Check that ``sd`` and ``limit`` are not negative."""
        if self.sd < 0.0 or self.limit < 0.0:
            raise ValueError(f"sd and limit of the noise must be 0 or more, got {self.sd} and {self.limit}")

    def __call__(self, batch: Batch) -> Viewed:
        """Return ``batch`` with noise on ``image`` (B, 3, H, W); other entries are unchanged."""
        image = batch[IMAGE]
        noise = torch.randn_like(image).mul_(self.sd).clamp_(-self.limit, self.limit)
        return RecoloredBatch(batch | {IMAGE: image + noise})
