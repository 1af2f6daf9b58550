"""Annotation files as viewers write them, in XML and JSON, and invalid files."""

from __future__ import annotations

import json
import logging
import math
import time

import numpy as np
import pytest
import shapely
from lib.annotation import Annotation, AnnotationError, read_annotations
from lib.annotation.keyhole import keyhole

SQUARE = [[0, 0], [4, 0], [4, 4], [0, 4]]
INNER = [[1, 1], [3, 1], [3, 3], [1, 3]]
BOX = shapely.box(0, 0, 4, 4)


@pytest.fixture
def read(tmp_path):
    """Return a function that reads a text, or an object as JSON."""

    def from_content(content, name="label", **settings) -> list[Annotation]:
        path = tmp_path / name
        if not isinstance(content, str | bytes):
            content = json.dumps(content)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_annotations(path, **settings)

    return from_content


def outline(points, kind="Polygon", name="Gland", group="Gland", orders=None) -> str:
    """Return one outline in XML, with its points in order by default."""
    orders = range(len(points)) if orders is None else orders
    coordinates = "".join(
        f'<Coordinate Order="{order}" X="{x}" Y="{y}"/>' for order, (x, y) in zip(orders, points, strict=True)
    )
    attributes = f'Name="{name}" Type="{kind}" PartOfGroup="{group}" Color="#ff0000"'
    return f"<Annotation {attributes}><Coordinates>{coordinates}</Coordinates></Annotation>"


def asap(*outlines: str, before: str = "") -> str:
    """Return a file of the extension for a patch at (100, 200), with coordinates in the patch."""
    box = 'Name="" Description="" X="100" Y="200" W="50" H="50"'
    head = f'<?xml version="1.0" encoding="UTF-8" standalone="no"?>{before}<ASAP_Annotations><Annotations {box}>'
    groups = '<AnnotationGroups><Group Name="Gland" PartOfGroup="None" Color="#ff0000"/></AnnotationGroups>'
    return f"{head}{''.join(outlines)}</Annotations>{groups}</ASAP_Annotations>"


def feature(geometry, **properties):
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def polygon(*rings):
    return {"type": "Polygon", "coordinates": list(rings)}


def polyline(points, **further):
    return {"type": "polyline", "closed": True, "points": [[*point, 0] for point in points], **further}


def only(annotations: list[Annotation]) -> shapely.Geometry:
    assert len(annotations) == 1
    assert annotations[0].shape.is_valid
    return annotations[0].shape


# ASAP's XML


def test_an_outline_of_the_extension_is_read_where_it_lies(read):
    (annotation,) = read(asap(outline(SQUARE)))
    assert annotation.name == "Gland"
    assert annotation.shape.equals(BOX)


@pytest.mark.parametrize("ending", ["label.xml", "label.json", "label"])
def test_the_content_says_the_format(read, ending):
    assert only(read(asap(outline(SQUARE)), ending)).equals(BOX)
    assert only(read(b"\xef\xbb\xbf \n" + json.dumps(feature(polygon(SQUARE))).encode(), ending)).equals(BOX)


def test_utf_16_is_read(read):
    text = asap(outline(SQUARE, name="Drüse", group="Drüse")).replace("UTF-8", "UTF-16")
    (annotation,) = read(text.encode("utf-16"))
    assert annotation.name == "Drüse"


@pytest.mark.parametrize(
    ("name", "group", "expected"),
    [
        ("Annotation 7", "Tumor", "Tumor"),  # as ASAP writes it
        ("Gland", "None", "Gland"),
        ("Gland", "", "Gland"),
        ("Annotation 7", "None", "Stroma"),
        ("", "None", "Stroma"),
        (" A &amp; B ", "None", "A & B"),
    ],
)
def test_the_label_is_the_group_else_the_name(read, name, group, expected):
    (annotation,) = read(asap(outline(SQUARE, name=name, group=group)), default_name="Stroma")
    assert annotation.name == expected


def test_without_a_label_it_is_called_as_in_qupath(read):
    assert [item.name for item in read([feature(polygon(SQUARE))])] == ["Unclassified"]


def test_points_are_read_by_their_order(read):
    orders = (0, 2, 1, 10)
    crossed = [SQUARE[path] for path in (0, 2, 1, 3)]
    assert only(read(asap(outline(crossed, orders=orders)))).equals(BOX)


def test_points_without_an_order_are_read_as_they_come(read):
    text = outline(SQUARE, orders=[5, 6, 7, 8])
    for order in (5, 6, 7, 8):
        text = text.replace(f'Order="{order}" ', "")
    assert only(read(asap(text))).equals(BOX)


