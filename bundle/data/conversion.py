"""From pixels as stored to RGB of 8 bits, or to a label map; each with a note of what was changed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.data.label_values import reading_of
from bundle.data.stored import Stored

DEPTHS = (8, 12, 16)
"""Bits that scanners and cameras give a value. Files have 8 or 16; which of the 16 are used no file says."""


def to_rgb(stored: Stored) -> tuple[NDArray[np.uint8], str | None]:
    """(H, W, 3) uint8 RGB and a note.

    Raises:
        ValueError: where values have no right reading as colors.
    """
    values, alpha = stored.values, stored.alpha
    notes: list[str | None] = []
    if stored.palette is not None:
        colors = stored.palette[values]
        values, alpha = colors[..., :3], colors[..., 3] if alpha is None else alpha
        notes.append("palette to RGB")
    pixels, note = to_bytes(values, stored.bits)
    notes.append(note)
    if stored.white_is_zero:
        pixels = 255 - pixels
        notes.append("inverted, as white is stored as 0")
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        light = 255 - pixels.astype(np.uint32)
        pixels = np.rint(light[..., :3] * light[..., 3:] / 255).astype(np.uint8)
        notes.append("CMYK to RGB")
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
        notes.append("gray repeated to RGB")
    # A palette without transparency has an alpha of 255 that no file holds.
    if alpha is not None and not (stored.alpha is None and stored.palette is not None and (alpha == 255).all()):
        pixels, note = _over_white(pixels, to_bytes(alpha)[0], stored.premultiplied)
        notes.append(note)
    return np.ascontiguousarray(pixels), ", ".join(filter(None, notes)) or None


def to_label(stored: Stored, classes: int | None = None) -> tuple[NDArray[np.int32], str | None]:
    """Label map (H, W) int32 and a note.

    Raises:
        ValueError: where pixels are colors, or what is background is not certain, or ``reading_of`` refuses them.
    """
    values, notes = stored.values, []
    if stored.white_is_zero:
        raise ValueError("white is stored as 0 (MinIsWhite), so what is background is not certain; save it as PNG")
    if stored.alpha is not None:
        if (to_bytes(stored.alpha)[0] != 255).any():
            raise ValueError("a mask has no transparent parts; save it without transparency")
        notes.append("opaque alpha left out")
    if values.ndim == 3:
        if (values != values[..., :1]).any():
            raise ValueError("a mask has one channel, this one has colors; save the numbers of its glands instead")
        values = values[..., 0]
        notes.append("equal channels taken as one")
    if stored.palette is not None:
        _check_palette(values, stored.palette)
    reading = reading_of(values, classes)
    if stored.lossy and reading in ("instances", "classes"):
        raise ValueError("it is a JPEG, which changes the numbers of a mask; export it again as PNG")
    return values.astype(np.int32), ", ".join(notes) or None


def to_bytes(values: NDArray[Any], bits: int | None = None) -> tuple[NDArray[np.uint8], str | None]:
    """Values as 8 bits, whatever their shape, and a note.

    Whole numbers of 16 bits or more are taken for 8, 12 or 16 bits, whichever is the least that holds the largest.
    Slides are bright: one of 16 bits whose brightest value lies in the lowest sixteenth would be black, and is in
    truth of 12 bits, or of 8. Floats are in [0, 1] or in [0, 255], for the same reason told by the largest.

    Args:
        values: bool, integers or floats.
        bits: bits of a value, where they are known.

    Raises:
        ValueError: where values are negative or too large.
    """
    kind = values.dtype.kind
    if kind not in "biuf":
        raise ValueError(f"values are of the type {values.dtype}; save it as a picture of 8 bits")
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
        raise ValueError(f"the highest value is {highest}, more than 16 bits hold; save it with values from 0 to 255")
    held = 8 * values.itemsize
    name = f"{depth} bits" if depth == held else f"{depth} bits in {held}"
    return _scaled(values, 2**depth - 1), f"{name} {'taken as they are' if depth == 8 else 'scaled to 8'}"


def _scaled(values: NDArray[Any], top: int) -> NDArray[np.uint8]:
    if values.dtype.kind == "f":
        return np.rint(values.astype(np.result_type(values, np.float32)) * (255 / top)).astype(np.uint8)
    return np.rint(np.arange(top + 1) * (255 / top)).astype(np.uint8)[values]


def _over_white(
    pixels: NDArray[np.uint8], alpha: NDArray[np.uint8], premultiplied: bool
) -> tuple[NDArray[np.uint8], str]:
    if (alpha == 255).all():
        return pixels, "opaque alpha left out"
    if not alpha.any():
        raise ValueError("it is transparent everywhere; save it without transparency")
    share = alpha[..., None] / 255
    laid = (pixels if premultiplied else pixels * share) + 255 * (1 - share)
    return np.rint(np.minimum(laid, 255)).astype(np.uint8), "transparent parts laid over white"


def _check_palette(values: NDArray[Any], palette: NDArray[np.uint8]) -> None:
    """Refuse black and white whose indices say the opposite: programs that make palettes small order them freely."""
    used = np.flatnonzero(np.bincount(values.ravel(), minlength=256))
    colors = palette[used, :3]
    gray = (colors == colors[:, :1]).all()
    if gray and colors.any() and ((used == 0) != (colors[:, 0] == 0)).any():
        raise ValueError("its palette shows another index than 0 as black, or 0 as no black; save it as plain gray")
