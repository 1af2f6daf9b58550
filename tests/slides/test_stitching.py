"""Glands of a mask that was divided into blocks equal those of the whole mask, point for point."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from scipy import ndimage

from bundle.inference.polygons import Outline, outlines, pieces, simplify_shape
from bundle.slides.stitching import OutlineJoiner

Core = tuple[int, int, int, int]


def grid(width: int, height: int, side: int) -> list[Core]:
    """Return square blocks in raster order, smaller ones at the border."""
    rows, columns = range(0, height, side), range(0, width, side)
    return [(x, y, min(x + side, width), min(y + side, height)) for y in rows for x in columns]


def shrunk(cores: list[Core], mask: np.ndarray) -> list[Core]:
    """Crop the cores to the foreground; leave out cores without foreground."""
    saved = []
    for x0, y0, x1, y1 in cores:
        rows, columns = np.nonzero(mask[y0:y1, x0:x1])
        if len(rows):
            saved.append((x0 + columns.min(), y0 + rows.min(), x0 + columns.max() + 1, y0 + rows.max() + 1))
    return [tuple(map(int, core)) for core in saved]


def cut(width: int, height: int, random: np.random.Generator) -> list[Core]:
    """Return blocks of random sizes, by splitting the slide recursively."""

    def parted(x0: int, y0: int, x1: int, y1: int, times: int) -> list[Core]:
        if times == 0 or min(x1 - x0, y1 - y0) < 3:
            return [(x0, y0, x1, y1)]
        if random.random() < 0.5:
            at = int(random.integers(x0 + 1, x1))
            return parted(x0, y0, at, y1, times - 1) + parted(at, y0, x1, y1, times - 1)
        at = int(random.integers(y0 + 1, y1))
        return parted(x0, y0, x1, at, times - 1) + parted(x0, at, x1, y1, times - 1)

    return parted(0, 0, width, height, 4)


def joined(mask: np.ndarray, cores: list[Core], order: np.ndarray | None = None, **settings: float) -> list[Outline]:
    """Join the outlines of a mask, block by block."""
    joined_outlines: list[Outline] = []
    joiner = OutlineJoiner(cores, joined_outlines.append, **settings)
    for index in range(len(cores)) if order is None else order.tolist():
        x0, y0, x1, y1 = cores[index]
        joiner.put(index, outlines(mask[y0:y1, x0:x1], (x0, y0)))
    assert joiner.waiting == 0  # all cores have come, so nothing is left for the end
    joiner.close()
    return joined_outlines


def written(joined_outlines: list[Outline]) -> list[tuple[int, bytes]]:
    """Normalize outlines for comparison: the same shapes get the same points."""
    return sorted((value, shapely.normalize(shape).wkb) for value, shape in joined_outlines)


def blobs(width: int, height: int, seed: int, smooth: float = 1.0) -> np.ndarray:
    """Return a mask of two classes with holes, bridges and touching glands; noise if it is not smoothed."""
    random = np.random.default_rng(seed)
    foreground = ndimage.gaussian_filter(random.normal(size=(height, width)), smooth) > 0
    second = ndimage.gaussian_filter(random.normal(size=(height, width)), 2 * smooth) > 0
    return (foreground * (1 + second)).astype(np.uint8)


# Blocks and the whole


@pytest.mark.parametrize("side", [1, 4, 7, 16, 100])
@pytest.mark.parametrize("smooth", [0.0, 1.0, 3.0])
def test_squares_of_a_mask_give_the_glands_of_the_whole(side, smooth):
    mask = blobs(37, 29, side, smooth)
    assert written(joined(mask, grid(37, 29, side))) == written(pieces(mask))


@pytest.mark.parametrize("seed", range(20))
def test_blocks_of_all_sizes_in_any_order_give_the_glands_of_the_whole(seed):
    random = np.random.default_rng(seed)
    width, height = random.integers(8, 50, 2).tolist()
    mask = blobs(width, height, seed, random.choice([0, 0.7, 2]))
    cores = cut(width, height, random)
    joined_outlines = joined(mask, cores, random.permutation(len(cores)))
    assert written(joined_outlines) == written(pieces(mask))
    assert all(outline.shape.is_valid for outline in joined_outlines)


@pytest.mark.parametrize("seed", range(10))
def test_cores_that_are_shrunk_to_their_tissue_give_the_glands_of_the_whole(seed):
    mask = blobs(60, 50, seed) * (ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(50, 60)), 6) > 0)
    cores = shrunk(grid(60, 50, 8), mask)
    assert len(cores) < len(grid(60, 50, 8))
    assert written(joined(mask, cores)) == written(pieces(mask))


def test_without_joining_the_glands_of_the_blocks_are_others():
    """Check that the masks of the tests above have glands across seams."""
    mask = blobs(37, 29, 7)
    apart = [outline for x0, y0, x1, y1 in grid(37, 29, 7) for outline in pieces(mask[y0:y1, x0:x1], (x0, y0))]
    assert len(apart) > 1.5 * len(pieces(mask))


def test_a_ring_around_four_blocks_is_one_gland_with_one_hole():
    mask = np.zeros((40, 40), np.uint8)
    mask[5:35, 5:35] = 1
    mask[10:30, 10:30] = 0
    (joined_outlines,) = joined(mask, grid(40, 40, 20))
    ring = shapely.box(5, 5, 35, 35) - shapely.box(10, 10, 30, 30)
    assert shapely.normalize(joined_outlines.shape) == shapely.normalize(ring)
    assert shapely.get_num_coordinates(joined_outlines.shape) == 10  # no point is left of the seams


def test_pieces_that_meet_at_a_corner_of_blocks_stay_apart():
    mask = np.zeros((4, 4), np.uint8)
    mask[:2, :2] = mask[2:, 2:] = 1
    assert written(joined(mask, grid(4, 4, 2))) == written(pieces(mask))
    assert len(joined(mask, grid(4, 4, 2))) == 2


def test_pieces_that_meet_at_a_point_of_a_seam_stay_apart():
    mask = np.array([[1, 1, 0, 0], [0, 0, 1, 1]], np.uint8)
    assert len(joined(mask, [(0, 0, 4, 1), (0, 1, 4, 2)])) == 2


def test_classes_do_not_join():
    mask = np.array([[1, 2]], np.uint8)
    joined_outlines = joined(mask, [(0, 0, 1, 1), (1, 0, 2, 1)])
    assert sorted(outline.value for outline in joined_outlines) == [1, 2]


def test_blocks_with_a_gap_between_do_not_join():
    mask = np.ones((2, 5), np.uint8)
    assert [outline.shape.area for outline in joined(mask, [(0, 0, 2, 2), (3, 0, 5, 2)])] == [4, 4]


def test_two_pieces_of_one_block_join_by_way_of_the_next():
    mask = np.array([[1, 1], [1, 0], [1, 1]], np.uint8)
    (joined_outlines,) = joined(mask, [(1, 0, 2, 3), (0, 0, 1, 3)])
    assert joined_outlines.shape.area == 5


# What applies to whole glands only


def test_the_area_is_that_of_the_whole_gland():
    mask = np.zeros((4, 8), np.uint8)
    mask[1:3, 2:6] = 1
    mask[0, 7] = 1
    assert [outline.shape.area for outline in joined(mask, grid(8, 4, 4), min_area=8)] == [8]
    assert joined(mask, grid(8, 4, 4), min_area=8.5) == []


def test_simplified_glands_are_those_of_the_whole():
    mask = blobs(60, 50, 3, 4.0)
    whole = [Outline(value, simplify_shape(shape, 1.5)) for value, shape in pieces(mask)]
    joined_outlines = joined(mask, grid(60, 50, 20), tolerance=1.5)
    assert len(joined_outlines) == len(whole)
    points = [sum(shapely.get_num_coordinates(outline.shape) for outline in some) for some in (joined_outlines, whole)]
    assert abs(points[0] - points[1]) <= 0.1 * points[1]  # rings may begin elsewhere, which moves a corner or two
    for outline in joined_outlines:
        nearest = min(shape.hausdorff_distance(outline.shape) for value, shape in whole if value == outline.value)
        assert nearest <= 3


# Memory


def test_what_waits_is_a_band_of_blocks_however_long_the_slide():
    rows, columns = np.indices((1600, 64))
    mask = ((rows % 10 < 8) & (columns % 10 < 8)).astype(np.uint8)
    cores = grid(64, 1600, 16)
    most, joined_outlines = 0, []
    joiner = OutlineJoiner(cores, joined_outlines.append)
    for index, (x0, y0, x1, y1) in enumerate(cores):
        joiner.put(index, outlines(mask[y0:y1, x0:x1], (x0, y0)))
        most = max(most, joiner.waiting)
        if index == 40:
            assert joined_outlines  # glands go out while blocks still come
    assert len(joined_outlines) == 160 * 7
    assert 0 < most <= 3 * 7  # of about two rows of glands in a band of four blocks


def test_a_gland_that_touches_no_core_to_come_waits_for_nothing():
    joined_outlines: list[Outline] = []
    joiner = OutlineJoiner([(0, 0, 4, 4), (4, 0, 8, 4)], joined_outlines.append)
    joiner.put(0, [Outline(1, shapely.box(0, 0, 3, 4)), Outline(1, shapely.box(3, 1, 4, 2))])
    assert [outline.shape.area for outline in joined_outlines] == [12]  # the rim of the slide is no seam
    assert joiner.waiting == 1
    joiner.put(1, [])
    assert len(joined_outlines) == 2


def test_a_block_that_never_comes_shows_nothing():
    joined_outlines: list[Outline] = []
    joiner = OutlineJoiner([(0, 0, 4, 4), (4, 0, 8, 4)], joined_outlines.append)
    joiner.put(0, [Outline(1, shapely.box(2, 0, 4, 4))])
    assert joined_outlines == []
    joiner.close()
    assert [outline.shape.bounds for outline in joined_outlines] == [(2, 0, 4, 4)]
    assert joiner.waiting == 0


def test_no_cores_and_empty_cores_are_fine():
    OutlineJoiner([], lambda outline: None).close()
    assert len(joined(np.ones((2, 4), np.uint8), [(0, 0, 2, 2), (2, 0, 2, 2), (2, 0, 4, 2)])) == 1


# Errors


def test_a_block_comes_once():
    joiner = OutlineJoiner([(0, 0, 4, 4)], lambda outline: None)
    joiner.put(0, [])
    with pytest.raises(ValueError, match="block 0 was added twice"):
        joiner.put(0, [])


def test_an_outline_stays_in_its_core():
    joiner = OutlineJoiner([(0, 0, 4, 4)], lambda outline: None)
    with pytest.raises(ValueError, match=r"exceeds its block's core \(0, 0, 4, 4\)"):
        joiner.put(0, [Outline(1, shapely.box(2, 2, 5, 3))])


def test_cores_that_overlap_are_refused():
    with pytest.raises(ValueError, match="overlap"):
        OutlineJoiner([(0, 0, 4, 4), (3, 3, 6, 6)], lambda outline: None)