def test_an_ellipse_is_more_than_its_four_points(read):
    shape = only(read(asap(outline([[50, 0], [100, 20], [50, 40], [0, 20]], "Ellipse"))))
    assert shape.bounds == (0, 0, 100, 40)
    assert shape.area == pytest.approx(math.pi * 50 * 20, rel=1e-3)


def test_an_area_of_several_rings_is_cut_where_they_close(read):
    # outer ring, two holes, an island in the second: what QuPath writes of a "Geometry"
    rings = [shapely.box(0, 0, 40, 20), shapely.box(2, 2, 8, 8), shapely.box(12, 2, 30, 18), shapely.box(20, 5, 25, 9)]
    path = [[int(value) for value in point] for ring in rings for point in ring.exterior.coords]
    shape = only(read(asap(outline(path, "Geometry"))))
    assert shape.area == 40 * 20 - 36 - 18 * 16 + 5 * 4
    truth = rings[0].difference(rings[1]).difference(rings[2]).union(rings[3])
    assert shape.equals(truth)


def test_a_ring_that_passes_its_start_is_not_cut_there(read):
    # cut to whole numbers, two triangles touch in the first point of a ring, before a second ring
    first, second = [[5, 5], [0, 0], [10, 0], [5, 5], [10, 10], [0, 10], [5, 5]], [[20, 0], [24, 0], [24, 4], [20, 0]]
    assert only(read(asap(outline(first + second, "Geometry")))).area == 25 + 25 + 8


def test_many_rings_take_no_time(read):
    boxes = [shapely.box(3 * i, 3 * j, 3 * i + 2, 3 * j + 2) for i in range(40) for j in range(50)]
    path = [[int(value) for value in point] for ring in boxes for point in ring.exterior.coords]
    assert only(read(asap(outline(path, "Geometry")))).area == 4 * 2000


def test_a_path_that_does_not_close_is_one_ring(read):
    assert only(read(asap(outline(SQUARE, "Geometry")))).equals(BOX)


def test_what_is_no_area_is_left_out_and_told(read, caplog):
    flat = [[0, 0], [5, 5], [9, 9]]
    kinds = [outline(SQUARE, kind) for kind in ("Polyline", "Dot", "PointSet", "Measurement", "Line")]
    with caplog.at_level(logging.INFO):
        annotations = read(asap(*kinds, outline(SQUARE), outline([]), outline(flat), outline([[1, 1]] * 5, "Geometry")))
    assert [item.name for item in annotations] == ["Gland"]
    assert "left out 8 objects" in caplog.text
    assert "1 Polyline" in caplog.text
    assert "2 without area" in caplog.text
    assert "1 empty" in caplog.text


# Rings that viewers give


@pytest.mark.parametrize(
    ("ring", "area"),
    [
        ([*SQUARE, SQUARE[0]], 16),
        ([*SQUARE, SQUARE[0], *INNER, INNER[0]], 12),  # a keyhole: over the bridge, around, back
        ([[0, 0], [4, 4], [4, 0], [0, 4]], 8),  # a bow tie
        ([[0, 0], [10, 0], [10, 6], [4, 6], [4, 2], [6, 2], [6, 10], [0, 10]], 76),  # a curl: its overlap is outside
        ([[0, 0], [8, 0], [4, 0], [4, 4], [0, 4]], 16),  # a spike
    ],
)
def test_rings_are_repaired_by_even_odd_filling(read, ring, area):
    for result in (read(asap(outline(ring))), read(feature(polygon(ring))), read({"elements": [polyline(ring)]})):
        assert only(result).area == area


def odd(points, ring):
    """Return whether a line to the right of each point crosses the ring an odd number of times."""
    x, y = points[:, None, 0], points[:, None, 1]
    (from_x, from_y), (to_x, to_y) = ring.T, np.roll(ring, -1, axis=0).T
    passed = (from_y <= y) != (to_y <= y)
    rise = np.where(from_y == to_y, 1, to_y - from_y)
    return (passed & (x < from_x + (y - from_y) / rise * (to_x - from_x))).sum(axis=1) % 2 == 1


def test_tangled_rings_are_filled_where_a_line_crosses_them_an_odd_number_of_times(read):
    random = np.random.default_rng(0)
    points = random.uniform(0, 8, (400, 2))
    for _ in range(40):
        ring = random.integers(0, 8, (20, 2))  # few places: rings touch themselves and walk sides twice
        shape = only(read({"elements": [polyline(ring.tolist())]}))
        assert np.array_equal(shapely.contains_xy(shape, points), odd(points, ring))


