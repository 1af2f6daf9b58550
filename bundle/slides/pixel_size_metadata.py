"""Pixel sizes in the metadata of slides: OME-XML, Aperio descriptions and TIFF resolution tags."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree

from bundle.slides.slide import SlideError

RANGE = (0.05, 20.0)
"""Plausible um/px of a scanner; the defaults of other programs, 72 or 96 dots per inch, are 353 and 265 um/px."""
SQUARE = 0.02
"""Maximum relative difference of the two sides of a pixel."""
OME_UNITS = {"nm": 1e-3, "um": 1.0, "µm": 1.0, "μm": 1.0, "mm": 1e3, "cm": 1e4, "m": 1e6, "in": 25400.0, "Å": 1e-4}
"""um per unit of OME; both Unicode letters mu are in use."""
TIFF_UNITS = {2: 25400.0, 3: 1e4, "inch": 25400.0, "centimeter": 1e4}
"""um per unit of TIFF resolution tags, by TIFF number and by OpenSlide name; unit 1 means no unit."""

Pair = tuple[float | None, float | None]
"""um/px along x and along y."""


def first_valid(pairs: Iterable[Pair], path: Path) -> float | None:
    """Return the pixel size of the first plausible pair, um/px, ``None`` if there is none.

    Args:
        pairs: from the most to the least reliable source. Missing and implausible sides are ignored.
        path: path of the slide, for the error.

    Raises:
        SlideError: if the sides of a pixel differ by more than ``SQUARE``.
    """
    for pair in pairs:
        sides = [side for side in pair if side is not None and RANGE[0] <= side <= RANGE[1]]
        if not sides:
            continue
        if max(sides) > min(sides) * (1 + SQUARE):
            raise SlideError(
                f"{path} has pixels of {sides[0]:g} x {sides[1]:g} um, which are not square; "
                "export it with square pixels"
            )
        return sum(sides) / len(sides)
    return None


def of_ome(description: str) -> Pair:
    """Return the physical pixel size in OME-XML; ``None`` for any other text."""
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
    """Return the value of ``MPP = 0.2498`` in an Aperio description; ``None`` for any other text."""
    match = re.search(r"\bMPP\s*=\s*([0-9.]+)", description)
    side = number(match[1]) if match else None
    return side, side


def of_resolution(x_resolution: object, y_resolution: object, unit: object) -> Pair:
    """Return the pixel size of TIFF resolution tags, in pixels per unit; ``unit`` as in ``TIFF_UNITS``."""
    length = TIFF_UNITS.get(unit) if isinstance(unit, int | str) else None
    if length is None:
        return None, None
    sides = [number(resolution) for resolution in (x_resolution, y_resolution)]
    x, y = (length / side if side else None for side in sides)
    return x, y


def number(text: object) -> float | None:
    """Parse a positive number, given as text, number or fraction (numerator, denominator); else return ``None``."""
    try:
        parts = text if isinstance(text, tuple) else (text, 1)
        value = float(parts[0]) / float(parts[1])
    except (TypeError, ValueError, ZeroDivisionError, IndexError):
        return None
    return value if 0 < value < float("inf") else None
