"""XNet: frequency split, exchange of features, output."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from bundle.networks import XNet, low_frequencies
from bundle.networks.xnet import Exchange

TINY = (4, 6, 8, 10, 12)


def inputs_of_branches(network: XNet, image: Tensor) -> dict[str, Tensor]:
    """Return the input of each encoder."""
    recorded: dict[str, Tensor] = {}
    for name in ("low_encoder", "high_encoder"):
        module = getattr(network, name)
        module.register_forward_pre_hook(lambda module, given, name=name: recorded.update({name: given[0]}))
    network(image)
    return recorded


@pytest.mark.parametrize(("height", "width"), [(32, 48), (33, 48), (32, 47), (31, 33)])
def test_the_two_inputs_add_up_to_the_image(height: int, width: int) -> None:
    """Exactly equal: a quarter of an integer up to 255 has no rounding error in float32."""
    image = torch.randint(0, 256, (2, 3, height, width)).float()
    recorded = inputs_of_branches(XNet(widths=TINY).eval(), image)
    low, high = recorded["low_encoder"], recorded["high_encoder"]
    assert low.shape == high.shape == image.shape
    assert torch.equal(low + high, image)
    assert high.any()
    assert not torch.equal(low, image)


def test_low_frequencies_are_the_inverse_haar_transform_of_the_approximation() -> None:
    """Computed with the matrix of one level for 4 x 4 pixels: analysis, details set to 0, synthesis."""
    root = 0.5**0.5
    haar = torch.tensor([[root, root, 0, 0], [0, 0, root, root], [root, -root, 0, 0], [0, 0, root, -root]])
    assert torch.allclose(haar @ haar.T, torch.eye(4), atol=1e-6)
    image = torch.randn(1, 1, 4, 4)
    coefficients = haar @ image[0, 0] @ haar.T
    coefficients[2:] = coefficients[:, 2:] = 0.0
    torch.testing.assert_close(low_frequencies(image)[0, 0], haar.T @ coefficients @ haar)


def test_low_frequencies_by_hand_with_odd_sides() -> None:
    image = torch.tensor([[[[1.0, 3.0, 10.0], [5.0, 7.0, 20.0], [2.0, 4.0, 9.0]]]])
    expected = torch.tensor([[[[4.0, 4.0, 15.0], [4.0, 4.0, 15.0], [3.0, 3.0, 9.0]]]])
    assert torch.equal(low_frequencies(image), expected)


def test_the_exchange_changes_only_the_last_two_levels() -> None:
    exchange = Exchange(TINY).eval()
    own, other = ([torch.randn(2, width, 4, 4) for width in TINY] for _ in range(2))
    levels = exchange(own, other)
    assert [level.shape for level in levels] == [level.shape for level in own]
    repeated = exchange(own, [torch.randn_like(level) for level in other])
    for index in range(3):
        assert levels[index] is own[index]
        assert repeated[index] is own[index]
    for index in (3, 4):
        assert not torch.allclose(levels[index], repeated[index])
        assert not torch.allclose(levels[index], own[index])


def test_each_branch_uses_the_encoder_of_the_other_but_not_its_decoder() -> None:
    network = XNet(widths=TINY)
    answers = network.heads(torch.randn(2, 3, 32, 32))
    assert set(answers) == {"seg", "peer"}

    def reached(name: str) -> set[str]:
        network.zero_grad()
        answers[name].square().sum().backward(retain_graph=True)
        moved = {key for key, value in network.named_parameters() if value.grad is not None and value.grad.any()}
        return {key.split(".")[0] for key in moved}

    encoders = {"low_encoder", "high_encoder"}
    assert reached("seg") == encoders | {"low_exchange", "low_decoder", "low_head"}
    assert reached("peer") == encoders | {"high_exchange", "high_decoder", "high_head"}


@pytest.mark.parametrize(("height", "width"), [(16, 16), (17, 31), (33, 47)])
def test_the_low_branch_is_the_output_at_any_size(height: int, width: int) -> None:
    network = XNet(out_channels=3, widths=TINY).eval()
    image = torch.randn(2, 3, height, width)
    output = network(image)
    assert output.shape == (2, 3, height, width)
    assert torch.equal(output, network.heads(image)["seg"])


def test_a_script_gives_the_same_output() -> None:
    network = XNet(widths=TINY).eval()
    scripted = torch.jit.script(network)
    image = torch.randn(1, 3, 33, 40)
    torch.testing.assert_close(scripted(image), network(image))
    torch.testing.assert_close(scripted.heads(image), network.heads(image))


def test_all_convolutions_have_the_same_initialization() -> None:
    network = XNet(widths=(32, 32, 32, 32, 32))
    for part in network.modules():
        if isinstance(part, nn.Conv2d) and part.weight[0].numel() > 64:
            assert part.weight.std().item() == pytest.approx((2 / part.weight[0].numel()) ** 0.5, rel=0.1)