# GeoJSON


def test_collection_list_and_single_feature_are_read(read):
    first = feature(polygon([*SQUARE, SQUARE[0]]), classification={"name": "Gland", "colorRGB": -65536})
    for content in ({"type": "FeatureCollection", "features": [first]}, [first], first):
        (annotation,) = read(content)
        assert annotation == ("Gland", annotation.shape)
        assert annotation.shape.equals(BOX)
    assert only(read(polygon(SQUARE))).equals(BOX)
    assert read({"type": "FeatureCollection", "features": []}) == read([]) == []


@pytest.mark.parametrize(
    ("classification", "name"),
    [
        ({"name": "Gland", "color": [1, 2, 3]}, "Gland"),
        ("Gland", "Gland"),
        ({"names": ["Gland", "Positive"]}, "Gland: Positive"),
        ({"name": None}, "other"),
        (None, "other"),
        (7, "other"),
    ],
)
def test_the_classification_is_the_name(read, classification, name):
    (annotation,) = read(feature(polygon(SQUARE), classification=classification, name="gland 7"), default_name="other")
    assert annotation.name == name


def test_holes_and_several_polygons_are_kept(read):
    far = [[x + 10, y] for x, y in SQUARE]
    shape = only(read(feature({"type": "MultiPolygon", "coordinates": [[SQUARE, INNER], [far]]})))
    assert shape.equals(shapely.MultiPolygon([shapely.Polygon(SQUARE, [INNER]), shapely.Polygon(far)]))


def test_polygons_that_overlap_are_one(read):
    shape = only(read(feature({"type": "MultiPolygon", "coordinates": [[SQUARE], [INNER]]})))
    assert shape.equals(BOX)


def test_of_a_hole_that_sticks_out_counts_what_is_inside(read):
    assert only(read(feature(polygon(SQUARE, [[2, 1], [9, 1], [9, 3], [2, 3]])))).area == 12


def test_a_third_coordinate_is_left_out(read):
    assert only(read(feature(polygon([[x, y, 5] for x, y in SQUARE])))).equals(BOX)


def test_a_collection_of_geometries_gives_its_areas(read, caplog):
    parts = [{"type": "Point", "coordinates": [1, 1]}, polygon(SQUARE), polygon([[4, 0], [8, 0], [8, 4], [4, 4]])]
    with caplog.at_level(logging.INFO):
        shape = only(read(feature({"type": "GeometryCollection", "geometries": parts})))
    assert shape.equals(shapely.box(0, 0, 8, 4))
    assert "1 Point" in caplog.text


def test_points_lines_and_empty_geometries_are_left_out(read, caplog):
    line = {"type": "LineString", "coordinates": SQUARE}
    with caplog.at_level(logging.INFO):
        annotations = read(
            [feature(line), feature(None), feature(polygon()), feature(polygon([[0, 0], [1, 1], [2, 2]]))]
        )
    assert annotations == []
    assert "1 LineString, 1 empty, 2 without area" in caplog.text


def test_objects_within_objects_are_read(read):
    child = feature(polygon(INNER), classification="Lumen")
    annotations = read(feature(polygon(SQUARE), classification="Gland", childObjects=[child]))
    assert [item.name for item in annotations] == ["Gland", "Lumen"]


# HistomicsUI's JSON


def test_elements_are_read_with_holes(read):
    element = polyline(SQUARE, holes=[[[*point, 0] for point in INNER]], group="Gland", label={"value": "7"})
    for content in ({"elements": [element]}, {"annotation": {"elements": [element]}, "_id": "0"}):
        for whole in (content, [content]):
            (annotation,) = read(whole)
            assert annotation.name == "Gland"
            assert annotation.shape.equals(shapely.Polygon(SQUARE, [INNER]))


@pytest.mark.parametrize("group", [{}, {"group": "default"}, {"group": ""}, {"group": None}])
def test_without_a_group_the_label_is_the_name(read, group):
    annotations = read({"elements": [polyline(SQUARE, label={"value": "Gland"}, **group), polyline(SQUARE, **group)]})
    assert [item.name for item in annotations] == ["Gland", "Unclassified"]


