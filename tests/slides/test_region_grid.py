"""Regions of a slide: sliding windows over them give the same result as one over the whole slide."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from monai.inferers import SlidingWindowInferer
from torch import nn

from bundle.slides import Box, Region, Scale, Tissue, regions, stride_of

WINDOW = 24
SIZES = [(100, 90), (1, 1), (24, 24), (25, 23), (30, 200), (97, 61), (48, 72), (7, 130), (60, 49)]


@pytest.fixture(scope="module")
def network():
    """Network whose output in a window depends on the border of the window, as that of a U-Net does."""
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(3, 8, 7, padding=3),
        nn.Tanh(),
        nn.Conv2d(8, 8, 7, padding=3),
        nn.Tanh(),
        nn.Conv2d(8, 2, 7, padding=3),
    ]
    return nn.Sequential(*layers).eval()


def tissue_of(size, seed, share=0.2):
    """Return a random tissue map with cells of 5 px."""
    cells = np.random.default_rng(seed).uniform(size=(-(-size[1] // 5), -(-size[0] // 5))) < share
    return Tissue(cells, 5.0, Scale(size, 1.0, 1.0))


def both(network, size, overlap, chosen, beyond=0):
    """Return the largest difference between predictions of regions and the whole, in cores and ``beyond`` px on."""
    inferer = SlidingWindowInferer(roi_size=(WINDOW, WINDOW), overlap=overlap, mode="gaussian", sw_batch_size=4)
    image = torch.randn(1, 3, size[1], size[0], generator=torch.Generator().manual_seed(1))
    worst = 0.0
    with torch.no_grad():
        whole = inferer(image, network)
        for region in chosen:
            outer, inner, core = region.padded, region.inner, region.core
            part = inferer(image[..., outer.y0 : outer.y1, outer.x0 : outer.x1], network)
            ends = min(core.y1 + beyond, size[1]), min(core.x1 + beyond, size[0])
            expected = whole[..., core.y0 : ends[0], core.x0 : ends[1]]
            given = part[..., inner.y0 : ends[0] - outer.y0, inner.x0 : ends[1] - outer.x0]
            assert given.shape == expected.shape
            worst = max(worst, float((given - expected).abs().max()))
    return worst


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("overlap", [0, 0.25, 0.5, 0.7])
@pytest.mark.parametrize("beyond", [False, True])
def test_each_core_is_predicted_as_in_the_whole(network, size, overlap, beyond):
    for tissue in (None, tissue_of(size, 3)):
        chosen = regions(size, WINDOW, overlap, 40, tissue, needs_beyond=beyond)
        assert both(network, size, overlap, chosen, beyond=int(beyond)) < 1e-5


def test_a_short_core_at_the_end_sees_the_last_window(network):
    tissue = Tissue(np.zeros((19, 19), bool), 5.0, Scale((94, 94), 1.0, 1.0))
    tissue.mask[18, 18] = True
    chosen = regions((94, 94), WINDOW, 0.25, 40, tissue)
    assert [region.core for region in chosen] == [Box(90, 90, 94, 94)]
    assert both(network, (94, 94), 0.25, chosen) < 1e-5


def test_windows_may_be_oblong(network):
    chosen = regions((90, 70), (24, 16), 0.5, 30)
    assert {region.core.x0 % 12 for region in chosen} == {region.core.y0 % 8 for region in chosen} == {0}
    assert chosen[1].padded == Box(12, 0, 60, 32)


def test_the_halo_is_needed(network):
    chosen = regions((100, 90), WINDOW, 0.5, 40, needs_beyond=False)
    bare = [dataclasses.replace(region, padded=region.core) for region in chosen]
    assert both(network, (100, 90), 0.5, bare) > 1e-3
    shorter = [
        dataclasses.replace(region, padded=region.padded._replace(x1=max(region.padded.x1 - 12, region.core.x1)))
        for region in chosen
    ]
    assert both(network, (100, 90), 0.5, shorter) > 1e-3
    assert both(network, (100, 90), 0.5, chosen, beyond=1) > 1e-3  # one stride more is needed for the pixel behind


@pytest.mark.parametrize("within", [Box(31, 5, 77, 83), Box(0, 40, 100, 41), Box(70, 80, 100, 90), Box(50, 50, 51, 51)])
@pytest.mark.parametrize("overlap", [0, 0.25, 0.5, 0.7])
def test_a_box_is_predicted_as_in_the_whole(network, within, overlap):
    size = (100, 90)
    for tissue in (None, tissue_of(size, 3, share=0.5)):
        chosen = regions(size, WINDOW, overlap, 40, tissue, needs_beyond=True, within=within)
        assert chosen
        assert both(network, size, overlap, chosen, beyond=1) < 1e-5
        count = np.zeros((90, 100), int)
        for region in chosen:
            count[region.core.y0 : region.core.y1, region.core.x0 : region.core.x1] += 1
        inside = np.s_[within.y0 : within.y1, within.x0 : within.x1]
        expected = np.ones((90, 100), bool) if tissue is None else tissue.mask.repeat(5, axis=0).repeat(5, axis=1)
        assert (count[inside] >= expected[inside]).all()
        assert count.max() == 1
        assert count[inside].sum() == count.sum()


def test_the_box_of_all_is_all():
    whole = regions((1000, 777), WINDOW, 0.5, 64)
    assert regions((1000, 777), WINDOW, 0.5, 64, within=Box(0, 0, 1000, 777)) == whole


@pytest.mark.parametrize("size", [*SIZES, (1000, 777)])
@pytest.mark.parametrize("block", [1, 40, 64, 5000])
def test_cores_cover_the_slide_once_row_by_row(size, block):
    chosen = regions(size, WINDOW, 0.5, block)
    count = np.zeros((size[1], size[0]), int)
    for region in chosen:
        core, padded = region.core, region.padded
        count[core.y0 : core.y1, core.x0 : core.x1] += 1
        assert core.x0 % 12 == core.y0 % 12 == 0
        assert padded.x0 <= core.x0 < core.x1 <= padded.x1 <= size[0]
        assert padded.y0 <= core.y0 < core.y1 <= padded.y1 <= size[1]
        assert max(core.width, core.height) < max(block, 12) + WINDOW
        for start, end, whole in ((core.x0, core.x1, size[0]), (core.y0, core.y1, size[1])):
            assert end - start >= WINDOW or end < whole or start == 0  # no short rest at the end
    assert (count == 1).all()
    positions = [(region.core.y0, region.core.x0) for region in chosen]
    assert positions == sorted(positions)


def test_only_blocks_with_tissue_remain_and_shrink_to_it():
    size = (1000, 800)
    mask = np.zeros((80, 100), bool)
    mask[30, 41] = mask[33, 45] = True  # px 410 to 460, 300 to 340; cells of 10 px
    chosen = regions(size, WINDOW, 0.5, 240, Tissue(mask, 10.0, Scale(size, 1.0, 1.0)))
    assert [region.core for region in chosen] == [Box(408, 300, 468, 348)]
    assert chosen[0].inner == Box(12, 12, 72, 60)
    mask[:] = False
    assert regions(size, WINDOW, 0.5, 240, Tissue(mask, 10.0, Scale(size, 1.0, 1.0))) == []
    mask[79, 99] = True
    (last,) = regions(size, WINDOW, 0.5, 240, Tissue(mask, 10.0, Scale(size, 1.0, 1.0)))
    assert (last.core.x1, last.core.y1) == (last.padded.x1, last.padded.y1) == size


@pytest.mark.parametrize("size", [(200, 130), (97, 61)])
def test_all_tissue_lies_in_cores(size):
    tissue = tissue_of(size, 5, share=0.03)
    covered = np.zeros((size[1], size[0]), bool)
    for region in regions(size, WINDOW, 0.25, 50, tissue):
        core = region.core
        covered[core.y0 : core.y1, core.x0 : core.x1] = True
        assert tissue.any(*core)
    expected = tissue.mask.repeat(5, axis=0).repeat(5, axis=1)[: size[1], : size[0]]
    assert not (expected & ~covered).any()
    assert covered.mean() < 0.95


def test_the_stride_is_that_of_the_sliding_window():
    assert [stride_of(256, overlap) for overlap in (0, 0.25, 0.5, 0.1)] == [256, 192, 128, 230]
    assert stride_of(3, 0.9) == 1
    region = Region(Box(10, 20, 30, 50), Box(4, 5, 60, 70))
    assert (region.inner, region.core.width, region.core.height) == (Box(6, 15, 26, 45), 20, 30)


@pytest.mark.parametrize(
    "wrong", [{"window": 0}, {"overlap": 1.0}, {"overlap": -0.1}, {"block": 0}, {"working_size": (0, 5)}]
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match="write 1 px or more"):
        regions(**{"working_size": (50, 50), "window": 24, "overlap": 0.5, "block": 40} | wrong)
