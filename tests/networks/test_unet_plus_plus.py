"""U-Net++."""

from __future__ import annotations

import pytest
import torch

from bundle.networks import UNetEncoder, UNetPlusPlus

WIDTHS = (4, 6, 8, 8, 10)


def test_any_sides_and_the_same_output_as_a_script():
    network = UNetPlusPlus(out_channels=3, widths=WIDTHS).eval()
    scripted = torch.jit.script(network)
    for sides in ((16, 16), (37, 51)):
        image = torch.randn(2, 3, *sides)
        with torch.no_grad():
            output = network(image)
            assert output.shape == (2, 3, *sides)
            assert torch.equal(network.heads(image)["seg"], output)
            assert torch.allclose(scripted.heads(image)["seg"], output, atol=1e-6)


def test_every_parameter_has_a_gradient():
    """DistributedDataParallel needs this; heads for deep supervision would have none."""
    network = UNetPlusPlus(widths=WIDTHS)
    network(torch.randn(2, 3, 32, 32)).square().mean().backward()
    assert [name for name, value in network.named_parameters() if value.grad is None] == []


def test_all_nodes_of_the_finest_level_have_its_width():
    network = UNetPlusPlus(widths=WIDTHS)
    assert network.nested.final_conv_0_4.in_channels == WIDTHS[0]
    assert {network.nested.get_submodule(f"upcat_0_{node}").convs.conv_1.conv.out_channels for node in (1, 2, 3)} == {4}


def test_another_encoder_is_refused():
    with pytest.raises(
        ValueError, match=r"U-Net\+\+ cannot use another encoder or output stride.* or choose another network"
    ):
        UNetPlusPlus(widths=WIDTHS, encoder=UNetEncoder(widths=WIDTHS))
    with pytest.raises(ValueError, match=r"U-Net\+\+ cannot use another encoder or output stride"):
        UNetPlusPlus(widths=WIDTHS, output_stride=2)


def test_another_number_of_levels_is_refused():
    with pytest.raises(ValueError, match="five levels"):
        UNetPlusPlus(widths=(4, 8, 8))