def test_rectangles_circles_and_ellipses_are_read(read):
    ellipse = {"center": [10, 20, 0], "width": 8, "height": 2}
    annotations = read(
        {"elements": [{"type": "rectangle", **ellipse}, {"type": "rectangle", **ellipse, "rotation": math.pi / 4}]}
    )
    assert annotations[0].shape.equals(shapely.box(6, 19, 14, 21))
    assert annotations[1].shape.contains(shapely.Point(10 + 2.5, 20 + 2.5))  # turned from x towards y
    assert annotations[1].shape.area == pytest.approx(16)
    circle = {"type": "circle", "center": [10, 20, 0], "radius": 4}
    annotations = read({"elements": [{"type": "ellipse", **ellipse}, circle]})
    assert [item.shape.area for item in annotations] == pytest.approx([math.pi * 4, math.pi * 16], rel=1e-3)
    assert annotations[1].shape.bounds == (6, 16, 14, 24)


def test_open_polylines_and_other_elements_are_left_out(read, caplog):
    opened = {**polyline(SQUARE), "closed": False}
    with caplog.at_level(logging.INFO):
        assert read({"elements": [opened, {"type": "point", "center": [1, 1, 0]}]}) == []
    assert "1 open polyline, 1 point" in caplog.text


# What is refused, in one sentence that names the file

