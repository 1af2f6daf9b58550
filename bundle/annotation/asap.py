"""Annotations as XML of the viewer ASAP, in which QuPath's MONAI Label extension reads and writes them.

ASAP calls each outline by a name of its own and its label by the group that it is part of. The extension (0.3.1)
writes the label as both, takes the name as the label when it reads, and reads one polygon a ``Coordinates``, so holes
need bridges. What it writes is poorer than what QuPath shows: coordinates cut to whole numbers, an ellipse as its four
outermost points, and an area of several rings as their points one ring after the other.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from secrets import token_hex
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

from bundle.annotation.keyhole import keyhole
from bundle.annotation.shapes import (
    Annotation,
    AnnotationError,
    Ring,
    Shape,
    color_of,
    ellipse,
    filled,
    plain,
    polygons_of,
    ring_of,
)

NO_AREA = ("Dot", "Line", "Measurement", "Point", "PointSet", "Points", "Polyline")
"""Types of ASAP and QuPath that enclose nothing."""
SEVERAL_RINGS = ("Area", "Geometry")
"""Types of QuPath whose points are those of several closed rings, one after the other."""
NUMBERED = re.compile(r"Annotation \d+")
"""What ASAP calls an outline that nobody named."""
FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Signs that XML cannot hold."""

Point = tuple[float, float]


def read_asap(data: bytes, default_name: str, left_out: Counter[str]) -> Iterator[Annotation]:
    """Read outlines. The points of a spline are taken as those of a polygon.

    Args:
        data: the file.
        default_name: of outlines in no group that nobody named.
        left_out: counts what is no area, by what it is.

    Raises:
        AnnotationError: for what is no such XML, or holds a document type, or a ring that is none.
    """
    reader = _Reader()
    try:
        reader.parser.Parse(data, True)
    except expat.ExpatError as error:
        raise AnnotationError(f"it is not XML ({error}); export it from the viewer again") from error
    for number, (attributes, points) in enumerate(reader.found, start=1):
        name = _name(attributes, default_name)
        kind = attributes.get("Type", "Polygon")
        if kind in NO_AREA or not points:
            left_out[kind if points else "empty"] += 1
            continue
        try:
            shape = _shape(kind, points)
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
    """Write annotations as MONAI Label does, one outline a polygon, with bridges to the holes.

    Args:
        path: of the file, which appears whole; its folder is made where it is missing.
        annotations: in px of the full resolution. The file is valid without any.
        colors: of the labels, by name: red, green and blue in [0, 255].
        name: of the image.
        description: what this is, for people.
        model: which made them.
        box: (x, y, width, height) of the part that was looked at, in px; the coordinates do not depend on it.

    Raises:
        AnnotationError: for a shape that is no polygon, a color that is none, or a text that XML cannot hold.
        OSError: where the file cannot be written.
    """
    about = {"Name": name, "Description": description, "Model": model} | dict(zip("XYWH", map(str, box), strict=True))
    lines = ['<?xml version="1.0"?>', "<ASAP_Annotations>", f"  <Annotations{_attributes(about)}>"]
    names = dict.fromkeys(annotation.name for annotation in annotations)
    groups = {label: "#" + bytes(color_of(label, colors)).hex() for label in names}
    for annotation in annotations:
        label = annotation.name
        told = {"Name": label, "Type": "Polygon", "PartOfGroup": label, "Color": groups[label]}
        for polygon in polygons_of(annotation):
            lines += [f"    <Annotation{_attributes(told)}>", "      <Coordinates>"]
            for order, (x, y) in enumerate(keyhole(polygon).tolist()):
                lines.append(f'        <Coordinate Order="{order}" X="{plain(x)}" Y="{plain(y)}" />')
            lines += ["      </Coordinates>", "    </Annotation>"]
    lines += ["  </Annotations>", "  <AnnotationGroups>"]
    for label, color in groups.items():
        told = {"Name": label, "PartOfGroup": "None", "Color": color}
        lines += [f"    <Group{_attributes(told)}>", "      <Attributes />", "    </Group>"]
    lines += ["  </AnnotationGroups>", "</ASAP_Annotations>", ""]
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    hidden = path.with_name(f".{token_hex(4)}.partial.{path.name}")
    try:
        hidden.write_text("\n".join(lines), encoding="utf-8", newline="\n")
        hidden.replace(path)
    finally:
        hidden.unlink(missing_ok=True)


