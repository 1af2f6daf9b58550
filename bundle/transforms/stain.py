"""Stain jitter for H&E images."""

from __future__ import annotations

import torch
from skimage.color import hed_from_rgb, rgb_from_hed
from torch import Tensor

from bundle.transforms.color_view import ColorChange, Constant, uniform

MINIMUM_LIGHT = 1.0 / 255.0
"""Smallest intensity, one step of 8 bits, because 0 has no logarithm."""


class StainJitter(ColorChange):
    """Random amount of each stain, as of another laboratory (Tellez et al. 2018, arXiv 1808.05896).

    Light is absorbed exponentially, so stains add in optical density. With the density d = -log(rgb) of a pixel as a
    row vector, and the densities of the stains as the rows of M (hematoxylin, eosin, DAB; Ruifrok and Johnston 2001,
    from scikit-image), the amounts are s = d M^-1. New amounts are a s + b, with a in [1 - scale, 1 + scale] and b in
    [-shift, shift] drawn for each image and stain:

        rgb' = rgb exp(-((a - 1) s + b) M)

    This form is the identity if a is 1 and b is 0; scikit-image clips amounts below 0.

    Args:
        scale: largest deviation of a from 1, in [0, 1]; 0.2 is up to a fifth more or less of a stain.
        shift: largest deviation of b from 0, in units of natural optical density; it also tints the background.
        probability: share of the images that are changed.

    Raises:
        ValueError: if ``scale`` is outside [0, 1] or ``shift`` is below 0.
    """

    def __init__(self, scale: float, shift: float, probability: float = 1.0) -> None:
        super().__init__(probability)
        if not 0.0 <= scale <= 1.0 or shift < 0.0:
            raise ValueError(f"scale must be in [0, 1] and shift 0 or more, got {scale} and {shift}")
        self.scale = scale
        self.shift = shift
        self._stains = Constant(rgb_from_hed.tolist())
        self._amounts = Constant(hed_from_rgb.tolist())

    def apply(self, image: Tensor) -> Tensor:
        """Return the images (B, 3, H, W) with other amounts of stain."""
        stains, amounts = self._stains.on_device_of(image), self._amounts.on_device_of(image)
        factor = uniform(image, (len(image), 3), -self.scale, self.scale)
        shift = uniform(image, (len(image), 3), -self.shift, self.shift)
        # b: image; d: channel of the density; s: stain; c: channel of the added density
        matrix = torch.einsum("ds,bs,sc->bcd", amounts, factor, stains)
        density = -image.clamp_min(MINIMUM_LIGHT).log()
        added = torch.einsum("bcd,bdhw->bchw", matrix, density) + (shift @ stains)[:, :, None, None]
        return image * torch.exp(-added)
