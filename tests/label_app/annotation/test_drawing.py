"""Label images of annotations against hand-drawn arrays, and against GEOS at pixel centers."""

from __future__ import annotations

import time

import numpy as np
import pytest
import shapely
from lib.annotation import Annotation, AnnotationError, draw_classes, draw_instances
from shapely import MultiPolygon, Polygon


def gland(shape) -> Annotation:
    return Annotation("Gland", shape)


def drawn(shape, size=(6, 4), **settings) -> list[str]:
    """Return the rows of a picture of one shape, # inside."""
    picture = draw_instances([gland(shape)], size, **settings)
    return ["".join(".#"[value] for value in row) for row in picture]


def test_a_pixel_belongs_to_a_shape_if_its_center_does():
    assert drawn(shapely.box(1, 1, 4, 3)) == ["......", ".###..", ".###..", "......"]
    assert drawn(shapely.box(1.4, 0.6, 3.6, 2.6)) == ["......", ".###..", ".###..", "......"]
    assert drawn(shapely.box(1.6, 1.4, 3.4, 2.4)) == ["......", "..#...", "......", "......"]


def test_a_center_on_the_border_belongs_to_what_is_right_of_it_or_below():
    assert drawn(shapely.box(1.5, 0.5, 3.5, 2.5)) == [".##...", ".##...", "......", "......"]


def test_holes_stay_empty_and_an_island_is_drawn():
    ring = shapely.box(0, 0, 6, 4).difference(shapely.box(1, 1, 5, 3))
    assert drawn(ring) == ["######", "#....#", "#....#", "######"]
    assert drawn(ring.union(shapely.box(2, 1, 3, 2))) == ["######", "#.#..#", "#....#", "######"]


def test_offset_and_scale_say_where_the_picture_lies():
    shape = shapely.box(104, 202, 112, 206)
    assert drawn(shape, offset=(100, 200), scale=2.0) == ["......", "..####", "..####", "......"]
    assert drawn(shape, offset=(103, 201)) == ["......", ".#####", ".#####", ".#####"]
    assert drawn(shapely.box(1, 1, 2, 2), size=(8, 8), scale=0.5)[2:4] == ["..##....", "..##...."]


@pytest.mark.parametrize("path", [(-2, -3), (20, 1), (3, 40), (-40, 2)])
def test_what_lies_outside_is_cut_off(path):
    shape = shapely.box(path[0], path[1], path[0] + 5, path[1] + 6)
    whole = draw_instances([gland(shape)], (100, 100), offset=(-50, -50))
    assert whole.sum() == 30
    assert np.array_equal(draw_instances([gland(shape)], (6, 4)), whole[50:54, 50:56])


def test_slanted_shapes_have_the_pixels_that_geos_says():
    random = np.random.default_rng(0)
    for _ in range(30):
        points = random.uniform(-5, 45, (7, 2))
        shape = shapely.make_valid(Polygon(points), method="linework")
        if shape.geom_type not in ("Polygon", "MultiPolygon"):
            continue
        scale, offset = random.uniform(0.5, 2), random.uniform(-3, 3, 2)
        x, y = np.meshgrid((np.arange(40) + 0.5) * scale + offset[0], (np.arange(30) + 0.5) * scale + offset[1])
        truth = shapely.contains_xy(shape, x, y)
        assert np.array_equal(draw_instances([gland(shape)], (40, 30), tuple(offset), scale), truth)


@pytest.mark.parametrize("scale", [1.0, 2.0, 3.0, 0.7])
def test_shapes_that_touch_share_no_pixel_and_leave_none_out(scale):
    random = np.random.default_rng(1)
    corners = random.integers(0, 40, (30, 2))  # whole numbers: many centers lie on borders
    hull = shapely.box(0, 0, 40, 40)
    cells = [
        gland(cell) for cell in shapely.delaunay_triangles(shapely.MultiPoint([*corners, *hull.exterior.coords])).geoms
    ]
    size = (int(40 / scale), int(40 / scale))
    values = [draw_instances([cell], size, scale=scale) for cell in cells]
    assert (np.sum(values, axis=0) == 1).all()
    assert len(cells) > 20


def test_each_has_a_number_and_later_ones_lie_on_top():
    shapes = [shapely.box(0, 0, 3, 1), shapely.box(3, 0, 5, 1), shapely.box(1, 0, 2, 1)]
    picture = draw_instances([gland(shape) for shape in shapes], (6, 1))
    assert picture.tolist() == [[1, 3, 1, 2, 2, 0]]
    assert picture.dtype == np.uint16


def test_an_annotation_of_several_polygons_has_one_number():
    shape = MultiPolygon([shapely.box(0, 0, 1, 1), shapely.box(2, 0, 3, 1)])
    assert draw_instances([gland(shape)], (4, 1)).tolist() == [[1, 0, 1, 0]]


def test_many_annotations_have_larger_numbers():
    many = [gland(shapely.box(5, 0, 6, 1))] * 69_999 + [gland(shapely.box(0, 0, 1, 1))]
    picture = draw_instances(many, (1, 1))
    assert picture.dtype == np.int32
    assert picture.item() == 70_000


def test_no_annotation_and_an_empty_one_give_background():
    assert draw_instances([gland(Polygon())], (2, 1)).tolist() == [[0, 0]]
    assert draw_instances([], (3, 2)).tolist() == [[0, 0, 0], [0, 0, 0]]
    assert draw_classes([], (3, 2), {}).shape == (2, 3)


def test_classes_are_found_by_name_in_any_case():
    shapes = [Annotation("GLAND", shapely.box(0, 0, 1, 1)), Annotation(" tumor", shapely.box(1, 0, 2, 1))]
    picture = draw_classes(shapes, (3, 1), {"Gland": 1, "Tumor": 255})
    assert picture.tolist() == [[1, 255, 0]]
    assert picture.dtype == np.uint8


def test_a_name_without_a_number_is_refused():
    with pytest.raises(AnnotationError, match=r"'Stroma'.*the classes are: Gland, Tumor"):
        draw_classes([Annotation("Stroma", shapely.box(0, 0, 1, 1))], (2, 2), {"Gland": 1, "Tumor": 2})


def test_numbers_sizes_and_scales_that_cannot_be_are_refused():
    with pytest.raises(AnnotationError, match="'Gland': 256"):
        draw_classes([], (2, 2), {"Gland": 256})
    for size, scale in (((0, 2), 1.0), ((2, -1), 1.0), ((2, 2), 0.0), ((2, 2), float("nan"))):
        with pytest.raises(AnnotationError, match="must be positive"):
            draw_instances([], size, scale=scale)


def test_a_thousand_glands_on_a_large_picture_are_fast():
    random = np.random.default_rng(2)
    glands = [gland(shapely.Point(path).buffer(60, quad_segs=32)) for path in random.uniform(0, 4096, (1000, 2))]
    began = time.process_time()
    draw_instances([*glands, gland(shapely.box(0, 0, 4096, 4096))], (4096, 4096))
    assert time.process_time() - began < 5
