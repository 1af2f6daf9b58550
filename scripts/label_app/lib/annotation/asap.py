"""Annotations as ASAP XML, the format of QuPath's MONAI Label extension.

In ASAP each outline has its own name, and its label is the group that it belongs to. The extension (0.3.1) writes the
label as both, reads the name as the label, and reads one polygon per ``Coordinates``, so holes need bridges. Its
export loses information: coordinates are truncated to integers, an ellipse becomes its four extreme points, and the
rings of an area are written as one list of points.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

from bundle.utils import atomic_path

from .keyhole import keyhole
from .shapes import (
    Annotation,
    AnnotationError,
    Ring,
    Shape,
    color_of,
    ellipse,
    fill_rings,
    plain_number,
    polygons_of,
    ring_of,
)

NO_AREA = ("Dot", "Line", "Measurement", "Point", "PointSet", "Points", "Polyline")
"""Types of ASAP and QuPath without an area."""
SEVERAL_RINGS = ("Area", "Geometry")
"""Types of QuPath whose points are those of several closed rings, concatenated."""
NUMBERED = re.compile(r"Annotation \d+")
"""Default names of outlines in ASAP."""
FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML does not allow."""

Point = tuple[float, float]


def read_asap(data: bytes, default_name: str, left_out: Counter[str]) -> Iterator[Annotation]:
    """Read outlines from ASAP XML. The points of a spline are read as a polygon.

    Args:
        data: content of the file.
        default_name: label of outlines without a group and with a default name.
        left_out: counter of objects without an area, by type.

    Raises:
        AnnotationError: if the content is not ASAP XML, has an unknown encoding or declares a document type, or a ring
            is invalid.
    """
    reader = _Reader()
    try:
        reader.parser.Parse(data, True)
    except expat.ExpatError as error:
        raise AnnotationError(f"it is not XML ({error}); export it from the viewer again") from error
    except AnnotationError:
        raise
    except (LookupError, ValueError) as error:  # of Python's codecs
        raise AnnotationError(f"it has an encoding that is not supported ({error}); save it as UTF-8") from error
    for number, (attributes, points) in enumerate(reader.annotations, start=1):
        name = _name(attributes, default_name)
        type_name = attributes.get("Type", "Polygon")
        if type_name in NO_AREA or not points:
            left_out[type_name if points else "empty"] += 1
            continue
        try:
            shape = _shape(type_name, points)
        except AnnotationError as error:
            raise AnnotationError(f"annotation {number} ({name!r}): {error}") from error
        if shape is None:
            left_out["without area"] += 1
        else:
            yield Annotation(name, shape)


def write_asap(
    path: str | os.PathLike[str],
    annotations: Sequence[Annotation],
    colors: Mapping[str, Sequence[int]],
    name: str,
    description: str = "",
    model: str = "",
    box: Sequence[int] = (0, 0, 0, 0),
) -> None:
    """Write annotations as MONAI Label does, one outline per polygon, with bridges to its holes.

    Args:
        path: path of the file, which is written atomically; its folder is created if missing.
        annotations: annotations in px of the full resolution; may be empty.
        colors: label -> color: red, green and blue in [0, 255].
        name: name of the image.
        description: free text.
        model: name of the model that made the annotations.
        box: (x, y, width, height) of the predicted part, in px; coordinates are not relative to it.

    Raises:
        AnnotationError: if a shape is not a polygon, a color is invalid, or a text cannot be written to XML.
        OSError: if the file cannot be written.
    """
    header = {"Name": name, "Description": description, "Model": model} | dict(zip("XYWH", map(str, box), strict=True))
    lines = ['<?xml version="1.0"?>', "<ASAP_Annotations>", f"  <Annotations{_attributes(header)}>"]
    names = dict.fromkeys(annotation.name for annotation in annotations)
    groups = {label: "#" + bytes(color_of(label, colors)).hex() for label in names}
    for annotation in annotations:
        label = annotation.name
        attributes = {"Name": label, "Type": "Polygon", "PartOfGroup": label, "Color": groups[label]}
        for polygon in polygons_of(annotation):
            lines += [f"    <Annotation{_attributes(attributes)}>", "      <Coordinates>"]
            for order, (x, y) in enumerate(keyhole(polygon).tolist()):
                lines.append(f'        <Coordinate Order="{order}" X="{plain_number(x)}" Y="{plain_number(y)}" />')
            lines += ["      </Coordinates>", "    </Annotation>"]
    lines += ["  </Annotations>", "  <AnnotationGroups>"]
    for label, color in groups.items():
        attributes = {"Name": label, "PartOfGroup": "None", "Color": color}
        lines += [f"    <Group{_attributes(attributes)}>", "      <Attributes />", "    </Group>"]
    lines += ["  </AnnotationGroups>", "</ASAP_Annotations>", ""]
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join(lines), encoding="utf-8", newline="\n")


