"""Reading at the working resolution gives the same pixels as MONAI's Spacingd on a whole picture."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Spacingd

from bundle.slides import Level, Scale, SlideError, open_slide, read_working, scale_of
from bundle.slides.resampling import sample

MPP = 0.5


def spaced(picture, mpp, pixel_size):
    """Preprocess a picture (H, W, 3) as in training and inference, to floats (h, w, 3)."""
    image = torch.from_numpy(picture).permute(2, 1, 0).float()
    affine = torch.diag(torch.tensor([mpp, mpp, 1.0], dtype=torch.float64))
    spacing = Spacingd("image", pixdim=[pixel_size, pixel_size], mode="bilinear", padding_mode="border")
    return spacing({"image": MetaTensor(image, affine=affine)})["image"].as_tensor().permute(2, 1, 0).numpy()


@pytest.mark.parametrize("pixel_size", [0.5, 0.5004, 0.685, 1.0, 0.35, 0.25, 1.9, 500.0])
@pytest.mark.parametrize("side", [40, 77])
def test_blocks_put_together_are_what_spacing_gives(write_slide, picture, pixel_size, side):
    expected = spaced(picture, MPP, pixel_size)
    with open_slide(write_slide("tiled"), "tifffile") as slide:
        scale = Scale(slide.size, MPP, pixel_size)
        width, height = scale.working_size
        assert (height, width) == expected.shape[:2]
        whole = np.zeros((height, width, 3), np.uint8)
        for y in range(0, height, side):
            for x in range(0, width, side):
                ends = min(x + side, width), min(y + side, height)
                whole[y : y + side, x : x + side] = read_working(slide, scale, x, y, *ends)
    assert np.abs(whole.astype(np.float32) - expected).max() <= 0.51


@pytest.mark.parametrize("pixel_size", [0.5, 0.685, 2.0, 0.3, 3.3])
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (1999, 60001), (100_000, 77_777)])
def test_the_working_size_is_that_of_spacing(pixel_size, size):
    scale = Scale(size, MPP, pixel_size)
    for own, working in zip(size, scale.working_size, strict=True):
        assert working == round((own - 1) * MPP / pixel_size + 1)


def test_equal_pixel_sizes_read_the_slide_as_it_is(write_slide, picture, monkeypatch):
    monkeypatch.setattr("bundle.slides.resampling.sample", None)
    with open_slide(write_slide("pyramid")) as slide:
        scale = scale_of(slide, 0.5 + 1e-7)
        assert (scale.ratio, scale.working_size) == (1.0, (203, 141))
        np.testing.assert_array_equal(read_working(slide, scale, 3, 4, 100, 90), picture[4:90, 3:100])


def test_the_coarsest_level_that_is_fine_enough_is_read():
    levels = [Level(downsample, (1, 1)) for downsample in (1.0, 2.0, 4.0, 16.0)]
    ratios = {0.5: 0, 1.0: 0, 1.9: 0, 1.99: 1, 2.0: 1, 3.9: 1, 4.0: 2, 15.0: 2, 100.0: 3}
    assert {ratio: Scale((99, 99), 0.5, 0.5 * ratio).best_level(levels) for ratio in ratios} == ratios


def test_a_coarse_level_shows_the_same_places(tmp_path):
    import tifffile

    rows, columns = np.mgrid[:160, :240].astype(np.float32)
    smooth = np.stack([columns, rows, (rows + columns) / 2], axis=-1).astype(np.uint8)
    with tifffile.TiffWriter(tmp_path / "slide.tif") as file:
        for step in (1, 2, 4):
            means = smooth.reshape(160 // step, step, 240 // step, step, 3).mean(axis=(1, 3)).round().astype(np.uint8)
            file.write(means, photometric="rgb", tile=(32, 32), subfiletype=int(step > 1), metadata=None)
    expected = spaced(smooth, 0.25, 1.1)
    with open_slide(tmp_path / "slide.tif") as slide:
        scale = scale_of(slide, 1.1, mpp=0.25)
        assert scale.best_level(slide.levels) == 2
        width, height = scale.working_size
        result = read_working(slide, scale, 0, 0, width, height).astype(np.float32)
    assert np.abs(result - expected)[1:-1, 1:-1].max() <= 1.6  # gradients of 4.4 a working pixel: a shift would show
    assert abs((result - expected)[1:-1, 1:-1].mean()) < 0.6


def test_places_between_pixels_are_interpolated_and_the_border_goes_on():
    pixels = np.array([[[0], [100]], [[40], [200]]], np.uint8).repeat(3, axis=2)
    drawn = sample(pixels, np.array([-3.0, 0.0, 0.25, 1.0, 9.0]), np.array([0.0, 0.5]))[..., 0]
    np.testing.assert_array_equal(drawn, [[0, 0, 25, 100, 100], [20, 20, 52, 150, 150]])
    picked = sample(pixels, np.array([1.0, 0.0]), np.array([1.0]))
    np.testing.assert_array_equal(picked[..., 0], [[200, 40]])


def test_what_is_not_told_must_be_given(write_slide, caplog):
    with open_slide(path := write_slide("tiled")) as slide:
        with pytest.raises(SlideError, match=rf"{path} has no pixel size in its metadata; give --mpp$"):
            scale_of(slide, 1.0)
        for mpp, pixel_size in ((0.0, 1.0), (0.5, -1.0), (float("nan"), 1.0)):
            with pytest.raises(SlideError, match="must be above 0"):
                scale_of(slide, pixel_size, mpp)
        assert scale_of(slide, 1.0, 0.25).ratio == 4.0
        with caplog.at_level(logging.WARNING):
            scale_of(slide, 0.5, 1.0)
            scale_of(slide, 0.4, 1.0, quiet=True)
            assert not caplog.records
            scale_of(slide, 0.4, 1.0)
        assert "adds no detail" in caplog.text
    with open_slide(write_slide("pyramid")) as slide:
        assert scale_of(slide, 1.0).ratio == 2.0
        assert scale_of(slide, 1.0, 0.25).ratio == 4.0  # what is given goes before what the file tells
