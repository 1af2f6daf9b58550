"""Blocks that worker processes read."""

from __future__ import annotations

import os

import numpy as np
import pytest
import tifffile
import torch

from bundle.slides import BlockDataset, SlideError, block_loader, open_slide, read_working, regions, scale_of

PIXEL_SIZE = 0.7


@pytest.fixture
def path(write_slide):
    return write_slide("pyramid")


@pytest.fixture
def cut(path):
    """Return the regions of the test slide."""
    with open_slide(path) as slide:
        return regions(scale_of(slide, PIXEL_SIZE).working_size, 24, 0.5, 48)


@pytest.mark.parametrize("workers", [0, 2])
def test_every_region_is_read_with_width_first_and_in_order(path, cut, workers):
    dataset = BlockDataset(path, None, PIXEL_SIZE, cut)
    assert len(dataset) == len(cut) > 4
    items = list(block_loader(dataset, num_workers=workers))
    assert [item["region"] for item in items] == list(range(len(cut)))
    with open_slide(path) as slide:
        scale = scale_of(slide, PIXEL_SIZE)
        for item, region in zip(items, cut, strict=True):
            image = item["image"]
            assert image.dtype == torch.uint8
            assert image.shape == (3, region.padded.width, region.padded.height)
            expected = read_working(slide, scale, *region.padded)
            np.testing.assert_array_equal(image.permute(2, 1, 0).numpy(), expected)
            assert 0 < item["seconds"] < 100
    dataset.close()


def test_what_is_given_goes_before_what_the_file_tells(path, cut):
    dataset = BlockDataset(path, PIXEL_SIZE, PIXEL_SIZE, cut, backend="tifffile")
    box = cut[0].padded
    with open_slide(path) as slide:
        np.testing.assert_array_equal(dataset[0]["image"].permute(2, 1, 0).numpy(), slide.read(0, *box))
    dataset.close()
    dataset.close()
    assert dataset[0]["image"].shape[0] == 3


def test_each_process_opens_the_slide_itself_and_once(path, cut, monkeypatch):
    dataset = BlockDataset(path, None, PIXEL_SIZE, cut)
    opened = []
    monkeypatch.setattr(
        "bundle.slides.region_dataset.open_slide", lambda *given: opened.append(given) or open_slide(*given)
    )
    dataset[0], dataset[1]
    assert len(opened) == 1
    monkeypatch.setattr(os, "getpid", lambda: -1)
    dataset[0], dataset[1]
    assert len(opened) == 2


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_block_names_file_and_place(path, cut, workers):
    with tifffile.TiffFile(path) as file:
        offset = file.pages[0].dataoffsets[0]
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xff" * 50)
    loader = block_loader(BlockDataset(path, None, PIXEL_SIZE, cut), num_workers=workers)
    with pytest.raises(SlideError, match=rf"{path} is damaged at level 0, x 0 to .* working pixels x 0 to \d+, y 0 to"):
        list(loader)


def test_without_a_pixel_size_nothing_is_read(write_slide, cut):
    with pytest.raises(SlideError, match="give --mpp"):
        BlockDataset(write_slide("tiled"), None, PIXEL_SIZE, cut)[0]
