"""Files and documents for viewers, and masks that are equal after writing and reading."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import shapely
from lib.annotation import (
    Annotation,
    AnnotationError,
    contours_document,
    draw_classes,
    draw_instances,
    dsa_document,
    read_annotations,
    write_asap,
)
from lib.annotation.keyhole import keyhole
from lib.annotation.shapes import fill_rings
from shapely import MultiPolygon, Polygon

from bundle.inference.geojson import GeoJSONWriter, feature
from bundle.inference.polygons import outlines, pieces

COLORS = {"Gland": (0, 158, 115), "Tumor": (255, 0, 10)}
HOLED = Polygon([(0, 0), (9, 0), (9, 9), (0, 9)], [[(2, 2), (4, 2), (4, 4), (2, 4)]])
TRIANGLE = Polygon([(0.5, 0), (9, 0.25), (4, 7)])


def same(first: shapely.Geometry, second: shapely.Geometry) -> bool:
    return first.symmetric_difference(second).area < 1e-9


# ASAP's XML

EXPECTED = """<?xml version="1.0"?>
<ASAP_Annotations>
  <Annotations Name="slide" Description="by hand" Model="semi_moe" X="1" Y="2" W="30" H="40">
    <Annotation Name="Gland" Type="Polygon" PartOfGroup="Gland" Color="#009e73">
      <Coordinates>
        <Coordinate Order="0" X="0.5" Y="0" />
        <Coordinate Order="1" X="9" Y="0.25" />
        <Coordinate Order="2" X="4" Y="7" />
      </Coordinates>
    </Annotation>
  </Annotations>
  <AnnotationGroups>
    <Group Name="Gland" PartOfGroup="None" Color="#009e73">
      <Attributes />
    </Group>
  </AnnotationGroups>
</ASAP_Annotations>
"""


def test_the_xml_is_that_of_monai_label(tmp_path):
    path = tmp_path / "new" / "slide.xml"
    write_asap(path, [Annotation("Gland", TRIANGLE)], COLORS, "slide", "by hand", "semi_moe", (1, 2, 30, 40))
    assert path.read_text(encoding="utf-8") == EXPECTED
    assert [entry.name for entry in path.parent.iterdir()] == ["slide.xml"]


def test_texts_are_escaped(tmp_path):
    name = "Drüse <\"1\" & '2'>\n"
    write_asap(tmp_path / "a.xml", [Annotation(name, TRIANGLE)], {}, name, name, name)
    root = ElementTree.parse(tmp_path / "a.xml").getroot()
    assert root[0].attrib == dict.fromkeys(("Name", "Description", "Model"), name) | dict.fromkeys("XYWH", "0")
    assert [annotation.name for annotation in read_annotations(tmp_path / "a.xml")] == [name.strip()]


def test_several_polygons_are_several_annotations_of_one_group(tmp_path):
    shape = MultiPolygon([HOLED, shapely.box(20, 0, 22, 2)])
    write_asap(tmp_path / "a.xml", [Annotation("Gland", shape), Annotation("Tumor", TRIANGLE)], COLORS, "a")
    annotations = read_annotations(tmp_path / "a.xml")
    assert [item.name for item in annotations] == ["Gland", "Gland", "Tumor"]
    assert same(annotations[0].shape.union(annotations[1].shape), shape)
    assert [item.get("Name") for item in ElementTree.parse(tmp_path / "a.xml").iter("Group")] == ["Gland", "Tumor"]


def test_a_file_without_annotations_is_valid(tmp_path):
    write_asap(tmp_path / "a.xml", [], COLORS, "a")
    assert read_annotations(tmp_path / "a.xml") == []


def test_labels_without_a_color_are_black_and_case_does_not_count(tmp_path):
    document = dsa_document([Annotation("Stroma", TRIANGLE), Annotation("gland", TRIANGLE)], COLORS, "a")
    assert [element["lineColor"] for element in document["elements"]] == ["rgb(0,0,0)", "rgb(0,158,115)"]


def test_what_cannot_be_written_is_refused_and_leaves_nothing(tmp_path):
    wrong = [
        (Annotation("Gland", shapely.Point(1, 1)), "one or more polygons"),
        (Annotation("Gland", Polygon()), "one or more polygons"),
        (Annotation("Gland", Polygon([(0, 0), (np.inf, 0), (1, 1)])), "not finite"),
        (Annotation("Gla\0nd", TRIANGLE), "character that XML does not allow"),
        (Annotation("Odd", TRIANGLE), "color of 'Odd'"),
    ]
    for annotation, sentence in wrong:
        with pytest.raises(AnnotationError, match=sentence):
            write_asap(tmp_path / "a.xml", [annotation], {"Odd": (0, 0, 256)}, "a")
    assert list(tmp_path.iterdir()) == []


def test_an_error_keeps_the_file_that_was_there(tmp_path):
    path = tmp_path / "a.xml"
    write_asap(path, [Annotation("Gland", TRIANGLE)], COLORS, "slide", "by hand", "semi_moe", (1, 2, 30, 40))
    (tmp_path / "folder.xml").mkdir()
    with pytest.raises(OSError, match=r"folder\.xml"):
        write_asap(tmp_path / "folder.xml", [], COLORS, "a")
    assert path.read_text(encoding="utf-8") == EXPECTED
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.xml", "folder.xml"]


# Rings with bridges


def winding(ring: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the winding number of a ring around each point: the sum of the angles of its sides."""
    toward = ring[:, None] - np.stack([x, y], axis=1)[None]
    angle = np.arctan2(toward[..., 1], toward[..., 0])
    step = np.roll(angle, -1, axis=0) - angle
    return np.rint(((step + np.pi) % (2 * np.pi) - np.pi).sum(axis=0) / (2 * np.pi)).astype(int)


