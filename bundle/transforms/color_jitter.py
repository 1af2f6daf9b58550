"""Jitter of colors: brightness, contrast, saturation and hue."""

from __future__ import annotations

import math

import torch
from skimage.color.colorconv import rgb_from_yiq, yiq_from_rgb
from torch import Tensor

from bundle.transforms.color_view import Change, Constant, uniform


class ColorJitter(Change):
    """Other brightness, contrast, saturation and hue, as of another scanner or lamp.

    All four are linear in RGB, so they are one matrix and one offset an image:

        rgb' = b (c (R rgb - m) + m)

    R turns the color about the axis of grays, in YIQ, by the hue's angle and stretches it by the saturation; m is the
    image's mean luma, which R leaves alone; c is the contrast and b the brightness. Each factor is drawn for each image
    from [1 - amount, 1 + amount].

    Differs from the jitter of torchvision: one order of the four, cut to [0, 1] at the end alone, and the hue is turned
    in YIQ and not in HSV.

    Args:
        brightness: amount, in [0, 1].
        contrast: amount, in [0, 1].
        saturation: amount, in [0, 1].
        hue: largest turn to either side as a share of the whole circle, in [0, 0.5]. In H&E hue tells the stains
            apart: half a turn makes them trade places.
        probability: share of the images that are changed.

    Raises:
        ValueError: for an amount outside of its range.
    """

    def __init__(
        self, brightness: float, contrast: float, saturation: float, hue: float, probability: float = 1.0
    ) -> None:
        super().__init__(probability)
        if not all(0.0 <= amount <= 1.0 for amount in (brightness, contrast, saturation, 2.0 * hue)):
            given = f"brightness {brightness}, contrast {contrast}, saturation {saturation}, hue {hue}"
            raise ValueError(f"amounts lie in [0, 1], that of the hue in [0, 0.5]; got {given}")
        self.brightness = brightness
        self.contrast = contrast
        self.saturation = saturation
        self.hue = hue
        self._to_luma = Constant(yiq_from_rgb.tolist())
        self._to_colors = Constant(rgb_from_yiq.tolist())

    def changed(self, image: Tensor) -> Tensor:
        """All images (B, 3, H, W) in other colors."""
        to_luma, to_colors = self._to_luma.beside(image), self._to_colors.beside(image)
        brightness, contrast, saturation = (
            uniform(image, (len(image),), 1.0 - amount, 1.0 + amount)
            for amount in (self.brightness, self.contrast, self.saturation)
        )
        angle = 2.0 * math.pi * uniform(image, (len(image),), -self.hue, self.hue)
        along, across = saturation * angle.cos(), saturation * angle.sin()
        none, one = torch.zeros_like(angle), torch.ones_like(angle)
        turned = torch.stack([one, none, none, none, along, -across, none, across, along], dim=1).view(-1, 3, 3)
        matrix = (brightness * contrast)[:, None, None] * (to_colors @ turned @ to_luma)
        luma = image.mean(dim=(2, 3)) @ to_luma[0]
        offset = brightness * (1.0 - contrast) * luma
        return torch.einsum("bij,bjhw->bihw", matrix, image) + offset[:, None, None, None]
