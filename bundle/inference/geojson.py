"""GeoJSON files of outlines, as QuPath (0.4 and later) exports and opens them.

Coordinates are in px of the full resolution, from the top left corner of the image, x to the right and y down.
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

from bundle.utils import path_in_errors, remove_partials, temporary_path

OBJECT_TYPES = ("annotation", "detection")
DECIMALS = 2
"""Decimals of coordinates, as in QuPath."""
NAMESPACE = uuid.UUID("5f0a3c3e-6f1b-5c38-9d0e-3b1c7d0f4a52")
"""Namespace of the ids of features; an arbitrary constant."""


def feature(
    shape: Polygon | MultiPolygon,
    classification: str,
    color: Sequence[int],
    object_type: str = "annotation",
    name: str | None = None,
    measurements: Mapping[str, float] | None = None,
    identifier: str | None = None,
) -> dict[str, Any]:
    """Return an object of QuPath as a GeoJSON feature.

    Args:
        shape: outline, coordinates (x, y) in px of the full resolution.
        classification: name of the class; QuPath creates the class if it does not exist.
        color: color of the class: red, green, blue, each 0 to 255.
        object_type: ``"annotation"``, which can be edited, or ``"detection"``, for large numbers of objects.
        name: name of the object.
        measurements: name -> value.
        identifier: text that identifies the object; the id is a hash of it. ``None`` uses the content of the feature.

    Returns:
        The feature. Rings are closed and oriented as in RFC 7946; coordinates have at most two decimals.

    Raises:
        ValueError: if the shape is empty, the object type unknown, the color out of range or a measurement not finite.
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
        properties["measurements"] = {key: _plain_measurement(key, value) for key, value in measurements.items()}
    geometry = _geometry(shape)
    identifier_text = identifier if identifier is not None else json.dumps([geometry, properties])
    return {
        "type": "Feature",
        "id": str(uuid.uuid5(NAMESPACE, identifier_text)),
        "geometry": geometry,
        "properties": properties,
    }


class GeoJSONWriter:
    """Context manager that writes a feature collection, one feature at a time, atomically.

    After an error inside of ``with``, no new file is left, and the error is raised unchanged.

    Args:
        path: path of the file; its folder is created if missing.

    Raises:
        OSError: if the file cannot be written, for example on a full disk; with ``path``.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.count = 0
        self._file: TextIO | None = None

    def __enter__(self) -> GeoJSONWriter:
        with path_in_errors(self.path):
            self._temporary = temporary_path(self.path)
            remove_partials(self.path)
        with path_in_errors(self.path, self._temporary):
            self._file = self._temporary.open("w", encoding="utf-8", newline="\n")
            self._file.write('{"type": "FeatureCollection", "features": [')
        return self

    def write(self, geojson_feature: Mapping[str, Any]) -> None:
        """Add a feature.

        Args:
            geojson_feature: as :func:`feature` returns it.

        Raises:
            ValueError: if a number is not finite, or outside of ``with``.
            OSError: if the file cannot be written; with its path.
        """
        if self._file is None:
            raise ValueError(f"{self.path} is not open; write features inside of `with GeoJSONWriter(...)`")
        text = json.dumps(geojson_feature, ensure_ascii=False, allow_nan=False)
        with path_in_errors(self.path, self._temporary):
            self._file.write((",\n" if self.count else "\n") + text)
        self.count += 1

    def __exit__(self, *raised: Any) -> None:
        if self._file is None:
            return
        file, self._file = self._file, None
        try:
            if raised[0] is None:
                with path_in_errors(self.path, self._temporary):
                    file.write("\n]}\n")
                    file.flush()
                    os.fsync(file.fileno())
                    file.close()
                    self._temporary.replace(self.path)
        finally:
            with suppress(OSError):  # closing flushes the buffer, which may fail on a full disk
                file.close()
            self._temporary.unlink(missing_ok=True)


def _geometry(shape: Polygon | MultiPolygon) -> dict[str, Any]:
    """Return the GeoJSON geometry of a shape: outer rings counter-clockwise, holes clockwise, in its coordinates."""
    if shape.geom_type not in ("Polygon", "MultiPolygon") or shape.is_empty:
        raise ValueError(f"the shape is {shape.wkt[:60]}; it must be a polygon or a multipolygon, and not empty")
    polygons = [
        [_ring(ring) for ring in (polygon.exterior, *polygon.interiors)]
        for polygon in shapely.get_parts(shapely.orient_polygons(shape))
    ]
    coordinates = polygons[0] if shape.geom_type == "Polygon" else polygons
    return {"type": shape.geom_type, "coordinates": coordinates}


def _ring(ring: shapely.LinearRing) -> list[list[float]]:
    """Return the points of a ring, whole numbers as int."""
    points = shapely.get_coordinates(ring).round(DECIMALS).tolist()
    return [[int(value) if value.is_integer() else value for value in point] for point in points]


def plain_color(color: Sequence[int]) -> list[int]:
    """Return a color as three Python ints.

    Raises:
        ValueError: if it is not three integers from 0 to 255.
    """
    parts = [part for part in color if isinstance(part, int | np.integer) and 0 <= part <= 255]
    if len(color) != 3 or len(parts) != 3:
        raise ValueError(f"the color is {color!r}; it must be red, green and blue, each 0 to 255")
    return [int(part) for part in parts]


def _plain_measurement(name: str, value: float) -> float:
    """Return a measurement as a Python number; JSON has no infinity."""
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"the measurement {name!r} is {number}; it must be finite, or be left out")
    return int(number) if number.is_integer() else round(number, 6)