def area(ring: np.ndarray) -> float:
    x, y = ring.T
    return float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2)


def assert_exact(polygon: Polygon) -> None:
    """The ring winds once around its inside and not around the outside, so both fillings give the polygon."""
    ring = keyhole(polygon)
    assert area(ring) == pytest.approx(polygon.area, abs=1e-9)
    left, top, right, bottom = polygon.bounds
    x, y = (grid.ravel() for grid in np.meshgrid(np.arange(left, right) + 0.3, np.arange(top, bottom) + 0.37))
    assert np.array_equal(winding(ring, x, y), shapely.contains_xy(polygon, x, y).astype(int))
    read = fill_rings([ring])
    assert read is not None
    assert read.symmetric_difference(polygon).area < 1e-9


def test_a_polygon_without_holes_is_its_own_ring():
    assert keyhole(TRIANGLE).tolist() == [[0.5, 0], [9, 0.25], [4, 7]]


def test_the_bridge_goes_to_the_left_and_back():
    ring = keyhole(HOLED).tolist()
    assert len(ring) == 4 + 5 + 2
    walked = list(zip(ring, ring[1:] + ring[:1], strict=True))
    assert [side for side in walked if side[::-1] in walked] == [([0, 2], [2, 2]), ([2, 2], [0, 2])]


def test_bridges_of_noise_enclose_nothing():
    random = np.random.default_rng(3)
    holes = 0
    for _ in range(60):
        plane = (random.random((12, 17)) < 0.7).astype(np.uint8)  # holes that touch each other and the border
        for piece in pieces(plane):
            assert_exact(piece.shape)
            holes += len(piece.shape.interiors)
    assert holes > 300


def test_bridges_stay_inside():
    plane = np.ones((20, 30), np.uint8)
    plane[3:6, 3:6] = plane[4:9, 10:12] = plane[4:5, 20:25] = plane[12:15, 3:28] = plane[7, 4] = 0
    (piece,) = pieces(plane)
    ring = keyhole(piece.shape)
    sides = [tuple(map(tuple, side)) for side in zip(ring.tolist(), np.roll(ring, -1, axis=0).tolist(), strict=True)]
    bridges = [shapely.LineString(side) for side in sides if side[::-1] in sides]
    assert len(bridges) == 2 * 5
    assert all(piece.shape.covers(bridge) for bridge in bridges)
    assert shapely.LinearRing(ring).length == piece.shape.length + sum(bridge.length for bridge in bridges)


def test_bridges_to_slanted_sides_enclose_nothing():
    random = np.random.default_rng(4)
    for _ in range(20):
        holes = [
            shapely.Point(position).buffer(random.uniform(1, 6), quad_segs=5)
            for position in random.uniform(-25, 25, (20, 2))
        ]
        shape = shapely.Point(0.3, 0.1).buffer(30, quad_segs=7).difference(shapely.union_all(holes))
        for polygon in shapely.get_parts(shape):
            assert_exact(polygon)


# HistomicsUI and CVAT


def test_the_document_of_histomics(tmp_path):
    document = dsa_document([Annotation("Gland", MultiPolygon([HOLED, TRIANGLE]))], COLORS, "slide", "by hand")
    assert document.keys() == {"name", "elements", "description"}
    assert (document["name"], document["description"]) == ("slide", "by hand")
    with_hole, without = document["elements"]
    assert "holes" not in without
    assert without == {
        "group": "Gland",
        "type": "polyline",
        "lineColor": "rgb(0,158,115)",
        "lineWidth": 2.0,
        "closed": True,
        "points": [[0.5, 0, 0], [9, 0.25, 0], [4, 7, 0]],
        "label": {"value": "Gland"},
    }
    assert len(with_hole["points"]) == 4
    assert sorted(with_hole["holes"][0]) == [[2, 2, 0], [2, 4, 0], [4, 2, 0], [4, 4, 0]]
    (tmp_path / "a.json").write_text(json.dumps(document))
    annotations = read_annotations(tmp_path / "a.json")
    assert same(annotations[0].shape, HOLED)
    assert same(annotations[1].shape, TRIANGLE)