class _Reader:
    """Collects what ASAP's XML holds while it is parsed; no tree of it is built, and nothing is expanded."""

    def __init__(self) -> None:
        self.found: list[tuple[dict[str, str], list[Point]]] = []
        self._places: list[tuple[int, Point]] = []
        self._within: dict[str, str] | None = None
        self._began = False
        self.parser = expat.ParserCreate()
        self.parser.StartDoctypeDeclHandler = self._doctype
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end

    def _doctype(self, *declared: object) -> None:
        # entities can be declared nowhere else
        raise AnnotationError("it declares a document type, which no viewer writes; export it from the viewer again")

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        if not self._began and tag != "ASAP_Annotations":
            raise AnnotationError(f"its root is <{tag}> and not <ASAP_Annotations>; export it as ASAP XML or GeoJSON")
        self._began = True
        if tag == "Annotation":
            self._within, self._places = attributes, []
        elif tag == "Coordinate" and self._within is not None:
            try:
                point = float(attributes["X"]), float(attributes["Y"])
                self._places.append((int(attributes.get("Order", len(self._places))), point))
            except (KeyError, ValueError) as error:
                place = f"annotation {len(self.found) + 1}, line {self.parser.CurrentLineNumber}"
                raise AnnotationError(f"{place}: a coordinate is no number; export it from the viewer again") from error

    def _end(self, tag: str) -> None:
        if tag == "Annotation" and self._within is not None:
            ordered = sorted(self._places, key=lambda place: place[0])
            self.found.append((self._within, [point for _, point in ordered]))
            self._within = None


def _name(attributes: Mapping[str, str], default_name: str) -> str:
    """The label of an outline: its group, else its name."""
    group, name = attributes.get("PartOfGroup", "").strip(), attributes.get("Name", "").strip()
    if group and group != "None":
        return group
    return default_name if not name or NUMBERED.fullmatch(name) else name


def _shape(kind: str, points: list[Point]) -> Shape | None:
    """What an outline encloses."""
    if kind in SEVERAL_RINGS:
        return filled([ring_of(part) for part in _closed_parts(points)])
    ring: Ring = ring_of(points)
    if kind == "Ellipse" and len(ring) == 4:
        low, high = ring.min(axis=0), ring.max(axis=0)
        width, height = (high - low).tolist()
        return ellipse(((low + high) / 2).tolist(), width, height)
    return filled([ring])


def _closed_parts(points: list[Point]) -> list[list[Point]]:
    """Rings of a path that was made of closed rings, each cut where it comes back to its start; else the whole path.

    A ring may pass its start before its end, once coordinates are cut to whole numbers. So of all places at which it
    could end, the first is taken from which on the rest can be cut too.
    """
    nexts = [0] * len(points) + [len(points)]  # of each point at which a ring could start: where the next one starts
    ends: dict[Point, list[int]] = {}
    for place in range(len(points) - 1, -1, -1):
        fitting = (end for end in reversed(ends.get(points[place], [])) if end >= place + 3)
        nexts[place] = next(fitting, -1) + 1
        if nexts[place + 1]:
            ends.setdefault(points[place], []).append(place)
    if not nexts[0]:
        return [points]
    parts, start = [], 0
    while start < len(points):
        parts.append(points[start : nexts[start]])
        start = nexts[start]
    return parts


def _attributes(values: Mapping[str, str]) -> str:
    """Attributes as XML has them.

    Raises:
        AnnotationError: for a sign that XML cannot hold.
    """
    for key, value in values.items():
        if FORBIDDEN.search(value):
            raise AnnotationError(f"the {key.lower()} {value!r} holds a sign that XML cannot hold; take it out")
    return "".join(f" {key}={quoteattr(value)}" for key, value in values.items())
