"""Map of disagreement against numbers computed by hand, for two and more classes."""

from __future__ import annotations

import math

import pytest
import torch

from bundle.inference import consensus_entropy, disagreement
from bundle.networks import SemiMoE, UNet


def logits(*chances: float) -> torch.Tensor:
    """Return finite scores (1, C, 1, 1) of the given probabilities."""
    return torch.tensor(chances).clamp_min(1e-30).log().reshape(1, -1, 1, 1)


def distance(value: float) -> torch.Tensor:
    return torch.tensor(value).reshape(1, 1, 1, 1)


def coin(chance: float) -> float:
    """Return the entropy of a coin in bits."""
    return -sum(item * math.log2(item) for item in (chance, 1 - chance) if item)


@pytest.mark.parametrize(
    ("chances", "distances", "expected"),
    [
        ((1.0, 1.0), (1.0, 1.0), 0.0),
        ((0.0, 0.0), (-1.0, -1.0), 0.0),
        ((0.5, 0.5), (0.0, 0.0), 1.0),
        ((1.0, 0.0), (1.0, -1.0), 1.0),
        ((1.0, 1.0), (1.0, -1.0), coin(0.75)),
        ((0.9, 0.6), (0.2, -0.4), coin((0.9 + 0.6 + 0.6 + 0.3) / 4)),
    ],
)
def test_it_is_the_entropy_of_the_mean_opinion(chances, distances, expected):
    scores = [logits(1 - chance, chance) for chance in chances]
    result = consensus_entropy(scores, [distance(value) for value in distances])
    assert result.shape == (1, 1, 1, 1)
    assert result.item() == pytest.approx(expected, abs=1e-6)


def test_a_distance_leaves_the_kind_of_gland_to_its_scores():
    score = logits(0.2, 0.6, 0.2)
    result = consensus_entropy([score], [distance(0.0)])
    mean = [(0.2 + 0.5) / 2, (0.6 + 0.5 * 0.75) / 2, (0.2 + 0.5 * 0.25) / 2]
    expected = -sum(chance * math.log(chance) for chance in mean) / math.log(3)
    assert result.item() == pytest.approx(expected, abs=1e-6)
    assert consensus_entropy([logits(0.0, 1.0, 0.0)], [distance(1.0)]).item() == pytest.approx(0.0)
    assert consensus_entropy([torch.zeros(1, 3, 1, 1)], [distance(1 / 3)]).item() == pytest.approx(1.0)


@pytest.mark.parametrize("classes", [2, 3])
def test_a_network_gives_a_map_from_0_to_1(classes):
    heads = SemiMoE(out_channels=classes, widths=(4, 8, 8, 8, 8)).eval().heads(torch.randn(2, 3, 32, 48))
    result = disagreement(heads)
    assert result.shape == (2, 1, 32, 48)
    assert 0 <= result.min() < result.max() <= 1
    scores = [heads["seg"], heads["fused_seg"]]
    assert torch.equal(result, consensus_entropy(scores, [heads["sdf"].tanh(), heads["fused_sdf"].tanh()]))


def test_extreme_scores_are_no_trouble():
    heads = {
        name: torch.full((1, 2, 1, 1), 1e4).half() * torch.tensor([1, -1]).reshape(1, 2, 1, 1).half()
        for name in ("seg", "fused_seg")
    }
    heads |= {name: torch.full((1, 1, 1, 1), -60000.0).half() for name in ("sdf", "fused_sdf")}
    assert disagreement(heads).item() == 0.0


def test_another_network_is_told_what_is_missing():
    heads = UNet(widths=(4, 8, 8, 8, 8)).eval().heads(torch.randn(1, 3, 32, 32))
    with pytest.raises(ValueError, match=r"no head 'sdf', 'fused_seg', 'fused_sdf', only \['seg'\]; .*Semi-MoE"):
        disagreement(heads)
