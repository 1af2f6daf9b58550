"""Mask pyramids, read with tifffile and OpenSlide."""

from __future__ import annotations

import errno
import itertools
import resource
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile

from bundle.slides import pyramid as module
from bundle.slides.pyramid import LAYOUTS, MaskPyramid, majority

WIDTH, HEIGHT = 2501, 1403


@pytest.fixture(scope="module")
def mask() -> np.ndarray:
    """Return a mask of odd size: disks, a line of 1 px, the last corner, and large empty areas."""
    rows, columns = np.indices((HEIGHT, WIDTH))
    drawn = ((rows - 300) ** 2 + (columns - 700) ** 2 < 250**2) | ((rows - 1000) ** 2 + (columns - 1500) ** 2 < 90**2)
    drawn |= columns == 40
    drawn[-1, -1] = True
    return np.where(drawn, 255, 0).astype(np.uint8)


@pytest.fixture
def small_disk() -> Iterator[Callable[[int], None]]:
    """Limit the size of files in this process, which raises a system error like that of a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda limit: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def filled(mask: np.ndarray, block: int = 300, mpp: float | None = 0.5, shuffled: bool = True) -> MaskPyramid:
    """Return a pyramid filled with blocks whose borders are not those of tiles."""
    built = MaskPyramid((mask.shape[1], mask.shape[0]), mpp, tile=128)
    positions = list(itertools.product(range(0, mask.shape[0], block), range(0, mask.shape[1], block)))
    if shuffled:
        np.random.default_rng(0).shuffle(positions)
    for y, x in positions:
        built.put(int(x), int(y), mask[y : y + block, x : x + block])
    return built


def halved(mask: np.ndarray) -> np.ndarray:
    """Downsample a mask of 0 and 255 by counting; an odd last row or column is repeated."""
    even = np.pad(mask, [(0, side % 2) for side in mask.shape], mode="edge") > 0
    count = sum(even[down::2, right::2].astype(int) for down, right in np.ndindex(2, 2))
    return np.where(count >= 2, 255, 0).astype(np.uint8)


# What stands in the file


@pytest.mark.parametrize("layout", LAYOUTS)
def test_tifffile_reads_every_resolution(tmp_path: Path, mask, layout):
    filled(mask).write(tmp_path / "mask.ome.tif", layout)
    with tifffile.TiffFile(tmp_path / "mask.ome.tif") as file:
        (series,) = file.series
        assert file.is_ome == (layout == "ome")
        assert [level.shape for level in series.levels] == [(HEIGHT, WIDTH), (702, 1251), (351, 626)]
        truth = mask
        for level in series.levels:
            page = level.pages[0]
            assert (page.is_tiled, page.compression, page.dtype) == (True, 8, np.uint8)
            np.testing.assert_array_equal(level.asarray(), truth)
            truth = halved(truth)


def test_openslide_reads_every_resolution_of_the_plain_layout(tmp_path: Path, mask):
    openslide = pytest.importorskip("openslide")
    filled(mask).write(tmp_path / "mask.tif", "plain")
    with openslide.OpenSlide(tmp_path / "mask.tif") as slide:
        assert slide.level_dimensions == ((WIDTH, HEIGHT), (1251, 702), (626, 351))
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.5)
        truth = mask
        for level, size in enumerate(slide.level_dimensions):
            read = np.array(slide.read_region((0, 0), level, size))
            np.testing.assert_array_equal(read[..., 0], truth)
            assert (read[..., 3] == 255).all()  # empty tiles are black, not missing
            truth = halved(truth)


def test_openslide_reads_the_full_resolution_of_an_ome_tiff_only(tmp_path: Path, mask):
    openslide = pytest.importorskip("openslide")
    filled(mask).write(tmp_path / "mask.ome.tif", "ome")
    with openslide.OpenSlide(tmp_path / "mask.ome.tif") as slide:
        assert slide.level_count == 1
        np.testing.assert_array_equal(np.array(slide.read_region((0, 0), 0, slide.dimensions))[..., 0], mask)


def test_the_size_of_a_pixel_stands_in_both_places(tmp_path: Path, mask):
    filled(mask, mpp=0.4992).write(tmp_path / "mask.ome.tif")
    with tifffile.TiffFile(tmp_path / "mask.ome.tif") as file:
        pixels = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["Pixels"]
        assert (pixels["PhysicalSizeX"], pixels["PhysicalSizeY"]) == (0.4992, 0.4992)
        assert pixels["PhysicalSizeXUnit"] == "µm"
        for number, level in enumerate(file.series[0].levels):
            tags = level.pages[0].tags
            per_unit, unit = tags["XResolution"].value, tags["ResolutionUnit"].value
            assert 1e4 * per_unit[1] / per_unit[0] == pytest.approx(0.4992 * 2**number)
            assert unit == tifffile.RESUNIT.CENTIMETER


def test_a_pixel_of_unknown_size_has_none(tmp_path: Path, mask):
    filled(mask, mpp=None).write(tmp_path / "mask.ome.tif")
    with tifffile.TiffFile(tmp_path / "mask.ome.tif") as file:
        assert "PhysicalSize" not in file.ome_metadata
        assert file.pages[0].tags["ResolutionUnit"].value == tifffile.RESUNIT.NONE


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_same_mask_gives_the_same_file(tmp_path: Path, mask, layout):
    filled(mask).write(tmp_path / "one.ome.tif", layout)
    filled(mask, block=211, shuffled=False).write(tmp_path / "two.ome.tif", layout)
    assert (tmp_path / "one.ome.tif").read_bytes() == (tmp_path / "two.ome.tif").read_bytes()


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (128, 128), (1024, 1025), (3000, 40)])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_size_can_be_written_full_or_empty(tmp_path: Path, size, layout):
    width, height = size
    for value in (0, 255):
        built = MaskPyramid(size, 0.5, tile=128)
        built.put(0, 0, np.full((height, width), value, np.uint8))
        built.write(tmp_path / "mask.tif", layout)
        with tifffile.TiffFile(tmp_path / "mask.tif") as file:
            levels = [level.asarray() for level in file.series[0].levels]
        assert levels[0].shape == (height, width)
        assert max(levels[-1].shape) <= 1024
        assert all((level == value).all() for level in levels)


def test_a_large_file_is_a_bigtiff(tmp_path: Path, mask, monkeypatch):
    monkeypatch.setattr(module, "LARGEST_CLASSIC", 1000)
    filled(mask).write(tmp_path / "mask.ome.tif")
    with tifffile.TiffFile(tmp_path / "mask.ome.tif") as file:
        assert file.is_bigtiff
        np.testing.assert_array_equal(file.asarray(), mask)


# Half the resolution


def test_the_majority_of_four_wins_and_the_highest_of_those_that_tie():
    for four in itertools.product([0, 1, 2, 255], repeat=4):
        most = max(map(four.count, four))
        (result,) = majority(np.array(four, np.uint8).reshape(2, 2)).ravel()
        assert result == max(value for value in four if four.count(value) == most)


def test_classes_stay_classes(tmp_path: Path):
    labels = np.random.default_rng(0).choice([0, 1, 5], (1500, 1500)).astype(np.uint8)
    built = MaskPyramid((1500, 1500), 0.5, classes=6, tile=256)
    built.put(0, 0, labels)
    built.write(tmp_path / "mask.ome.tif")
    with tifffile.TiffFile(tmp_path / "mask.ome.tif") as file:
        half = file.series[0].levels[1].asarray()
    assert set(np.unique(half)) == {0, 1, 5}
    four = [labels[down::2, right::2] for down, right in np.ndindex(2, 2)]
    assert np.any([half == some for some in four], axis=0).all()


# Blocks


def test_a_later_block_takes_the_place_of_an_earlier_one(tmp_path: Path):
    built = MaskPyramid((300, 300), tile=128, open_tiles=1)
    built.put(0, 0, np.full((300, 300), 255, np.uint8))
    built.put(100, 120, np.zeros((50, 90), np.uint8))
    built.put(110, 130, np.ones((5, 5), np.uint8))
    built.write(tmp_path / "mask.ome.tif")
    truth = np.full((300, 300), 255, np.uint8)
    truth[120:170, 100:190] = 0
    truth[130:135, 110:115] = 1
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "mask.ome.tif"), truth)


def test_a_mask_may_be_written_twice_and_added_to_in_between(tmp_path: Path):
    built = MaskPyramid((200, 200), tile=128)
    for path in (10, 150):
        built.put(path, path, np.ones((9, 9), np.uint8))
        built.write(tmp_path / "mask.ome.tif")
    assert tifffile.imread(tmp_path / "mask.ome.tif").sum() == 2 * 81


@pytest.mark.parametrize("block", [100, 128, 300, 1000])
def test_each_tile_is_compressed_about_once(monkeypatch, block):
    full = np.full((2000, 2000), 255, np.uint8)
    compressed = []
    compress = zlib.compress
    monkeypatch.setattr(zlib, "compress", lambda *given: compressed.append(1) or compress(*given))
    built = MaskPyramid((2000, 2000), tile=128)
    for y, x in itertools.product(range(0, 2000, block), repeat=2):
        built.put(x, y, full[y : y + block, x : x + block])
    assert len(compressed) == 1 + 16 * 16  # and the empty one


def test_open_tiles_are_bounded_and_nothing_is_lost(tmp_path: Path, mask):
    built = MaskPyramid((WIDTH, HEIGHT), tile=128, open_tiles=3)
    random = np.random.default_rng(0)
    for y, x in random.permutation(list(itertools.product(range(0, HEIGHT, 300), range(0, WIDTH, 300)))).tolist():
        built.put(x, y, mask[y : y + 300, x : x + 300])
        assert len(built._open) <= 3
    built.write(tmp_path / "mask.ome.tif")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "mask.ome.tif"), mask)


def test_empty_tiles_take_no_memory():
    built = MaskPyramid((60_000, 60_000), 0.25)
    block = np.zeros((2000, 2000), np.uint8)
    for x in range(0, 60_000, 2000):
        built.put(x, 30_000, block)
    assert built.nbytes == 0
    built.put(7000, 8000, block + 1)
    assert 0 < built.nbytes < 10e6


# Errors


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_full_disk_names_the_file_and_leaves_nothing(tmp_path: Path, mask, small_disk, layout):
    built = filled(mask)
    small_disk(10_000)
    with pytest.raises(OSError, match=r"mask\.ome\.tif") as raised:
        built.write(tmp_path / "mask.ome.tif", layout)
    assert (raised.value.errno, raised.value.filename) == (errno.EFBIG, str(tmp_path / "mask.ome.tif"))
    assert list(tmp_path.iterdir()) == []


def test_after_an_error_the_old_file_stays(tmp_path: Path, mask, small_disk):
    path = tmp_path / "mask.ome.tif"
    path.write_bytes(b"old")
    built = filled(mask)
    small_disk(10_000)
    with pytest.raises(OSError, match="File too large"):
        built.write(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"size": (0, 5)}, "at least 1 px"),
        ({"mpp": 0.0}, "above 0"),
        ({"mpp": float("nan")}, "above 0"),
        ({"classes": 257}, "2 to 256"),
        ({"tile": 100}, "multiple of 16"),
        ({"open_tiles": 0}, "at least 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        MaskPyramid(**{"size": (10, 10)} | given)


@pytest.mark.parametrize(
    ("x", "y", "labels", "message"),
    [
        (-1, 0, np.zeros((2, 2), np.uint8), "exceed the mask"),
        (9, 0, np.zeros((2, 2), np.uint8), "exceed the mask"),
        (0, 9, np.zeros((2, 2), np.uint8), "exceed the mask"),
        (0, 0, np.zeros((2, 2), np.int64), "hold int64"),
        (0, 0, np.zeros((2, 2, 1), np.uint8), "have the shape"),
        (0, 0, np.full((2, 2), 3, np.uint8), "the highest of 3 classes is 2"),
    ],
)
def test_labels_that_do_not_fit_are_refused(x, y, labels, message):
    with pytest.raises(ValueError, match=message):
        MaskPyramid((10, 10), classes=3).put(x, y, labels)


def test_there_are_two_layouts(tmp_path: Path):
    with pytest.raises(ValueError, match="ome, plain"):
        MaskPyramid((10, 10)).write(tmp_path / "mask.tif", "zarr")
