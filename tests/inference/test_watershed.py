"""Components and watershed on hand-made maps: splits, merges, and equal foregrounds."""

from __future__ import annotations

import time

import numpy as np
import pytest

from bundle.inference import component_instances, watershed_instances

NOWHERE = 1.0
"""Boundary level that ignores the boundary: no probability is higher."""


def disks(shape: tuple[int, int], *centers: tuple[int, int], radius: int) -> np.ndarray:
    """Return an instance map of disks, later ones on top."""
    rows, columns = np.indices(shape)
    drawn = np.zeros(shape, np.int32)
    for number, (row, column) in enumerate(centers, start=1):
        drawn[(rows - row) ** 2 + (columns - column) ** 2 <= radius**2] = number
    return drawn


def distance_of(instances: np.ndarray, unit: float = 20.0) -> np.ndarray:
    """Return the signed distance of the union, by brute force over all pairs of pixels."""
    positions = np.indices(instances.shape).reshape(2, -1).T
    inside = instances.ravel() > 0
    pairs = np.sqrt(((positions[:, None] - positions[None]) ** 2).sum(-1))
    signed = np.where(inside, pairs[:, ~inside].min(1), -pairs[:, inside].min(1))
    return np.clip(signed / unit, -1, 1).reshape(instances.shape).astype(np.float32)


@pytest.fixture(scope="module")
def touching() -> tuple[np.ndarray, np.ndarray]:
    """Return two slightly overlapping disks of radius 10 px, and the distance of their union."""
    truth = disks((30, 50), (14, 15), (14, 33), radius=10)
    return truth, distance_of(truth)


def agree(read: np.ndarray, truth: np.ndarray) -> float:
    """Return the share of gland pixels whose instances match in both maps, each with its largest partner."""
    pairs, counts = np.unique(np.stack([read[truth > 0], truth[truth > 0]]), axis=1, return_counts=True)
    best = {gland: counts[pairs[1] == gland].max() for gland in np.unique(pairs[1])}
    return sum(best.values()) / (truth > 0).sum() if len(np.unique(pairs[0])) == len(best) else 0.0


# Touching glands


def test_the_neck_of_the_distance_parts_disks_that_components_take_for_one(touching):
    truth, distance = touching
    assert component_instances(truth).max() == 1
    read = watershed_instances(truth, distance, np.zeros_like(distance), 0.35, NOWHERE)
    assert read.max() == 2
    assert agree(read, truth) > 0.97


def test_the_wall_of_the_boundary_parts_what_has_no_neck():
    truth = np.zeros((20, 40), np.int32)
    truth[4:16, 5:20], truth[4:16, 20:35] = 1, 2
    flat = np.where(truth > 0, 0.8, -0.8)
    wall = np.zeros(truth.shape)
    wall[4:16, 19:21] = 0.9
    assert watershed_instances(truth, flat, np.zeros_like(wall), 0.3).max() == 1
    read = watershed_instances(truth, flat, wall, 0.3, boundary_level=0.5, boundary_weight=1.0)
    assert agree(read, truth) == 1.0
    assert watershed_instances(truth, flat, wall, 0.3, boundary_level=0.95).max() == 1


def test_a_wall_of_one_pixel_that_runs_askew_parts_too():
    truth = np.ones((24, 24), np.int32)
    wall = np.fliplr(np.eye(24))
    assert watershed_instances(truth, np.full((24, 24), 0.8), wall).max() == 2


def test_parts_meet_on_the_wall_and_not_where_the_distance_says():
    """The neck of the distance is at column 25, the boundary at column 15."""
    mask = np.ones((9, 40), bool)
    distance = np.full((9, 40), 0.9) - 0.5 * (np.arange(40) == 25)
    wall = np.tile(0.4 * (np.arange(40) == 15), (9, 1))
    seeds = {"seed_level": 0.6, "boundary_level": 0.3, "min_seed_area": 100}  # the middle region, 81 px, is no seed
    low = watershed_instances(mask, distance, wall, boundary_weight=0.0, **seeds)
    high = watershed_instances(mask, distance, wall, boundary_weight=5.0, **seeds)
    edge_low, edge_high = ((np.diff(item[4]) != 0).nonzero()[0] for item in (low, high))
    assert edge_low.tolist() in ([24], [25])
    assert edge_high.tolist() in ([14], [15])


