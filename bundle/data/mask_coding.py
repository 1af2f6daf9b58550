"""Masks whose values are not the label: gray masks to threshold, and masks whose colors are classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bundle.data.raw_pixels import Stored
from bundle.data.rgb_conversion import check_opaque, to_rgb

Color = tuple[int, int, int]
"""Red, green and blue, in [0, 255]."""


@dataclass(frozen=True)
class MaskCoding:
    """How the values of a mask become a label map: by a threshold, or by colors."""

    threshold: float | None = None
    """Values above it are 1, all others 0."""
    colors: Mapping[Color, int] | None = None
    """Value of each color; a mask must have no other."""

    def label_of(self, stored: Stored) -> tuple[Stored, str]:
        """Return the label map (H, W) of a mask, as if it had been stored so, and a note.

        Raises:
            ValueError: if the mask has transparent parts, a color that is not in ``colors``, or, with a threshold,
                colors that are not gray.
        """
        check_opaque(stored)
        if self.colors is not None:
            values, note = self._from_colors(stored), "colors read as values"
        else:
            values, note = self._above(stored), f"values above {self.threshold:g} read as foreground"
        return replace(stored, values=values, alpha=None, palette=None, white_is_zero=False, lossy=False), note

    def _above(self, stored: Stored) -> NDArray[np.uint8]:
        values = stored.values if stored.palette is None else stored.palette[stored.values][..., :3]
        if values.ndim == 3:
            if (values != values[..., :1]).any():
                raise ValueError("it has colors, to which --threshold does not apply; give --colors")
            values = values[..., 0]
        if stored.white_is_zero:
            raise ValueError("white is stored as 0 (MinIsWhite), so the background is ambiguous; save it as PNG")
        if values.dtype.kind == "b":
            values = values * np.uint8(255)  # a picture of 1 bit: white is above any threshold
        return (values > self.threshold).astype(np.uint8)

    def _from_colors(self, stored: Stored) -> NDArray[np.uint8]:
        pixels, _ = to_rgb(replace(stored, alpha=None))
        label = np.zeros(pixels.shape[:2], np.uint8)
        known = np.zeros(pixels.shape[:2], bool)
        for color, value in (self.colors or {}).items():
            here = (pixels == np.array(color, np.uint8)).all(axis=2)
            label[here] = value
            known |= here
        if not known.all():
            unknown = ",".join(map(str, pixels[~known][0]))
            advice = "save it as PNG, since JPEG changes colors" if stored.lossy else f"add {unknown}=VALUE to --colors"
            raise ValueError(f"{np.count_nonzero(~known)} px have colors without a value, first {unknown}; {advice}")
        return label
