"""Views of slides have exactly the pixels of the slide, on all their levels."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from bundle.slides import Level, SlideError, SlideView, open_slide, read_working, scale_of
from bundle.slides.reader_openslide import library
from bundle.slides.region_grid import Box
from bundle.slides.region_selection import tissue_near, working_box
from bundle.slides.resampling import Scale
from bundle.slides.slide_crop import expand_box
from bundle.slides.tissue import Tissue, find_tissue

BACKENDS = ["tifffile", pytest.param("openslide", marks=pytest.mark.skipif(library() is None, reason="no OpenSlide"))]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("box", "levels"),
    [
        ((40, 28, 100, 60), [(1, (100, 60)), (2, (50, 30)), (4, (25, 15))]),
        ((42, 28, 91, 61), [(1, (91, 61)), (2, (46, 31))]),
        ((41, 28, 100, 60), [(1, (100, 60))]),
        ((40, 29, 100, 60), [(1, (100, 60))]),
        ((200, 136, 3, 5), [(1, (3, 5)), (2, (1, 2))]),  # level 2 of the slide ends at x 200
        ((0, 0, 203, 141), [(1, (203, 141)), (2, (101, 70)), (4, (50, 35))]),
    ],
)
def test_it_has_the_pixels_of_the_slide(write_slide, backend, box, levels):
    with open_slide(write_slide("pyramid"), backend) as slide:
        view = SlideView(slide, box)
        assert view.size == box[2:]
        assert view.mpp == slide.mpp == 0.5
        assert [(level.downsample, level.size) for level in view.levels] == levels
        for index, (downsample, (width, height)) in enumerate(levels):
            x, y = box[0] // downsample, box[1] // downsample
            number = {1: 0, 2: 1, 4: 2}[downsample]
            expected = slide.read(number, x, y, width, height)
            np.testing.assert_array_equal(view.read(index, 0, 0, width, height), expected)
            if min(width, height) > 6:
                np.testing.assert_array_equal(view.read(index, 1, 2, 5, 4), slide.read(number, x + 1, y + 2, 5, 4))
        white = view.read(0, -4, -3, 4, 3)
        assert (white == 255).all()


def test_a_level_that_begins_elsewhere_is_left_out_by_number(write_slide):
    with open_slide(write_slide("pyramid")) as slide:
        slide.levels = (slide.levels[0], slide.levels[2], slide.levels[1])
        slide._pages = [slide._pages[0], slide._pages[2], slide._pages[1]]
        view = SlideView(slide, (2, 2, 50, 40))
        assert [level.downsample for level in view.levels] == [1, 2]
        np.testing.assert_array_equal(view.read(1, 0, 0, 25, 20), slide.read(2, 1, 1, 25, 20))


def test_all_of_a_slide_has_its_levels_whatever_their_sizes(write_slide):
    with open_slide(write_slide("pyramid")) as slide:
        slide.levels = (slide.levels[0], Level(2.03, (101, 70)), Level(4.2, (50, 35)))
        assert SlideView(slide, (0, 0, 203, 141)).levels == slide.levels
        assert [level.downsample for level in SlideView(slide, (42, 0, 50, 50)).levels] == [1]


def test_working_pixels_on_the_grid_of_the_slide_are_those_of_the_slide(write_slide):
    with open_slide(write_slide("pyramid")) as slide:
        view = SlideView(slide, (40, 28, 120, 80))
        for pixel_size, ratio in ((0.5, 1), (1.0, 2), (2.0, 4)):
            x, y = 40 // ratio, 28 // ratio
            result = read_working(view, scale_of(view, pixel_size), 3, 2, 20, 15)
            expected = read_working(slide, scale_of(slide, pixel_size), x + 3, y + 2, x + 20, y + 15)
            np.testing.assert_array_equal(result, expected)


def test_what_reaches_over_the_border_is_cut_and_what_lies_beside_is_refused(write_slide):
    with open_slide(write_slide("pyramid")) as slide:
        assert SlideView(slide, (-8, 120, 20, 100)).box == Box(0, 120, 12, 141)
        with pytest.raises(SlideError, match=r"lies outside of .* which has 203 x 141 px"):
            SlideView(slide, (203, 0, 10, 10))
        with pytest.raises(SlideError, match="has no size"):
            SlideView(slide, (0, 0, 0, 10))


@pytest.mark.parametrize("backend", BACKENDS)
def test_it_travels_closes_and_leaves_its_slide_open(write_slide, backend):
    slide = open_slide(write_slide("pyramid"), backend)
    view = SlideView(slide, (40, 28, 100, 60))
    expected = view.read(1, 0, 0, 9, 9)
    with pickle.loads(pickle.dumps(view)) as other:
        assert (other.box, other.size, other.levels) == (view.box, view.size, view.levels)
        np.testing.assert_array_equal(other.read(1, 0, 0, 9, 9), expected)
    handle = getattr(slide, "_file", None) or slide._handle
    del view
    assert (getattr(slide, "_file", None) or slide._handle) is handle
    SlideView(slide, (0, 0, 9, 9)).close()
    assert (getattr(slide, "_file", None) or getattr(slide, "_handle", None)) is None
    slide.close()


def test_damage_names_its_place_on_the_slide(write_slide):
    path = write_slide("pyramid")
    content = bytearray(path.read_bytes())
    with open_slide(path, "tifffile") as slide:
        offset = slide._pages[0].dataoffsets[7]  # x 96 to 144, y 32 to 64
    content[offset : offset + 50] = b"\xff" * 50
    path.write_bytes(content)
    with (
        open_slide(path, "tifffile") as slide,
        pytest.raises(SlideError, match="damaged at level 0, x 105 to 115, y 4"),
    ):
        SlideView(slide, (100, 40, 50, 50)).read(0, 5, 0, 10, 10)


def test_a_grown_box_keeps_the_levels(write_slide):
    with open_slide(write_slide("pyramid")) as slide:
        assert expand_box(slide, Box(101, 57, 120, 80), 10.5) == Box(88, 44, 131, 91)
        assert len(SlideView(slide, (88, 44, 43, 47)).levels) == 3
        assert expand_box(slide, Box(3, 2, 200, 140), 10) == Box(0, 0, 203, 141)


def test_the_working_pixels_of_a_box_decide_all_of_it():
    for ratio in (1.0, 2.0, 2.7, 0.6, 3.957):
        scale = Scale((203, 141), 1.0, ratio)
        for box in (Box(0, 0, 203, 141), Box(17, 30, 18, 31), Box(101, 57, 160, 140), Box(202, 140, 203, 141)):
            result = working_box(box, scale)
            for low, high, start, end, axis in (
                (box.x0, box.x1, result.x0, result.x1, 0),
                (box.y0, box.y1, result.y0, result.y1, 1),
            ):
                owners = np.minimum(np.floor(np.arange(low, high) / ratio + 1e-9), scale.working_size[axis] - 1)
                assert start == owners.min()
                assert end in (owners.max() + 1, scale.working_size[axis])
    assert working_box(Box(4, 6, 11, 9), Scale((203, 141), 1.0, 2.0)) == Box(2, 3, 6, 5)


def test_tissue_of_a_box_is_asked_in_pixels_of_the_slide(write_slide):
    recorded = []

    def look(view, scale):
        recorded.append((view.size, scale.size))
        result = find_tissue(view, scale, resolution=2.0, margin=0.0, least=0.0, holes=0.0)
        mask = np.zeros_like(result.mask)
        mask[1, 3] = True  # cells of 4 px: view px 12 to 16, 4 to 8
        return Tissue(mask, result.cell, result.scale)

    with open_slide(write_slide("pyramid")) as slide:
        scale = scale_of(slide, 0.5)
        assert tissue_near(look, slide, scale, None).corner == (0, 0)
        slide.mpp = 100.0  # so that the surroundings are small
        result = tissue_near(look, slide, Scale(slide.size, 100.0, 100.0), Box(101, 57, 120, 80))
        assert recorded == [((203, 141), (203, 141)), ((130 - 88, 90 - 44), (130 - 88, 90 - 44))]
        assert result.corner == (88, 44)
        assert result.scale.size == slide.size
        side = result.cell / 100.0
        left, top = 88 + 3 * side, 44 + side
        where = result.at(0, 0, 203, 141)
        rows, columns = np.nonzero(where)
        assert (columns.min(), rows.min()) == (left, top)
        assert where.sum() == side**2
        assert result.box(0, 0, 203, 141) == (left, top, left + side, top + side)
        assert result.any(int(left), int(top), int(left) + 1, int(top) + 1)
        assert not result.any(int(left - 3), int(top), int(left), int(top) + 1)