LAUGHS = '<!DOCTYPE lolz [<!ENTITY lol "lol"><!ENTITY lol2 "&lol;&lol;&lol;&lol;&lol;&lol;&lol;&lol;&lol;&lol;">]>'
OUTSIDE = '<!DOCTYPE a SYSTEM "file:///etc/passwd">'
REFUSED = {
    "nothing": ("", "neither XML nor JSON"),
    "a text": ("x,y\n1,2\n", "neither XML nor JSON"),
    "half of XML": (asap(outline(SQUARE))[:-30], "not XML"),
    "an unknown entity": (asap(outline(SQUARE, name="&lol;")), "not XML"),
    "billion laughs": (asap(outline(SQUARE, name="&lol2;"), before=LAUGHS), "declares a document type"),
    "an outside entity": (asap(outline(SQUARE), before=OUTSIDE), "declares a document type"),
    "another root": ("<Annotations><Annotation/></Annotations>", "root is <Annotations>"),
    "two points in XML": (asap(outline(SQUARE), outline(SQUARE[:2])), "annotation 2 ('Gland'): a ring has 2 points"),
    "a closed pair": (asap(outline([*SQUARE[:2], SQUARE[0]])), "a ring has 2 points"),
    "NaN in XML": (asap(outline([["nan", 0], *SQUARE])), "not finite"),
    "no number in XML": (asap(outline([["1,5", 0], *SQUARE])), "annotation 1, line 1: a coordinate is not a number"),
    "half of JSON": ('{"type": "FeatureCollection", "features": [', "not JSON"),
    "not UTF-8": (b'{"type": "\xe9\xe9"}', "not JSON"),
    "a number too long": ('{"type": ' + "9" * 5000 + "}", "not JSON"),
    "a deep nest": ("[" * 200_000, "cannot be read"),
    "another document": ({"images": []}, "neither features nor elements"),
    "numbers": ([1, 2], "entry 1 is not a GeoJSON feature"),
    "half of a list": ("[1, 2", "not JSON"),
    "no features": ({"type": "FeatureCollection"}, "no list of features"),
    "an odd feature": ([{"type": "Topology"}], "entry 1 is not a GeoJSON feature"),
    "an odd geometry": (feature({"type": "Curve"}), "'Curve', which GeoJSON does not have"),
    "a number as a geometry": (feature(5), "which GeoJSON does not have"),
    "no coordinates": (feature({"type": "Polygon"}), "no list of coordinates"),
    "no rings": (feature(polygon(5)), "not made of pairs"),
    "flat rings": (feature({"type": "MultiPolygon", "coordinates": [5]}), "not a list of rings"),
    "single numbers": (feature(polygon([1, 2, 3])), "not made of pairs"),
    "texts": (feature(polygon([["1", "2"], ["3", "4"], ["5", "5"]])), "not made of pairs"),
    "one number a point": (feature(polygon([[1], [2], [3]])), "not made of pairs"),
    "ragged points": (feature(polygon([[1, 1], [2], [3, 1]])), "not made of pairs"),
    "two points": (
        [feature(polygon(SQUARE)), feature(polygon(SQUARE[:2]))],
        "feature 2 ('Unclassified'): a ring has 2",
    ),
    "a hole of no points": (feature(polygon(SQUARE, [])), "a ring has 0 points"),
    "NaN": (feature(polygon([[math.nan, 1], *SQUARE])), "not finite"),
    "infinite": (feature(polygon([[math.inf, 1], *SQUARE])), "not finite"),
    "far away": (feature(polygon([[1e12, 1], *SQUARE])), "too large for an image"),
    "very far away": (feature(polygon([[10**400, 1], *SQUARE])), "not made of pairs"),
    "elements that are none": ({"elements": 5}, "elements are not a list"),
    "an element that is none": ({"elements": [5]}, "element 1 is not an object"),
    "no points": ({"elements": [{"type": "polyline", "closed": True}]}, "element 1 ('Unclassified'): a ring"),
    "odd holes": ({"elements": [polyline(SQUARE, holes=5)]}, "holes are not a list"),
    "no size": ({"elements": [{"type": "rectangle", "center": [1, 1, 0]}]}, "no center and size"),
    "an infinite size": (
        {"elements": [{"type": "circle", "center": [1, 1, 0], "radius": math.inf}]},
        "not finite or too large",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_polygon_file_is_refused(read, case):
    content, sentence = REFUSED[case]
    with pytest.raises(AnnotationError) as error:
        read(content, "case.label")
    assert sentence in str(error.value)
    assert "case.label cannot be read: " in str(error.value)
    assert isinstance(error.value, ValueError)


def test_a_file_that_is_too_large_is_refused(read):
    text = asap(outline(SQUARE))
    assert read(text, max_bytes=len(text))
    with pytest.raises(AnnotationError, match=r"label is larger than 0\.5 MiB"):
        read(text + " " * 2**20, max_bytes=2**19)


def test_a_missing_file_is_an_error_of_the_system(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.xml"):
        read_annotations(tmp_path / "none.xml")


TOOTH = [(k, 1000 * (k % 2)) for k in range(3000)]
TANGLED = {
    "random points": (np.random.default_rng(0).random((800, 2)) * 1000, "crosses itself more than 2,000"),
    "a repeated triangle": ([[0, 0], [9, 0], [9, 9]] * 300, "retraces 50,000 times"),
    "edges side by side": ([(k + 10**6 * (k % 2), 10**6 * (k % 2)) for k in range(5001)], "near each other"),
}
COMBS = [[*TOOTH, (3000, -1), (-1, -1)], [*((y, x) for x, y in TOOTH), (-1, 3000), (-1, -1)]]


@pytest.mark.parametrize("case", TANGLED)
def test_tangled_outlines_are_refused_at_once(read, case):
    points, sentence = TANGLED[case]
    ring = np.asarray(points).tolist()
    start = time.thread_time()
    for content in (asap(outline(ring)), feature(polygon(ring)), {"elements": [polyline(ring)]}):
        with pytest.raises(AnnotationError, match=sentence):
            read(content)
    assert time.thread_time() - start < 20


def test_rings_that_cross_each_other_everywhere_are_refused(read):
    """Each is valid alone."""
    several = {"type": "MultiPolygon", "coordinates": [[ring] for ring in COMBS]}
    for content in (feature(polygon(*COMBS)), feature(several), {"elements": [polyline(COMBS[0], holes=COMBS[1:])]}):
        with pytest.raises(AnnotationError, match="crosses itself more than"):
            read(content)
    area = [point for ring in COMBS for point in [*ring, ring[0]]]
    with pytest.raises(AnnotationError, match="crosses itself more than"):
        read(asap(outline(area, "Area")))


def test_an_outline_of_many_holes_and_one_of_many_points_are_read(read):
    """Every hole is reached over a bridge, which is walked twice."""
    holes = [shapely.box(x, y, x + 4, y + 4).exterior for x in range(2, 402, 10) for y in range(2, 402, 10)]
    sieve = shapely.Polygon(shapely.box(0, 0, 402, 402).exterior, holes)
    assert only(read(asap(outline(keyhole(sieve).tolist())))).area == sieve.area
    angle = np.linspace(0, 2 * np.pi, 20_000, endpoint=False)
    radius = 2000 + 200 * np.sin(50 * angle)
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    truncated = only(read(asap(outline(points.astype(int).tolist())))).area
    assert truncated == pytest.approx(only(read(feature(polygon(points.tolist())))).area, rel=0.01)


def test_a_file_that_takes_too_long_is_refused(read):
    with pytest.raises(AnnotationError, match=r"the first 1 objects took more than 0 s"):
        read(asap(outline(SQUARE), outline(SQUARE)), max_seconds=0)


@pytest.mark.parametrize("encoding", ["klingon", "utf-32", "shift_jis", "idna", "zlib", "hex"])
def test_an_encoding_that_nobody_knows_is_refused(read, encoding):
    with pytest.raises(AnnotationError, match=r"(encoding|not XML).*(save it as UTF-8|export it)"):
        read(asap(outline(SQUARE)).replace('encoding="UTF-8"', f'encoding="{encoding}"'))