# Pieces, seeds and specks


def test_a_piece_without_seed_stays_one_gland(touching):
    truth, distance = touching
    read = watershed_instances(truth, distance, np.zeros_like(distance), 0.95)
    np.testing.assert_array_equal(read, component_instances(truth))


def test_a_full_boundary_leaves_the_components(touching):
    truth, distance = touching
    read = watershed_instances(truth, distance, np.ones_like(distance))
    np.testing.assert_array_equal(read, component_instances(truth))


def test_a_small_seed_is_dropped():
    mask = np.zeros((12, 30), bool)
    mask[2:10, 2:28] = True
    distance = np.where(mask, 0.1, -0.5)
    distance[4:8, 4:12], distance[5, 24] = 0.9, 0.6
    seeds = {"seed_level": 0.5, "boundary_level": NOWHERE}
    assert watershed_instances(mask, distance, 0 * distance, **seeds, min_seed_area=1).max() == 2
    assert watershed_instances(mask, distance, 0 * distance, **seeds, min_seed_area=2).max() == 1


def test_a_small_part_is_joined_to_its_neighbor_and_a_small_piece_is_dropped():
    mask = np.zeros((12, 40), bool)
    mask[2:10, 2:28] = True
    mask[4:6, 34:36] = True
    distance = np.where(mask, 0.1, -0.5)
    distance[3:9, 3:20], distance[3:9, 26] = 0.9, 0.6
    distance[:, 24] = np.minimum(distance[:, 24], 0.0)
    seeds = {"seed_level": 0.5, "boundary_level": NOWHERE}
    assert watershed_instances(mask, distance, 0 * distance, **seeds).max() == 3
    read = watershed_instances(mask, distance, 0 * distance, **seeds, min_area=60)
    assert read.max() == 1
    np.testing.assert_array_equal(read > 0, mask & (np.arange(40) < 30))


def test_specks_go_and_holes_are_filled():
    mask = disks((30, 30), (14, 14), radius=10) > 0
    mask[14, 12:16] = False
    mask[0, 0] = mask[1, 1] = True
    assert component_instances(mask).max() == 2
    assert component_instances(mask, connectivity=1).max() == 3
    whole = component_instances(mask, min_area=3, hole_area=4)
    np.testing.assert_array_equal(whole, disks((30, 30), (14, 14), radius=10))
    assert component_instances(mask, min_area=3, hole_area=3)[14, 13] == 0


def test_a_bay_at_the_border_is_no_hole():
    mask = np.ones((9, 9), bool)
    mask[0, 4] = mask[4, 4] = False
    filled = component_instances(mask, hole_area=10)
    assert filled[0, 4] == 0
    assert filled[4, 4] == 1


def test_background_that_a_corner_closes_off_is_a_hole():
    """Glands connected by corners enclose the area between them: the ring of a diamond."""
    rows, columns = np.indices((9, 9))
    ring = abs(rows - 4) + abs(columns - 4) == 3
    assert component_instances(ring, connectivity=2, hole_area=20)[4, 4] == 1
    assert component_instances(ring, connectivity=1, hole_area=20)[4, 4] == 0


# Any map


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 1), (13, 8)])
@pytest.mark.parametrize("full", [False, True])
def test_empty_and_full_maps_of_any_size(shape, full):
    mask = np.full(shape, full)
    maps = np.full(shape, 0.7 if full else -1.0), np.zeros(shape)
    for read in (component_instances(mask, 2, 1, 5), watershed_instances(mask, *maps, min_area=1, hole_area=5)):
        assert read.dtype == np.int32
        np.testing.assert_array_equal(read, np.full(shape, int(full)))


