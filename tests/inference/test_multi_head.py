"""Stacked heads: the segmentation equals that of the bare network bit for bit."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer
from monai.networks.utils import eval_mode
from torch import nn

from bundle.inference import StackedHeads, UnstackHeadsd

SHOWN = {"fused_seg": "logits", "fused_sdf": "tanh", "fused_boundary": "probability"}


class ThreeHeads(nn.Module):
    """Network with the heads of Semi-MoE, as one convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 5, 3, padding=1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.layer(image)[:, :2]

    def heads(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        output = self.layer(image)
        return {"fused_seg": output[:, :2], "fused_sdf": output[:, 2:3], "fused_boundary": output[:, 3:]}


class OneHead(ThreeHeads):
    """Network with a segmentation head only."""

    def heads(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"seg": self.forward(image)}


def test_heads_stand_side_by_side_in_their_forms():
    network, image = ThreeHeads(), torch.randn(2, 3, 8, 10)
    stacked, heads = StackedHeads(network, SHOWN)(image), network.heads(image)
    assert stacked.shape == (2, 4, 8, 10)
    assert torch.equal(stacked[:, :2], network(image))
    assert torch.equal(stacked[:, 2:3], heads["fused_sdf"].tanh())
    torch.testing.assert_close(stacked[:, 3], heads["fused_boundary"].diff(dim=1)[:, 0].sigmoid())


def test_the_window_gives_the_segmentation_it_gives_without_the_other_heads():
    network, image = ThreeHeads(), torch.randn(1, 3, 50, 70)
    inferer = SlidingWindowInferer((32, 32), sw_batch_size=4, overlap=0.5, mode="gaussian")
    with torch.no_grad():
        plain, stacked = inferer(image, network), inferer(image, StackedHeads(network, SHOWN))
    assert torch.equal(stacked[:, :2], plain)
    assert stacked[:, 2].abs().max() <= 1
    assert 0 <= stacked[:, 3].min() <= stacked[:, 3].max() <= 1


def test_the_network_is_shared_and_follows_into_evaluation_and_back():
    network = ThreeHeads()
    stacked = StackedHeads(network, SHOWN)
    assert {id(item) for item in stacked.parameters()} == {id(item) for item in network.parameters()}
    with eval_mode(stacked):
        assert not network.training
    assert network.training


@pytest.mark.parametrize("network", [OneHead(), nn.Conv2d(3, 2, 1)], ids=["one head", "no heads"])
def test_a_network_without_the_heads_is_named(network):
    arguments = rf"{type(network).__name__} has no head 'fused_sdf', 'fused_boundary'.*; choose a method"
    with pytest.raises(ValueError, match=arguments):
        StackedHeads(network, {"fused_sdf": "tanh", "fused_boundary": "probability"})(torch.zeros(1, 3, 8, 8))


def test_an_unknown_form_or_no_head_is_refused():
    with pytest.raises(ValueError, match=r"head 'seg' has the form 'sigmoid'; choose from \['logits'"):
        StackedHeads(ThreeHeads(), {"seg": "sigmoid"})
    with pytest.raises(ValueError, match="no head to stack"):
        StackedHeads(ThreeHeads(), {})


def test_maps_are_taken_apart_with_their_metadata():
    stacked = MetaTensor(torch.arange(24.0).reshape(4, 2, 3), meta={"filename_or_obj": "tile.png"})
    parts = UnstackHeadsd("pred", {"pred": 2, "pred_sdf": 1, "pred_boundary": 1})({"pred": stacked, "image": 0})
    assert list(parts) == ["pred", "image", "pred_sdf", "pred_boundary"]
    assert torch.equal(torch.cat([parts["pred"], parts["pred_sdf"], parts["pred_boundary"]]), stacked)
    assert parts["pred_sdf"].meta["filename_or_obj"] == "tile.png"


def test_another_number_of_channels_is_refused():
    with pytest.raises(ValueError, match=r"'pred' has 2 channels, but its parts are \{'pred': 2, 'pred_sdf': 1\}"):
        UnstackHeadsd("pred", {"pred": 2, "pred_sdf": 1})({"pred": torch.zeros(2, 4, 4)})
    with pytest.raises(ValueError, match="part 'pred' has 0 channels"):
        UnstackHeadsd("pred", {"pred": 0})
