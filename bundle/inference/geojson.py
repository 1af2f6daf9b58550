"""Outlines as GeoJSON, in the form that QuPath (0.4 and later) exports and opens.

Coordinates are px of the image's full resolution, x to the right and y down from its top left corner.
"""

from __future__ import annotations

import json
import math
import os
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import shapely
from shapely import MultiPolygon, Polygon

from bundle.inference.files import hidden_place, naming

OBJECT_TYPES = ("annotation", "detection")
DECIMALS = 2
"""As many as QuPath writes."""
NAMESPACE = uuid.UUID("5f0a3c3e-6f1b-5c38-9d0e-3b1c7d0f4a52")
"""Of the names that features get; any constant does."""


def feature(
    shape: Polygon | MultiPolygon,
    classification: str,
    color: Sequence[int],
    object_type: str = "annotation",
    name: str | None = None,
    measurements: Mapping[str, float] | None = None,
    identifier: str | None = None,
) -> dict[str, Any]:
    """One object of QuPath, as a GeoJSON feature.

    Args:
        shape: where it is, coordinates (x, y) in px of the full resolution.
        classification: the name of its class; QuPath makes the class where it knows none of that name.
        color: of the class: red, green, blue, each 0 to 255.
        object_type: ``"annotation"``, which a person may edit, or ``"detection"``, of which QuPath takes many.
        name: what the object itself is called.
        measurements: numbers of it, by what they are called.
        identifier: what tells it from others. Without one its content does. The same always gives the same id.

    Returns:
        The feature; rings are closed and turn as RFC 7946 has it. Coordinates have at most two decimals.

    Raises:
        ValueError: for an empty shape, another object type, a color out of range or a measurement that is not finite.
    """
    if object_type not in OBJECT_TYPES:
        raise ValueError(f"the object type is {object_type!r}; it must be one of {', '.join(OBJECT_TYPES)}")
    properties: dict[str, Any] = {
        "objectType": object_type,
        "classification": {"name": classification, "color": plain_color(color)},
    }
    if name is not None:
        properties["name"] = name
    if measurements:
        properties["measurements"] = {key: _finite(key, value) for key, value in measurements.items()}
    geometry = _geometry(shape)
    told = identifier if identifier is not None else json.dumps([geometry, properties])
    return {
        "type": "Feature",
        "id": str(uuid.uuid5(NAMESPACE, told)),
        "geometry": geometry,
        "properties": properties,
    }


class GeoJSONWriter:
    """A feature collection that is written feature by feature and appears when it is whole; for ``with``.

    After an error inside of ``with`` no new file stands under the name, and the error passes on as it is.

    Args:
        path: of the file; its folder is made where it is missing.

    Raises:
        OSError: where the file cannot be written, for instance on a full disk; names ``path``.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.count = 0
        self._file: TextIO | None = None

    def __enter__(self) -> GeoJSONWriter:
        with naming(self.path):
            self._hidden = hidden_place(self.path)
            self._file = self._hidden.open("w", encoding="utf-8", newline="\n")
            self._file.write('{"type": "FeatureCollection", "features": [')
        return self

    def write(self, described: Mapping[str, Any]) -> None:
        """Add a feature.

        Args:
            described: as :func:`feature` gives it.

        Raises:
            ValueError: for a number that is not finite, or outside of ``with``.
            OSError: where the file cannot be written; names it.
        """
        if self._file is None:
            raise ValueError(f"{self.path} is not open; write features inside of `with GeoJSONWriter(...)`")
        text = json.dumps(described, ensure_ascii=False, allow_nan=False)
        with naming(self.path):
            self._file.write((",\n" if self.count else "\n") + text)
        self.count += 1

    def __exit__(self, *raised: Any) -> None:
        if self._file is None:
            return
        file, self._file = self._file, None
        try:
            if raised[0] is None:
                with naming(self.path):
                    file.write("\n]}\n")
                    file.flush()
                    os.fsync(file.fileno())
                    file.close()
                    self._hidden.replace(self.path)
        finally:
            with suppress(OSError):  # what the file still holds back may not fit on the disk; it is not wanted
                file.close()
            self._hidden.unlink(missing_ok=True)


def _geometry(shape: Polygon | MultiPolygon) -> dict[str, Any]:
    """The shape as GeoJSON: outer rings counter-clockwise, holes clockwise, in its own coordinates."""
    if shape.geom_type not in ("Polygon", "MultiPolygon") or shape.is_empty:
        raise ValueError(f"the shape is {shape.wkt[:60]}; it must be a polygon or several, and not empty")
    polygons = [
        [_ring(ring) for ring in (polygon.exterior, *polygon.interiors)]
        for polygon in shapely.get_parts(shapely.orient_polygons(shape))
    ]
    coordinates = polygons[0] if shape.geom_type == "Polygon" else polygons
    return {"type": shape.geom_type, "coordinates": coordinates}


def _ring(ring: shapely.LinearRing) -> list[list[float]]:
    """Points of a ring, whole numbers as such."""
    points = shapely.get_coordinates(ring).round(DECIMALS).tolist()
    return [[int(value) if value.is_integer() else value for value in point] for point in points]


def plain_color(color: Sequence[int]) -> list[int]:
    """Red, green, blue as plain numbers.

    Raises:
        ValueError: for something else.
    """
    parts = [part for part in color if isinstance(part, int | np.integer) and 0 <= part <= 255]
    if len(color) != 3 or len(parts) != 3:
        raise ValueError(f"the color is {color!r}; it must be red, green and blue, each 0 to 255")
    return [int(part) for part in parts]


def _finite(name: str, value: float) -> float:
    """A measurement as a plain number; JSON has no infinity."""
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"the measurement {name!r} is {number}; it must be finite, or be left out")
    return int(number) if number.is_integer() else round(number, 6)
