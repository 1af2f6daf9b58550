"""Blur: an image out of focus."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from bundle.transforms.color_view import Change, uniform

REACH = 3.0
"""Standard deviations at which the bell curve is cut: 0.3 % of it lies beyond."""
SHARP = 1e-3
"""Standard deviation (px) below which a blur is none, so that 0 is no division by 0."""


class GaussianBlur(Change):
    """Gaussian blur with a width of its own for each image.

    MONAI's ``GaussianFilter`` has one width for a whole batch. Here a batch is one image of 3 B channels, each with its
    own kernel, and rows are blurred before columns. At the border the outermost pixels are repeated.

    Args:
        sd: smallest and largest standard deviation, px; drawn evenly for each image.
        probability: share of the images that are changed.

    Raises:
        ValueError: for a range that is none.
    """

    def __init__(self, sd: Sequence[float], probability: float = 1.0) -> None:
        super().__init__(probability)
        self.low, self.high = sd
        if not 0.0 <= self.low <= self.high:
            raise ValueError(f"sd is a range of numbers of 0 or more, the smaller first; got {list(sd)}")
        self.radius = math.ceil(REACH * self.high)

    def changed(self, image: Tensor) -> Tensor:
        """All images (B, 3, H, W) blurred."""
        batch, channels, height, width = image.shape
        sd = uniform(image, (batch, 1), self.low, self.high).clamp_min(SHARP)
        place = torch.arange(-self.radius, self.radius + 1, device=image.device, dtype=torch.float32)
        kernel = torch.exp(-0.5 * (place / sd) ** 2)
        kernel = (kernel / kernel.sum(dim=1, keepdim=True)).repeat_interleave(channels, dim=0)
        padded = functional.pad(image, [self.radius] * 4, mode="replicate")
        planes = padded.reshape(1, batch * channels, *padded.shape[2:])
        planes = functional.conv2d(planes, kernel[:, None, :, None], groups=batch * channels)
        planes = functional.conv2d(planes, kernel[:, None, None, :], groups=batch * channels)
        return planes.reshape(batch, channels, height, width)
