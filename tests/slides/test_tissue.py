"""Tissue detection on drawn slides with known tissue."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from bundle.slides import Scale, Tissue, find_tissue, open_slide
from bundle.slides.tissue import average_level, tissue_of

GLASS = (243, 240, 244)
PINK = (214, 160, 200)
"""Pale stroma."""


@pytest.fixture
def slide_of(tmp_path):
    """Write pixels as a slide of 2 um/px and open it."""
    opened = []

    def write(pixels, steps=(1,)):
        with tifffile.TiffWriter(tmp_path / "slide.tif") as file:
            for step in steps:
                small = pixels[::step, ::step]
                options = {"tile": (64, 64), "compression": "zlib", "metadata": None, "subfiletype": int(step > 1)}
                file.write(small, photometric="rgb", resolution=(5000, 5000), resolutionunit="CENTIMETER", **options)
        opened.append(open_slide(tmp_path / "slide.tif"))
        return opened[-1]

    yield write
    for slide in opened:
        slide.close()


def drawn(color=GLASS, size=(800, 640), noise=3.0):
    """Return a slide (H, W, 3) of one color with sensor noise."""
    values = np.random.default_rng(0).normal(0, noise, (size[1], size[0], 3)) + color
    return np.clip(values, 0, 253).astype(np.uint8)


def paint(pixels, x0, y0, x1, y1, color):
    """Paint a rectangle and keep the noise."""
    part = pixels[y0:y1, x0:x1].astype(int) - GLASS + color
    pixels[y0:y1, x0:x1] = np.clip(part, 0, 253)


@pytest.mark.parametrize("steps", [(1,), (1, 4), (1, 8), (1, 8, 32)])
def test_tissue_is_found_on_every_level(slide_of, steps):
    pixels = drawn()
    paint(pixels, 200, 160, 400, 480, PINK)
    slide = slide_of(pixels, steps)
    tissue = find_tissue(slide, Scale(slide.size, 2.0, 1.0), margin=0)
    assert tissue.cell == 16.0
    expected = np.zeros((80, 100), bool)
    expected[20:60, 25:50] = True
    assert (tissue.mask != expected).mean() < 0.01
    wide = find_tissue(slide, Scale(slide.size, 2.0, 1.0), margin=64)
    assert wide.mask[16:64, 30:40].all()  # 4 cells on each side
    assert not wide.mask[:15].any()
    assert wide.mask.sum() > tissue.mask.sum()


@pytest.mark.parametrize("glass", [GLASS, (250, 242, 232), (222, 220, 224)])
def test_glass_alone_is_no_tissue(slide_of, glass):
    pixels = drawn(glass)
    pixels[:320] = np.clip(pixels[:320] * 0.98, 0, 255).astype(np.uint8)  # uneven light
    slide = slide_of(pixels)
    assert not find_tissue(slide, Scale(slide.size, 2.0, 1.0)).mask.any()
    constant = slide_of(np.full((64, 64, 3), 255, np.uint8))
    assert find_tissue(constant, Scale(constant.size, 2.0, 1.0)).share == 0


@pytest.mark.parametrize("color", [PINK, (150, 90, 160)])
def test_a_slide_full_of_tissue_is_all_tissue(slide_of, color):
    slide = slide_of(drawn(color, noise=20))
    assert find_tissue(slide, Scale(slide.size, 2.0, 1.0)).share == 1


def test_specks_are_dropped_and_holes_filled(slide_of):
    pixels = drawn()
    paint(pixels, 200, 160, 600, 480, PINK)
    pixels[280:340, 360:440] = drawn()[280:340, 360:440]  # a hole of 160 x 120 um
    paint(pixels, 40, 40, 72, 72, PINK)  # a speck of 64 x 64 um
    slide = slide_of(pixels)
    mask = find_tissue(slide, Scale(slide.size, 2.0, 1.0), margin=0).mask
    assert mask[20:60, 25:75].all()
    assert mask[:18].sum() == 0
    saved = find_tissue(slide, Scale(slide.size, 2.0, 1.0), margin=0, least=0, holes=0).mask
    assert saved[5:9, 5:9].all()
    assert not saved[36:42, 46:54].any()


def test_borders_and_green_ink_are_not_tissue():
    picture = np.full((60, 60, 3), GLASS, np.uint8)
    picture[:, :5] = 12  # black border
    picture[:, 5:9] = 255  # never scanned
    picture[20:40, 20:40] = PINK
    picture[45:50, 20:50] = (40, 150, 90)  # green ink
    picture[50:55, 20:50] = (20, 25, 30)  # black ink
    expected = np.zeros((60, 60), bool)
    expected[20:40, 20:40] = True
    np.testing.assert_array_equal(tissue_of(picture), expected)


def test_means_are_those_of_the_squares(slide_of, monkeypatch):
    pixels = np.random.default_rng(1).integers(0, 256, (101, 130, 3), dtype=np.uint8)
    slide = slide_of(pixels)
    expected = np.zeros((15, 19, 3))
    for row in range(15):
        for column in range(19):
            expected[row, column] = pixels[7 * row : 7 * row + 7, 7 * column : 7 * column + 7].mean(axis=(0, 1))
    for chunk in (4096, 30, 1):
        monkeypatch.setattr("bundle.slides.tissue.CHUNK", chunk)
        np.testing.assert_allclose(average_level(slide, 0, 7), expected, atol=0.51)


def test_it_reads_a_large_slide_in_pieces(slide_of, monkeypatch):
    monkeypatch.setattr("bundle.slides.tissue.CHUNK", 96)
    slide = slide_of(drawn())
    largest = []
    read = slide.read
    slide.read = lambda level, x, y, width, height: largest.append(width * height) or read(level, x, y, width, height)
    find_tissue(slide, Scale(slide.size, 2.0, 1.0))
    assert max(largest) <= 96 * 96
    assert sum(largest) == 800 * 640  # each pixel once


def test_rectangles_are_asked_in_working_pixels():
    mask = np.zeros((4, 6), bool)
    mask[1, 2] = True  # um 32 to 48 along x, 16 to 32 along y
    tissue = Tissue(mask, 16.0, Scale((48, 32), 2.0, 0.5))  # working pixels of 0.5 um: px 64 to 96, 32 to 64
    result = tissue.box(0, 0, 189, 125)
    assert result is not None
    assert np.abs(np.array(result) - (64 - 1.5, 32 - 1.5, 96 - 1.5, 64 - 1.5)).max() <= 1
    assert result[0] <= 62.5
    assert result[2] >= 94.5
    assert tissue.box(70, 40, 80, 50) == (70, 40, 80, 50)
    assert tissue.any(0, 0, 64, 34)
    assert not tissue.any(0, 0, 61, 125)
    assert not tissue.any(97, 0, 189, 125)
    last = np.zeros((4, 6), bool)
    last[3, 5] = True
    tissue = Tissue(last, 16.0, Scale((55, 36), 2.0, 2.0))  # a coarse level may lack the last pixels: 6 x 8 of 55
    assert tissue.box(49, 33, 55, 36) == (49, 33, 55, 36)
    assert tissue.box(0, 0, 55, 36) == (40, 24, 55, 36)


@pytest.mark.parametrize("setting", [{"resolution": 0}, {"margin": -5}, {"least": -1.0}, {"holes": -1.0}])
def test_settings_out_of_range_are_refused(slide_of, setting):
    slide = slide_of(drawn())
    with pytest.raises(ValueError, match=f"{next(iter(setting))} of the tissue is"):
        find_tissue(slide, Scale(slide.size, 2.0, 2.0), **setting)


def test_tissue_on_the_pixels_of_the_slide(slide_of):
    pixels = drawn()
    paint(pixels, 200, 100, 400, 300, PINK)
    slide = slide_of(pixels)
    tissue = find_tissue(slide, Scale(slide.size, 2.0, 4.0), margin=0.0, least=100.0)
    whole = tissue.at(0, 0, *slide.size)
    assert whole.shape == (640, 800)
    expected = np.zeros((640, 800), bool)
    expected[100:300, 200:400] = True
    assert (whole != expected).mean() < 0.02
    assert np.array_equal(tissue.at(150, 90, 420, 130), whole[90:130, 150:420])