def test_the_document_of_cvat():
    thin = shapely.box(0, 0, 0.4, 9)
    shapes = [("Gland", MultiPolygon([HOLED, TRIANGLE])), ("Tumor", shapely.box(20, 0, 30.6, 9.4)), ("Gland", thin)]
    document = contours_document([Annotation(*shape) for shape in shapes], COLORS, (5, 6), (np.int64(40), 30))
    result = json.loads(json.dumps(document))["annotations"][0]["annotation"]
    assert (result["location"], result["size"]) == ([5, 6], [40, 30])
    assert result["labels"] == {"Gland": [0, 158, 115], "Tumor": [255, 0, 10]}
    assert [element["label"] for element in result["elements"]] == ["Gland", "Tumor"]
    glands, tumors = (element["contours"] for element in result["elements"])
    assert [len(contour) for contour in glands] == [4, 3]
    assert same(Polygon(glands[0]), Polygon(HOLED.exterior))
    assert Polygon(tumors[0]).bounds == (20, 0, 31, 9)
    assert all(isinstance(value, int) for contour in glands for point in contour for value in point)


def test_the_documents_of_nothing():
    assert dsa_document([], COLORS, "a")["elements"] == []
    assert contours_document([], COLORS, (0, 0), (4, 4))["annotations"][0]["annotation"]["elements"] == []


# There and back: a mask, its outlines, a file, what is read, a mask

Writer = Callable[[Path, list[Annotation]], None]


def as_asap(path: Path, annotations: list[Annotation]) -> None:
    write_asap(path, annotations, COLORS, "a")


def as_geojson(path: Path, annotations: list[Annotation]) -> None:
    with GeoJSONWriter(path) as writer:
        for item in annotations:
            writer.write(feature(item.shape, item.name, COLORS[item.name]))


def as_dsa(path: Path, annotations: list[Annotation]) -> None:
    path.write_text(json.dumps(dsa_document(annotations, COLORS, "a")))


def glands() -> np.ndarray:
    """Return an oblong array: a hole with an island, glands that touch by side and by corner, all at the border."""
    plane = np.zeros((13, 22), np.uint8)
    plane[0:9, 0:10] = 1
    plane[2:7, 2:8] = 0
    plane[4, 4:6] = 2  # the island
    plane[0:5, 10:15] = 3  # beside 1
    plane[9:13, 10:16] = 4  # at the corner of 1
    plane[10:12, 12] = 0
    plane[11, 13] = 0  # a hole of two parts
    plane[5:13, 20:22] = 5
    plane[12, 0:3] = 6
    return plane


@pytest.mark.parametrize("write", [as_asap, as_geojson, as_dsa])
@pytest.mark.parametrize("offset", [(0, 0), (12345, 678)])
def test_a_mask_comes_back(tmp_path, write: Writer, offset):
    plane = glands()
    annotations = [Annotation("Gland", outline.shape) for outline in outlines(plane, offset)]
    write(tmp_path / "a", annotations)
    read = read_annotations(tmp_path / "a")
    height, width = plane.shape
    assert np.array_equal(draw_instances(read, (width, height), offset), plane)
    assert all(same(first.shape, second.shape) for first, second in zip(annotations, read, strict=True))


@pytest.mark.parametrize("write", [as_asap, as_geojson, as_dsa])
def test_classes_of_noise_come_back(tmp_path, write: Writer):
    names = ("", "Gland", "Tumor")
    plane = np.random.default_rng(5).integers(0, 3, (40, 61)).astype(np.uint8)
    for traced in (outlines, pieces):  # a MultiPolygon a class, a polygon a piece
        write(tmp_path / "a", [Annotation(names[outline.value], outline.shape) for outline in traced(plane)])
        read = read_annotations(tmp_path / "a")
        assert np.array_equal(draw_classes(read, (61, 40), {"gland": 1, "tumor": 2}), plane)


def test_contours_give_a_mask_without_holes():
    plane = (glands() == 1).astype(np.uint8)
    document = contours_document([Annotation("Gland", outlines(plane)[0].shape)], COLORS, (0, 0), (22, 13))
    (contour,) = document["annotations"][0]["annotation"]["elements"][0]["contours"]
    plane[0:9, 0:10] = 1
    assert np.array_equal(draw_instances([Annotation("Gland", Polygon(contour))], (22, 13)), plane)