class _Reader:
    """Streaming parser of ASAP XML; it builds no tree and expands no entities."""

    def __init__(self) -> None:
        self.annotations: list[tuple[dict[str, str], list[Point]]] = []
        self._coordinates: list[tuple[int, Point]] = []
        self._open_annotation: dict[str, str] | None = None
        self._has_root = False
        self.parser = expat.ParserCreate()
        self.parser.StartDoctypeDeclHandler = self._doctype
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end

    def _doctype(self, *declared: object) -> None:
        # entities can only be declared in a document type
        raise AnnotationError("it declares a document type, which no viewer writes; export it from the viewer again")

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        if not self._has_root and tag != "ASAP_Annotations":
            raise AnnotationError(f"its root is <{tag}> and not <ASAP_Annotations>; export it as ASAP XML or GeoJSON")
        self._has_root = True
        if tag == "Annotation":
            self._open_annotation, self._coordinates = attributes, []
        elif tag == "Coordinate" and self._open_annotation is not None:
            try:
                point = float(attributes["X"]), float(attributes["Y"])
                self._coordinates.append((int(attributes.get("Order", len(self._coordinates))), point))
            except (KeyError, ValueError) as error:
                where = f"annotation {len(self.annotations) + 1}, line {self.parser.CurrentLineNumber}"
                raise AnnotationError(f"{where}: a coordinate is not a number; export it again") from error

    def _end(self, tag: str) -> None:
        if tag == "Annotation" and self._open_annotation is not None:
            ordered = sorted(self._coordinates, key=lambda coordinate: coordinate[0])
            self.annotations.append((self._open_annotation, [point for _, point in ordered]))
            self._open_annotation = None


def _name(attributes: Mapping[str, str], default_name: str) -> str:
    """Return the label of an outline: its group, else its name."""
    group, name = attributes.get("PartOfGroup", "").strip(), attributes.get("Name", "").strip()
    if group and group != "None":
        return group
    return default_name if not name or NUMBERED.fullmatch(name) else name


def _shape(type_name: str, points: list[Point]) -> Shape | None:
    """Return the area that an outline encloses."""
    if type_name in SEVERAL_RINGS:
        return fill_rings([ring_of(part) for part in _split_rings(points)])
    ring: Ring = ring_of(points)
    if type_name == "Ellipse" and len(ring) == 4:
        low, high = ring.min(axis=0), ring.max(axis=0)
        width, height = (high - low).tolist()
        return ellipse(((low + high) / 2).tolist(), width, height)
    return fill_rings([ring])


def _split_rings(points: list[Point]) -> list[list[Point]]:
    """Split a list of points into closed rings, each ending where it returns to its start; else return the whole list.

    With coordinates truncated to integers, a ring may pass its start before its end. So of the possible ends, the first
    one is taken from which the remaining points can be split too.
    """
    next_start = [0] * len(points) + [len(points)]  # start of the next ring, for each point that may start a ring
    ends: dict[Point, list[int]] = {}
    for index in range(len(points) - 1, -1, -1):
        candidates = (end for end in reversed(ends.get(points[index], [])) if end >= index + 3)
        next_start[index] = next(candidates, -1) + 1
        if next_start[index + 1]:
            ends.setdefault(points[index], []).append(index)
    if not next_start[0]:
        return [points]
    rings, start = [], 0
    while start < len(points):
        rings.append(points[start : next_start[start]])
        start = next_start[start]
    return rings


def _attributes(values: Mapping[str, str]) -> str:
    """Format XML attributes.

    Raises:
        AnnotationError: if a value contains a character that XML does not allow.
    """
    for key, value in values.items():
        if FORBIDDEN.search(value):
            raise AnnotationError(f"the {key.lower()} {value!r} has a character that XML does not allow; remove it")
    return "".join(f" {key}={quoteattr(value)}" for key, value in values.items())
