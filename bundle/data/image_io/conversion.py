"""Conversion of stored pixels to 8-bit RGB or to a label map, each with a note on what was changed.

Masks whose values are not the label (gray masks, masks with a color for each class) are converted by a ``MaskCoding``.

Conversions of colors work in strips: their intermediate values take several times the memory of the picture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.data.image_io.label_values import label_kind
from bundle.data.image_io.raw_pixels import UPRIGHT, Stored, strips

DEPTHS = (8, 12, 16)
"""Bit depths of scanners and cameras. Files have 8 or 16 bits and do not store how many of the 16 are used."""
TURNED = "turned upright by its EXIF or TIFF orientation"
"""Note on pixels that are not as stored, but as viewers show them."""
Color = tuple[int, int, int]
"""Red, green and blue, in [0, 255]."""


def to_rgb(stored: Stored) -> tuple[NDArray[np.uint8], str | None]:
    """Convert to (H, W, 3), uint8 RGB; returns the pixels and a note.

    Raises:
        ValueError: if values cannot be interpreted as colors.
    """
    values, alpha = stored.values, stored.alpha
    notes: list[str | None] = [TURNED if stored.orientation != UPRIGHT else None]
    if stored.palette is not None:
        colors = _by_strips(stored.palette.__getitem__, values)
        values, alpha = colors[..., :3], colors[..., 3] if alpha is None else alpha
        notes.append("palette to RGB")
    pixels, note = to_bytes(values, stored.bits)
    notes.append(note)
    if stored.white_is_zero:
        pixels = 255 - pixels
        notes.append("inverted, because white is stored as 0")
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        pixels = _by_strips(_from_cmyk, pixels)
        notes.append("CMYK to RGB")
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
        notes.append("gray repeated to RGB")
    # The alpha of 255 of a palette without transparency is not in the file.
    if alpha is not None and not (stored.alpha is None and stored.palette is not None and (alpha == 255).all()):
        pixels, note = _blend_over_white(pixels, to_bytes(alpha)[0], stored.premultiplied)
        notes.append(note)
    return np.ascontiguousarray(pixels), ", ".join(filter(None, notes)) or None


def to_label(stored: Stored, classes: int | None = None) -> tuple[NDArray[np.int32], str | None]:
    """Convert to a label map (H, W), int32; returns the map and a note.

    Raises:
        ValueError: if pixels are colors, the background is ambiguous, or ``label_kind`` rejects the values.
    """
    values, notes = stored.values, [TURNED] if stored.orientation != UPRIGHT else []
    if stored.white_is_zero:
        raise ValueError("white is stored as 0 (MinIsWhite), so the background is ambiguous; save it as PNG")
    check_opaque(stored)
    if stored.alpha is not None:
        notes.append("opaque alpha removed")
    if values.ndim == 3:
        if (values != values[..., :1]).any():
            raise ValueError(
                "a mask must have one channel, this one has colors; save instance numbers or "
                "classes, or prepare it with --colors"
            )
        values = values[..., 0]
        notes.append("equal channels reduced to one")
    if stored.palette is not None:
        _check_palette(values, stored.palette)
    reading = label_kind(values, classes)
    if stored.lossy and reading in ("instances", "classes"):
        raise ValueError(
            "it is a JPEG, which changes the values of a mask; export it again as PNG, or prepare it with --threshold"
        )
    return values.astype(np.int32), ", ".join(notes) or None


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


def check_opaque(stored: Stored) -> None:
    """Check that a mask has no transparent parts.

    Raises:
        ValueError: if it has.
    """
    if stored.alpha is not None and (to_bytes(stored.alpha)[0] != 255).any():
        raise ValueError("a mask must not have transparent parts; save it without transparency")


def to_bytes(values: NDArray[Any], bits: int | None = None) -> tuple[NDArray[np.uint8], str | None]:
    """Convert values of any shape to 8 bits; returns them and a note.

    Integers of 16 bits or more are interpreted as 8, 12 or 16 bits, the smallest depth that holds the largest value:
    slides are bright, so an image whose largest value is below a sixteenth of the range would be black in 16 bits and
    has in fact 12 or 8. Floats are in [0, 1] or [0, 255], which is decided by the largest value too.

    Args:
        values: bool, integers or floats.
        bits: bits of a value, if known.

    Raises:
        ValueError: if values are negative, not finite or too large.
    """
    kind = values.dtype.kind
    if kind not in "biuf":
        raise ValueError(f"values have the type {values.dtype}; save it as a picture of 8 bits")
    if kind == "b":
        return values.astype(np.uint8) * np.uint8(255), "1 bit scaled to 8"
    if bits is not None:
        return _scaled(values, 2**bits - 1), f"{bits} bits scaled to 8"
    if values.dtype == np.uint8:
        return values, None
    lowest, highest = values.min(), values.max()
    if not (np.isfinite(lowest) and np.isfinite(highest)):
        raise ValueError("some values are not finite; save it with values from 0 to 255")
    if lowest < 0:
        raise ValueError(f"the lowest value is {lowest:g}; save it with values from 0 to 255")
    if kind == "f":
        if 1 < highest < 16 or highest > 255:
            raise ValueError(f"the highest value is {highest:g}, which fits neither [0, 1] nor [0, 255]; scale it")
        top = 1 if highest <= 1 else 255
        return _scaled(values, top), f"floats in [0, {top}] scaled to 8 bits"
    depth = next((depth for depth in DEPTHS if highest < 2**depth), None)
    if depth is None:
        raise ValueError(f"the highest value is {highest}, above 16 bits; save it with values from 0 to 255")
    stored_bits = 8 * values.itemsize
    name = f"{depth} bits" if depth == stored_bits else f"{depth} bits in {stored_bits}"
    return _scaled(values, 2**depth - 1), f"{name} {'not scaled' if depth == 8 else 'scaled to 8'}"


def _scaled(values: NDArray[Any], top: int) -> NDArray[np.uint8]:
    if values.dtype.kind == "f":
        dtype = np.result_type(values, np.float32)
        return _by_strips(lambda part: np.rint(part.astype(dtype) * (255 / top)).astype(np.uint8), values)
    return _by_strips(np.rint(np.arange(top + 1) * (255 / top)).astype(np.uint8).__getitem__, values)


def _from_cmyk(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    ink = 255 - pixels.astype(np.uint32)
    return np.rint(ink[..., :3] * ink[..., 3:] / 255).astype(np.uint8)


def _blend_over_white(
    pixels: NDArray[np.uint8], alpha: NDArray[np.uint8], premultiplied: bool
) -> tuple[NDArray[np.uint8], str]:
    if (alpha == 255).all():
        return pixels, "opaque alpha removed"
    if not alpha.any():
        raise ValueError("it is fully transparent; save it without transparency")

    def blended(colors: NDArray[np.uint8], opacity: NDArray[np.uint8]) -> NDArray[np.uint8]:
        share = opacity[..., None] / 255
        mixed = (colors if premultiplied else colors * share) + 255 * (1 - share)
        return np.rint(np.minimum(mixed, 255)).astype(np.uint8)

    return _by_strips(blended, pixels, alpha), "transparent parts blended over white"


def _by_strips(convert: Callable[..., NDArray[np.uint8]], *values: NDArray[Any]) -> NDArray[np.uint8]:
    """Apply an elementwise conversion to arrays (H, ...) of the same height, some rows at a time."""
    slices = list(strips(values[0].shape))
    if len(slices) < 2:
        return convert(*values)
    first = convert(*(array[slices[0]] for array in values))
    converted = np.empty((len(values[0]), *first.shape[1:]), np.uint8)
    converted[slices[0]] = first
    for rows in slices[1:]:
        converted[rows] = convert(*(array[rows] for array in values))
    return converted


def _check_palette(values: NDArray[Any], palette: NDArray[np.uint8]) -> None:
    """Refuse gray palettes whose black is not index 0: programs that shrink palettes may reorder them."""
    used = np.flatnonzero(np.bincount(values.ravel(), minlength=256))
    colors = palette[used, :3]
    gray = (colors == colors[:, :1]).all()
    if gray and colors.any() and ((used == 0) != (colors[:, 0] == 0)).any():
        raise ValueError("index 0 of its palette is not black, or another index is; save it as grayscale")
