"""Microns per pixel as slide files tell them: OME metadata, a scanner's description, the resolution of a TIFF."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree

from bundle.inference.slides.slide import SlideError

RANGE = (0.05, 20.0)
"""Microns per pixel that a scanner may mean; 72 or 96 dots per inch, what programs write unasked, are 353 and 265."""
SQUARE = 0.02
"""By how much the two sides of a pixel may differ."""
OME_UNITS = {"nm": 1e-3, "um": 1.0, "µm": 1.0, "μm": 1.0, "mm": 1e3, "cm": 1e4, "m": 1e6, "in": 25400.0, "Å": 1e-4}
"""Microns of the units of OME; both letters mu are in use."""
TIFF_UNITS = {2: 25400.0, 3: 1e4, "inch": 25400.0, "centimeter": 1e4}
"""Microns of the units of TIFF's resolution, by number and by OpenSlide's word; unit 1 says that there is none."""

Pair = tuple[float | None, float | None]
"""Microns per pixel along x and along y."""


def first_told(pairs: Iterable[Pair], path: Path) -> float | None:
    """The first pair in which somebody told a pixel size, as one number.

    Args:
        pairs: from the most to the least trusted source. A side that is missing or absurd counts as not told.
        path: named in the error.

    Raises:
        SlideError: where the sides of a pixel differ by more than ``SQUARE``.
    """
    for pair in pairs:
        told = [side for side in pair if side is not None and RANGE[0] <= side <= RANGE[1]]
        if not told:
            continue
        if max(told) > min(told) * (1 + SQUARE):
            raise SlideError(
                f"{path} has pixels of {told[0]:g} x {told[1]:g} um, which are not square; export it with square pixels"
            )
        return sum(told) / len(told)
    return None


def of_ome(description: str) -> Pair:
    """Physical size of a pixel in OME's XML; nothing for any other text."""
    if "<OME" not in description:
        return None, None
    try:
        root = ElementTree.fromstring(description.encode())
    except ElementTree.ParseError:
        return None, None
    pixels = next((node for node in root.iter() if node.tag.rpartition("}")[2] == "Pixels"), None)
    if pixels is None:
        return None, None
    sides = []
    for axis in "XY":
        size = number(pixels.get(f"PhysicalSize{axis}"))
        unit = OME_UNITS.get(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
        sides.append(None if size is None or unit is None else size * unit)
    return sides[0], sides[1]


def of_description(description: str) -> Pair:
    """The ``MPP = 0.2498`` of an Aperio description; nothing for any other text."""
    found = re.search(r"\bMPP\s*=\s*([0-9.]+)", description)
    side = number(found[1]) if found else None
    return side, side


def of_resolution(x_resolution: object, y_resolution: object, unit: object) -> Pair:
    """Resolution tags of a TIFF, in pixels per unit; ``unit`` is TIFF's number or OpenSlide's word."""
    length = TIFF_UNITS.get(unit) if isinstance(unit, int | str) else None
    if length is None:
        return None, None
    sides = [number(resolution) for resolution in (x_resolution, y_resolution)]
    x, y = (length / side if side else None for side in sides)
    return x, y


def number(text: object) -> float | None:
    """A number above 0, of a text, a number or a fraction (numerator, denominator); else ``None``."""
    try:
        parts = text if isinstance(text, tuple) else (text, 1)
        value = float(parts[0]) / float(parts[1])
    except (TypeError, ValueError, ZeroDivisionError, IndexError):
        return None
    return value if 0 < value < float("inf") else None