def noise(seed: int, shape: tuple[int, int] = (90, 120)) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return smooth random maps: foreground, distance and boundary that are not consistent."""
    from scipy.ndimage import gaussian_filter

    generator = np.random.default_rng(seed)
    first, second = (gaussian_filter(generator.normal(size=shape), sigma) for sigma in (3, 3))
    distance = first / abs(first).max()
    return distance > 0.1, distance, np.clip(second / second.max(), 0, 1)


@pytest.mark.parametrize("seed", range(4))
def test_both_readings_have_the_same_foreground(seed):
    mask, distance, boundary = noise(seed)
    for areas in ({}, {"min_area": 40}, {"min_area": 80, "hole_area": 60}, {"hole_area": 9, "connectivity": 1}):
        pieces = component_instances(mask, **areas)
        parts = watershed_instances(mask, distance, boundary, 0.2, 0.4, min_seed_area=5, **areas)
        np.testing.assert_array_equal(parts > 0, pieces > 0)
        for part in range(1, parts.max() + 1):
            assert len(np.unique(pieces[parts == part])) == 1, "a part lies in two pieces"
        if not areas:
            np.testing.assert_array_equal(pieces > 0, mask)
        sizes = np.bincount(parts.ravel())[1:]
        assert len(sizes) >= pieces.max() > 1
        assert (sizes >= max(areas.get("min_area", 0), 1)).all(), "a number is left out, or a part is too small"


def test_the_same_maps_give_the_same_instances_and_keep_theirs():
    maps = noise(5)
    before = [item.copy() for item in maps]
    first, second = (watershed_instances(*maps, 0.2, min_area=30) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    for item, saved in zip(maps, before, strict=True):
        np.testing.assert_array_equal(item, saved)


@pytest.mark.parametrize("turn", [lambda item: np.rot90(item), lambda item: item.T, lambda item: item[:, ::-1]])
def test_a_turned_picture_gives_turned_instances(turn):
    """Equal up to pixels at the same distance from both seeds, and to the order of the numbers."""
    maps = noise(6)
    here = turn(watershed_instances(*maps, 0.2, 0.4, min_area=30))
    there = watershed_instances(*(turn(item) for item in maps), 0.2, 0.4, min_area=30)
    assert here.max() == there.max() > 3
    assert agree(there, here) > 0.99


def test_a_large_picture_takes_no_time():
    mask, distance, boundary = noise(7, (522, 775))
    started = time.thread_time()
    assert watershed_instances(mask, distance, boundary, 0.2, 0.4, min_area=50, hole_area=50).max() > 20
    assert time.thread_time() - started < 1.0  # a fifth of a second where nothing else runs


# Wrong settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seed_level": 1.0}, "seed_level is 1.0; .* from -1 to below 1"),
        ({"seed_level": float("nan")}, "seed_level is nan"),
        ({"boundary_level": 1.1}, "boundary_level is 1.1; .* from 0 to 1"),
        ({"boundary_weight": -1}, "boundary_weight is -1; it must be 0 or more"),
        ({"boundary_weight": float("inf")}, "boundary_weight is inf"),
        ({"min_seed_area": -1}, "min_seed_area is -1 px"),
        ({"min_area": -5}, "min_area is -5 px"),
        ({"hole_area": float("nan")}, "hole_area is nan px"),
        ({"connectivity": 8}, "connectivity is 8; write 1 .* or 2"),
    ],
)
def test_a_setting_out_of_range_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        watershed_instances(np.ones((4, 4)), np.ones((4, 4)), np.zeros((4, 4)), **settings)


def test_maps_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"differ in shape: foreground \(4, 4\), distance \(4, 5\)"):
        watershed_instances(np.ones((4, 4)), np.ones((4, 5)), np.zeros((4, 4)))
    with pytest.raises(ValueError, match=r"shape \(1, 4, 4\); a plane has \(H, W\)"):
        component_instances(np.ones((1, 4, 4)))
