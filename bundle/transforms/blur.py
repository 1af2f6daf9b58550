"""Gaussian blur, as of an image out of focus."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from bundle.transforms.color_view import ColorChange, uniform

TRUNCATE = 3.0
"""Radius of the kernel in standard deviations; 0.3 % of a Gaussian lies beyond."""
MINIMUM_SD = 1e-3
"""Smallest standard deviation (px), which has no visible effect; avoids a division by 0."""


class GaussianBlur(ColorChange):
    """Gaussian blur with a random standard deviation for each image.

    MONAI's ``GaussianFilter`` has one standard deviation for a whole batch. Here the batch is reshaped to one image of
    3 B channels for a grouped, separable convolution. Borders are padded by replication.

    Args:
        sd: smallest and largest standard deviation (px), drawn uniformly for each image.
        probability: share of the images that are changed.

    Raises:
        ValueError: if ``sd`` is not a range of numbers of 0 or more.
    """

    def __init__(self, sd: Sequence[float], probability: float = 1.0) -> None:
        super().__init__(probability)
        self.low, self.high = sd
        if not 0.0 <= self.low <= self.high:
            raise ValueError(f"sd must be two numbers of 0 or more, the smaller first; got {list(sd)}")
        self.radius = math.ceil(TRUNCATE * self.high)

    def apply(self, image: Tensor) -> Tensor:
        """Return the blurred images (B, 3, H, W)."""
        batch, channels, height, width = image.shape
        sd = uniform(image, (batch, 1), self.low, self.high).clamp_min(MINIMUM_SD)
        offsets = torch.arange(-self.radius, self.radius + 1, device=image.device, dtype=torch.float32)
        kernel = torch.exp(-0.5 * (offsets / sd) ** 2)
        kernel = (kernel / kernel.sum(dim=1, keepdim=True)).repeat_interleave(channels, dim=0)
        padded = functional.pad(image, [self.radius] * 4, mode="replicate")
        planes = padded.reshape(1, batch * channels, *padded.shape[2:])
        planes = functional.conv2d(planes, kernel[:, None, :, None], groups=batch * channels)
        planes = functional.conv2d(planes, kernel[:, None, None, :], groups=batch * channels)
        return planes.reshape(batch, channels, height, width)
