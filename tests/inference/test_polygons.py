"""Outlines against the union of the squares of all pixels, and on hand-drawn arrays."""

from __future__ import annotations

import time

import numpy as np
import pytest
import shapely
from shapely import MultiPolygon, Polygon

from bundle.inference.polygons import outlines, pieces, simplify_shape


def squares(plane: np.ndarray) -> dict[int, shapely.Geometry]:
    """Return for each number the union of the squares of its pixels, by GEOS."""
    drawn = {}
    for value in np.unique(plane[plane > 0]).tolist():
        rows, columns = np.nonzero(plane == value)
        drawn[value] = shapely.union_all(shapely.box(columns, rows, columns + 1, rows + 1))
    return drawn


def plane_of(*rows: str) -> np.ndarray:
    """Return the array of a drawing: digits, and dots for background."""
    return np.array([[0 if sign == "." else int(sign) for sign in row] for row in rows])


def same(first: shapely.Geometry, second: shapely.Geometry) -> bool:
    """Return whether two shapes have the same points, wherever their rings start."""
    return shapely.normalize(first).equals_exact(shapely.normalize(second), 0)


# Exactness


@pytest.mark.parametrize("values", [2, 3, 5])
def test_outlines_of_noise_are_the_union_of_its_pixels(values):
    random = np.random.default_rng(values)
    for _ in range(100):
        plane = random.integers(0, values, random.integers(1, 9, 2))
        polygons = outlines(plane)
        truth = squares(plane)
        assert [outline.value for outline in polygons] == list(truth)
        for outline in polygons:
            assert outline.shape.is_valid, outline.shape.wkt
            assert outline.shape.equals(truth[outline.value])
            assert outline.shape.area == (plane == outline.value).sum()


def test_pieces_of_noise_are_polygons_that_hang_together_by_sides():
    plane = np.random.default_rng(1).integers(0, 3, (40, 50))
    for value, truth in squares(plane).items():
        polygons = [shapely.normalize(piece.shape).wkb for piece in pieces(plane) if piece.value == value]
        parts = [simplify_shape(part) for part in shapely.get_parts(truth)]
        assert sorted(polygons) == sorted(shapely.normalize(part).wkb for part in parts)


def test_only_corners_are_points():
    (square,) = outlines(np.ones((5, 7), np.uint8))
    assert same(square.shape, shapely.box(0, 0, 7, 5))
    assert shapely.get_num_coordinates(square.shape) == 5
    (step,) = outlines(plane_of("11.", "111"))
    assert same(step.shape, Polygon([(0, 0), (2, 0), (2, 1), (3, 1), (3, 2), (0, 2)]))


def test_the_offset_moves_x_and_y():
    (polygon,) = outlines(plane_of("...", "..1"), offset=(100, 2000))
    assert polygon.shape.bounds == (102, 2001, 103, 2002)


def test_a_hole_stays_and_an_island_in_it_is_of_its_own():
    plane = plane_of("11111", "1...1", "1.1.1", "1...1", "11111")
    ring, island = pieces(plane)
    assert (ring.shape.area, len(ring.shape.interiors)) == (16, 1)
    assert same(island.shape, shapely.box(2, 2, 3, 3))
    (both,) = outlines(plane)
    assert both.shape.geom_type == "MultiPolygon"
    assert both.shape.area == 17


def test_a_hole_that_reaches_the_outside_at_a_corner_is_a_hole():
    plane = plane_of("111", "1.1", "11.")
    (polygon,) = pieces(plane)
    assert polygon.shape.is_valid
    assert len(polygon.shape.interiors) == 1
    assert polygon.shape.equals(squares(plane)[1])


def test_an_instance_that_holds_together_at_a_corner_is_several_polygons():
    (polygon,) = outlines(plane_of("7..", ".7.", "..7"))
    assert polygon.value == 7
    assert polygon.shape.is_valid
    assert len(polygon.shape.geoms) == 3
    assert [piece.shape.area for piece in pieces(plane_of("7..", ".7.", "..7"))] == [1, 1, 1]


def test_touching_instances_share_a_border_and_nothing_else():
    left, right = outlines(plane_of("1122", "1122"))
    assert left.shape.touches(right.shape)
    assert left.shape.intersection(right.shape).length == 2


@pytest.mark.parametrize("kind", [bool, np.uint8, np.int32, np.uint16, np.int64])
def test_every_integer_type_gives_the_same(kind):
    (polygon,) = outlines(plane_of(".11", "11.").astype(kind))
    assert (polygon.value, polygon.shape.area) == (1, 4)


