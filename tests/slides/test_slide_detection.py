"""Distinction of slides from pictures."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from PIL import Image

from bundle.slides import is_slide


@pytest.mark.parametrize("kind", ["pyramid", "subifd", "ome"])
def test_tiles_and_levels_make_a_slide(write_slide, kind):
    assert is_slide(write_slide(kind))


@pytest.mark.parametrize("kind", ["tiled", "plain", "striped", "jpeg"])
def test_small_files_of_one_level_are_pictures(write_slide, kind):
    assert not is_slide(write_slide(kind))


def test_strips_with_a_thumbnail_are_a_picture(tmp_path):
    with tifffile.TiffWriter(tmp_path / "photo.tif") as file:
        file.write(np.zeros((64, 80, 3), np.uint8), photometric="rgb", metadata=None)
        file.write(np.zeros((32, 40, 3), np.uint8), photometric="rgb", subfiletype=1, metadata=None)
    assert not is_slide(tmp_path / "photo.tif")


def test_large_files_are_slides_and_no_pixel_is_read(tmp_path):
    for name, side in (("large.tif", 8193), ("small.tiff", 8192)):
        tifffile.imwrite(tmp_path / name, np.zeros((side, 16), np.uint8), photometric="minisblack", compression="zlib")
        content = (tmp_path / name).read_bytes()
        with tifffile.TiffFile(tmp_path / name) as file:
            start = file.pages[0].dataoffsets[0]
        (tmp_path / name).write_bytes(content[:start] + bytes(20) + content[start + 20 :])
    assert is_slide(tmp_path / "large.tif")
    assert not is_slide(tmp_path / "small.tiff")


@pytest.mark.parametrize("ending", ["svs", "ndpi", "mrxs", "scn", "bif", "vms", "vmu", "svslide", "SVS"])
def test_endings_of_scanners_are_enough(ending):
    assert is_slide(f"nowhere/slide.{ending}")


def test_pictures_and_what_cannot_be_opened_are_none(tmp_path):
    for name in ("a.png", "b.jpg", "c.bmp", "d.jpeg"):
        Image.new("RGB", (9, 7)).save(tmp_path / name)
        assert not is_slide(tmp_path / name)
    (tmp_path / "text.tif").write_text("no picture")
    assert not is_slide(tmp_path / "text.tif")
    assert not is_slide(tmp_path / "nowhere.tif")
    assert not is_slide(str(tmp_path / "folder"))
