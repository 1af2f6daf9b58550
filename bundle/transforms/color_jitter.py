"""Color jitter: brightness, contrast, saturation and hue."""

from __future__ import annotations

import math

import torch
from skimage.color.colorconv import rgb_from_yiq, yiq_from_rgb
from torch import Tensor

from bundle.transforms.color_view import ColorChange, Constant, uniform


class ColorJitter(ColorChange):
    """Random brightness, contrast, saturation and hue, as of another scanner.

    All four are linear in RGB, so they are one matrix and one offset for each image:

        rgb' = b (c (R rgb - m) + m)

    R rotates the color around the gray axis, in YIQ, by the angle of the hue and scales it by the saturation; m is the
    mean luma of the image, which R does not change; c is the contrast and b the brightness. Each factor is drawn for
    each image from [1 - amount, 1 + amount].

    Differs from torchvision's ``ColorJitter``: the order of the four is fixed, values are clipped to [0, 1] only at the
    end, and the hue is rotated in YIQ, not in HSV.

    Args:
        brightness: amount, in [0, 1].
        contrast: amount, in [0, 1].
        saturation: amount, in [0, 1].
        hue: largest rotation in either direction as a share of the full circle, in [0, 0.5]. The stains of H&E differ
            in hue: half a circle swaps them.
        probability: share of the images that are changed.

    Raises:
        ValueError: if an amount is outside its range.
    """

    def __init__(
        self, brightness: float, contrast: float, saturation: float, hue: float, probability: float = 1.0
    ) -> None:
        super().__init__(probability)
        if not all(0.0 <= amount <= 1.0 for amount in (brightness, contrast, saturation, 2.0 * hue)):
            amounts = f"brightness {brightness}, contrast {contrast}, saturation {saturation}, hue {hue}"
            raise ValueError(f"amounts must be in [0, 1], that of the hue in [0, 0.5]; got {amounts}")
        self.brightness = brightness
        self.contrast = contrast
        self.saturation = saturation
        self.hue = hue
        self._to_luma = Constant(yiq_from_rgb.tolist())
        self._to_colors = Constant(rgb_from_yiq.tolist())

    def apply(self, image: Tensor) -> Tensor:
        """Return the images (B, 3, H, W) with jittered colors."""
        to_luma, to_colors = self._to_luma.on_device_of(image), self._to_colors.on_device_of(image)
        brightness, contrast, saturation = (
            uniform(image, (len(image),), 1.0 - amount, 1.0 + amount)
            for amount in (self.brightness, self.contrast, self.saturation)
        )
        angle = 2.0 * math.pi * uniform(image, (len(image),), -self.hue, self.hue)
        cosine, sine = saturation * angle.cos(), saturation * angle.sin()
        zero, one = torch.zeros_like(angle), torch.ones_like(angle)
        rotation = torch.stack([one, zero, zero, zero, cosine, -sine, zero, sine, cosine], dim=1).view(-1, 3, 3)
        matrix = (brightness * contrast)[:, None, None] * (to_colors @ rotation @ to_luma)
        luma = image.mean(dim=(2, 3)) @ to_luma[0]
        offset = brightness * (1.0 - contrast) * luma
        return torch.einsum("bij,bjhw->bihw", matrix, image) + offset[:, None, None, None]
