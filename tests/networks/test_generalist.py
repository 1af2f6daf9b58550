"""Generalist and specialists: heads, shared features, and at least two foreground classes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bundle.networks import GeneralistUNet, SemiMoE, SpecialistSemiMoE, UNet

TINY = (4, 4, 8, 8, 8)
NETWORKS = {"generalist": GeneralistUNet, "semi_moe": SpecialistSemiMoE}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("classes", [3, 5])
def test_a_specialist_for_each_foreground_class(name: str, classes: int) -> None:
    network = NETWORKS[name](out_channels=classes, widths=TINY).eval()
    image = torch.randn(2, 3, 32, 48)
    with torch.no_grad():
        heads = network.heads(image)
    specialists = [f"specialist_{own}" for own in range(1, classes)]
    assert [head for head in heads if head.startswith("specialist_")] == specialists
    assert all(heads[head].shape == (2, 3, 32, 48) for head in specialists)
    assert heads["seg"].shape == (2, classes, 32, 48)


@pytest.mark.parametrize("name", NETWORKS)
def test_heads_can_be_scripted(name: str) -> None:
    network = NETWORKS[name](widths=TINY).eval()
    image = torch.randn(1, 3, 16, 32)
    with torch.no_grad():
        heads, scripted = network.heads(image), torch.jit.script(network).heads(image)
    assert heads.keys() == scripted.keys()
    assert all(torch.allclose(scripted[head], heads[head], atol=1e-6) for head in heads)


def test_the_generalist_is_a_u_net_and_the_output() -> None:
    network, plain = GeneralistUNet(widths=TINY).eval(), UNet(out_channels=3, widths=TINY).eval()
    state = {key: value for key, value in network.state_dict().items() if not key.startswith("specialists.")}
    plain.load_state_dict(state)
    image = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(network(image), plain(image))
        assert torch.equal(network.heads(image)["seg"], network(image))


def test_the_specialists_of_semi_moe_use_its_segmentation_expert() -> None:
    """The other experts do not affect them, in any order of the experts."""
    network = SpecialistSemiMoE(widths=TINY, experts=["sdf", "seg", "boundary"])
    heads = network.heads(torch.randn(2, 3, 32, 32))
    (heads["specialist_1"].sum() + heads["specialist_2"].sum()).backward()
    reached = [any(p.grad is not None and p.grad.any() for p in decoder.parameters()) for decoder in network.decoders]
    assert reached == [False, True, False]
    assert network.tasks["seg"].head.weight.grad is None


def test_specialists_do_not_change_semi_moe() -> None:
    network, plain = SpecialistSemiMoE(widths=TINY).eval(), SemiMoE(out_channels=3, widths=TINY).eval()
    state = {key: value for key, value in network.state_dict().items() if not key.startswith("specialists.")}
    plain.load_state_dict(state)
    image = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        heads, expected = network.heads(image), plain.heads(image)
        assert torch.equal(network(image), plain(image))
    assert all(torch.equal(heads[name], expected[name]) for name in expected)


@pytest.mark.parametrize("name", NETWORKS)
def test_one_foreground_class_is_refused(name: str) -> None:
    settings: dict[str, Any] = {"out_channels": 2, "widths": TINY}
    with pytest.raises(
        ValueError, match="at least two foreground classes, but there are 2 classes including the background"
    ):
        NETWORKS[name](**settings)