def test_numbers_may_be_large_and_negative_ones_are_background():
    plane = np.array([[70_000, -1], [0, 3]])
    assert [(outline.value, outline.shape.bounds) for outline in outlines(plane)] == [
        (3, (1, 1, 2, 2)),
        (70_000, (0, 0, 1, 1)),
    ]


@pytest.mark.parametrize("shape", [(4, 5), (0, 5), (0, 0)])
def test_an_empty_plane_has_no_outlines(shape):
    assert outlines(np.zeros(shape, np.uint8)) == []
    assert pieces(np.zeros(shape, np.uint8)) == []


# Sizes and simplification


def test_small_outlines_are_dropped():
    plane = plane_of("11.2", "11..", "...2")
    assert [outline.value for outline in outlines(plane, min_area=4)] == [1]
    assert [outline.value for outline in outlines(plane, min_area=2)] == [1, 2]  # all of an instance counts
    assert [piece.value for piece in pieces(plane, min_area=2)] == [1]


def test_small_holes_are_filled():
    plane = plane_of("1111111", "1.1...1", "1111.11", "1111111")
    (polygon,) = outlines(plane, min_hole_area=2)
    assert [Polygon(hole).area for hole in polygon.shape.interiors] == [4]
    (polygon,) = outlines(plane, min_hole_area=4.5)
    assert same(polygon.shape, shapely.box(0, 0, 7, 4))


def test_an_island_in_a_hole_that_is_filled_becomes_part_of_the_whole():
    plane = plane_of("11111", "1...1", "1.1.1", "1...1", "11111")
    (polygon,) = outlines(plane, min_hole_area=100)
    assert same(polygon.shape, shapely.box(0, 0, 5, 5))


def test_a_simplified_disk_has_few_points_and_stays_near():
    rows, columns = np.indices((120, 120))
    plane = ((rows - 60) ** 2 + (columns - 60) ** 2 <= 50**2) & ((rows - 60) ** 2 + (columns - 60) ** 2 >= 10**2)
    (exact,), (simple,) = outlines(plane), outlines(plane, tolerance=1.5)
    assert simple.shape.is_valid
    assert len(simple.shape.interiors) == 1
    assert shapely.get_num_coordinates(simple.shape) < shapely.get_num_coordinates(exact.shape) / 4
    assert simple.shape.hausdorff_distance(exact.shape) <= 1.5


def test_what_is_simplified_is_valid_for_noise_too():
    for seed in range(30):
        plane = np.random.default_rng(seed).integers(0, 3, (12, 12))
        for outline in [*outlines(plane, tolerance=2.0), *pieces(plane, tolerance=2.0)]:
            assert outline.shape.is_valid
            assert not outline.shape.is_empty


def test_where_simplifying_breaks_a_shape_the_exact_one_stays(monkeypatch):
    bow_tie = Polygon([(0, 0), (1, 1), (1, 0), (0, 1)])
    for broken in (bow_tie, Polygon()):
        monkeypatch.setattr(shapely, "simplify", lambda *given, broken=broken, **more: broken)
        assert same(simplify_shape(shapely.box(0, 0, 3, 3), tolerance=1), shapely.box(0, 0, 3, 3))


def test_points_in_the_middle_of_a_side_are_taken_out_of_a_union():
    joined = shapely.union_all([shapely.box(0, 0, 2, 2), shapely.box(2, 0, 3, 2)])
    assert shapely.get_num_coordinates(simplify_shape(joined)) == 5
    several = MultiPolygon([Polygon([(0, 0), (1, 0), (2, 0), (2, 1), (0, 1)]), shapely.box(5, 5, 6, 6)])
    assert shapely.get_num_coordinates(simplify_shape(several)) == 10


# Errors and time


@pytest.mark.parametrize("plane", [np.zeros((2, 3, 4), np.uint8), np.zeros(5, np.uint8)])
def test_a_plane_has_two_dimensions(plane):
    with pytest.raises(ValueError, match="it must be \\(H, W\\)"):
        outlines(plane)


def test_probabilities_are_no_numbers_of_glands():
    with pytest.raises(ValueError, match="float32; it must hold integers"):
        outlines(np.zeros((3, 3), np.float32))


def test_a_tile_of_a_hundred_glands_takes_a_fraction_of_a_second():
    rows, columns = np.indices((1024, 1024)) % 102
    numbers = np.add.outer(np.arange(1024) // 102 * 11, np.arange(1024) // 102) + 1
    plane = np.where((rows - 51) ** 2 + (columns - 51) ** 2 <= 40**2, numbers, 0)
    started = time.process_time()
    polygons = outlines(plane)
    assert len(polygons) == 100
    assert time.process_time() - started < 1  # 0.1 on a slow machine
