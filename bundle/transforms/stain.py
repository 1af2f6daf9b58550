"""Jitter of the stains of H&E."""

from __future__ import annotations

import torch
from skimage.color import hed_from_rgb, rgb_from_hed
from torch import Tensor

from bundle.transforms.color_view import Change, Constant, uniform

BLACK = 1.0 / 255.0
"""Light that is left where a pixel is 0: the least that eight bits can tell from it, as 0 has no logarithm."""


class StainJitter(Change):
    """More or less of each stain, as another laboratory might have it (Tellez et al. 2018, arXiv 1808.05896).

    Light that passes a stain falls off exponentially, so stains add in optical density. With the density
    d = -log(rgb) of a pixel as a row, and the stains' own densities as the rows of M (haematoxylin, eosin, DAB; Ruifrok
    and Johnston 2001, by scikit-image), the amounts are s = d M^-1. New amounts are a s + b, with a in [1 - scale,
    1 + scale] and b in [-shift, shift] drawn for each image and stain:

        rgb' = rgb exp(-((a - 1) s + b) M)

    In this form nothing is lost where nothing changes; scikit-image cuts amounts below 0 on its way.

    Args:
        scale: how far a strays from 1, in [0, 1]; 0.2 is a fifth more or less of a stain.
        shift: how far b strays from 0, in units of natural optical density; it also tints the empty glass.
        probability: share of the images that are changed.

    Raises:
        ValueError: for a scale outside of [0, 1], or a shift below 0.
    """

    def __init__(self, scale: float, shift: float, probability: float = 1.0) -> None:
        super().__init__(probability)
        if not 0.0 <= scale <= 1.0 or shift < 0.0:
            raise ValueError(f"scale lies in [0, 1] and shift is 0 or more, got {scale} and {shift}")
        self.scale = scale
        self.shift = shift
        self._stains = Constant(rgb_from_hed.tolist())
        self._amounts = Constant(hed_from_rgb.tolist())

    def changed(self, image: Tensor) -> Tensor:
        """All images (B, 3, H, W) with other amounts of their stains."""
        stains, amounts = self._stains.beside(image), self._amounts.beside(image)
        more = uniform(image, (len(image), 3), -self.scale, self.scale)
        shift = uniform(image, (len(image), 3), -self.shift, self.shift)
        # b: image; d: channel of the density; s: stain; c: channel of what is added to the density
        matrix = torch.einsum("ds,bs,sc->bcd", amounts, more, stains)
        density = -image.clamp_min(BLACK).log()
        added = torch.einsum("bcd,bdhw->bchw", matrix, density) + (shift @ stains)[:, :, None, None]
        return image * torch.exp(-added)
