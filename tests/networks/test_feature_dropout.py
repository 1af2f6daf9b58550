"""The U-Net with a head on dropped features, and the two kinds of channel dropout."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bundle.networks import ComplementaryDropout, DroppedUNet, FeatureDropout

WIDTHS = (4, 6, 8, 8, 8)


def levels_of(images: int) -> list[Tensor]:
    """Return features of two levels; the second half of the images equals the first."""
    half = [torch.rand((images + 1) // 2, width, side, side) + 0.5 for width, side in ((40, 4), (60, 2))]
    return [torch.cat([level, level])[:images] for level in half]


def network_of(complementary: bool) -> DroppedUNet:
    return DroppedUNet(ComplementaryDropout(kept=0.0) if complementary else FeatureDropout(0.5), widths=WIDTHS)


def channel_factors(before: Tensor, after: Tensor) -> Tensor:
    """Return the factor of each channel of each image (B, C), which must be constant in a channel."""
    factors = after / before
    assert torch.equal(factors, factors[..., :1, :1].expand_as(factors))
    return factors[..., 0, 0]


@pytest.mark.parametrize("complementary", [False, True])
def test_features_are_dropped_only_in_training(complementary):
    network = network_of(complementary)
    image = torch.randn(4, 3, 32, 32)
    heads = network.train().heads(image)
    assert heads.keys() == {"seg", "dropped"}
    assert heads["seg"].shape == heads["dropped"].shape == (4, 2, 32, 32)
    assert not torch.allclose(heads["seg"], heads["dropped"], atol=1e-2)
    network.eval()
    heads = network.heads(image)
    assert torch.equal(heads["seg"], heads["dropped"])
    assert torch.equal(heads["seg"], network(image))


def test_heads_differ_only_by_dropout():
    network = DroppedUNet(FeatureDropout(0.0), widths=WIDTHS).train()
    heads = network.heads(torch.randn(2, 3, 32, 32))
    torch.testing.assert_close(heads["seg"], heads["dropped"])


@pytest.mark.parametrize("dropout", [FeatureDropout(0.5), ComplementaryDropout(kept=0.5)])
def test_dropout_scripts(dropout):
    levels = levels_of(4)
    after = torch.jit.script(dropout)(levels)
    assert [item.shape for item in after] == [item.shape for item in levels]


def test_feature_dropout_takes_whole_channels_of_all_levels():
    before = levels_of(6)
    for level, after in zip(before, FeatureDropout(0.5)(before), strict=True):
        factors = channel_factors(level, after)
        assert set(factors.flatten().tolist()) == {0.0, 2.0}
        assert 0.3 < (factors == 0).float().mean().item() < 0.7
        assert len({tuple(row) for row in factors.tolist()}) == 6


def test_complementary_dropout_gives_each_channel_to_one_of_a_pair():
    before = levels_of(8)
    for level, after in zip(before, ComplementaryDropout(kept=0.0)(before), strict=True):
        factors = channel_factors(level, after)
        assert set(factors.flatten().tolist()) == {0.0, 2.0}
        assert torch.equal(factors[:4] + factors[4:], torch.full_like(factors[:4], 2.0))
        assert 0.3 < (factors[:4] == 0).float().mean().item() < 0.7
        assert len({tuple(row) for row in factors.tolist()}) == 8


def test_pairs_are_left_unchanged_with_the_given_probability_on_all_levels():
    before = levels_of(200)
    whole = []
    for level, after in zip(before, ComplementaryDropout(kept=0.3)(before), strict=True):
        ones = (channel_factors(level, after) == 1).all(dim=1)
        assert torch.equal(ones[:100], ones[100:])
        whole.append(ones)
    assert torch.equal(whole[0], whole[1])
    assert 0.15 < whole[0].float().mean().item() < 0.45
    saved = ComplementaryDropout(kept=1.0)(before)
    assert all(torch.equal(level, after) for level, after in zip(before, saved, strict=True))


@pytest.mark.parametrize("images", [1, 3])
def test_an_odd_number_of_images(images):
    for level, after in zip(levels := levels_of(images), ComplementaryDropout(kept=0.0)(levels), strict=True):
        factors = channel_factors(level, after)
        assert factors.shape[0] == images
        assert set(factors.flatten().tolist()) == {0.0, 2.0}
