"""The U-Net: parameters, comparison with MONAI, odd sides, TorchScript."""

from __future__ import annotations

import pytest
import torch
from monai.networks.blocks import Convolution, UpSample
from monai.networks.nets import BasicUNet
from torch import Tensor, nn

from bundle.networks import UNet, UNetDecoder, UNetEncoder
from bundle.networks.unet import WIDEST_TRANSPOSED, UpsampledConvolution

FULL = (64, 128, 256, 512, 1024)
TINY = (4, 6, 8, 10, 12)


def parameters(module: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def images(height: int = 32, width: int = 32, batch: int = 2) -> Tensor:
    """Random images."""
    return torch.randn(batch, 3, height, width)


def basic_unet(widths: tuple[int, ...]) -> BasicUNet:
    """Return the same network built from MONAI's BasicUNet with other up-blocks."""
    relu = ("relu", {"inplace": True})
    network = BasicUNet(2, 3, 2, (*widths, widths[0]), act=relu, norm="batch")
    for level, name in zip((4, 3, 2, 1), ("upcat_4", "upcat_3", "upcat_2", "upcat_1"), strict=True):
        below, width = widths[level], widths[level - 1]
        block = type(network.upcat_4)(2, below, width, width, relu, "batch", True, 0.0, halves=True)
        after = Convolution(2, below, width, kernel_size=3, act=relu, norm="batch")
        nearest = {"mode": "nontrainable", "pre_conv": None, "interp_mode": "nearest", "align_corners": None}
        block.upsample = UpSample(2, below, below, 2, post_conv=after, **nearest)
        setattr(network, name, block)
    return network


def test_parameters_of_the_full_size() -> None:
    with torch.device("meta"):
        network = UNet(widths=FULL)
    assert parameters(network) == 34_527_106
    # the head: 64 x 2 weights and 2 biases
    assert parameters(network.encoder) + parameters(network.decoder) == 34_527_106 - 130


def test_it_equals_basic_unet_of_monai_with_other_up_blocks() -> None:
    """The layers have the same order, so weights can be copied."""
    widths = (4, 8, 16, 32, 64)
    network, twin = UNet(widths=widths), basic_unet(widths)
    weights, theirs = network.state_dict(), twin.state_dict()
    assert [value.shape for value in weights.values()] == [value.shape for value in theirs.values()]
    twin.load_state_dict(dict(zip(theirs, weights.values(), strict=True)))
    image = images()
    torch.testing.assert_close(network.eval()(image), twin.eval()(image))
    torch.testing.assert_close(network.train()(image), twin.train()(image))


@pytest.mark.parametrize(("below", "width"), [(5, 3), (WIDEST_TRANSPOSED + 1, 2)])
def test_upsampling_with_a_convolution_equals_that_of_monai(below: int, width: int) -> None:
    """Output, gradients and running statistics, at the border too."""
    ours = UpsampledConvolution(below, width).double()
    after = Convolution(2, below, width, kernel_size=3, act=("relu", {"inplace": True}), norm="batch")
    nearest = {"mode": "nontrainable", "pre_conv": None, "interp_mode": "nearest", "align_corners": None}
    theirs = UpSample(2, below, below, 2, post_conv=after, **nearest).double()
    theirs.load_state_dict(ours.state_dict())
    assert ours.transposed == (below == 5)
    image = torch.randn(2, below, 3, 4, dtype=torch.float64)
    outputs = [module(image.requires_grad_()) for module in (ours, theirs)]
    assert outputs[0].shape == (2, width, 6, 8)
    torch.testing.assert_close(*outputs)
    recorded = [
        torch.autograd.grad(output.square().sum(), [image, *module.parameters()])
        for output, module in zip(outputs, (ours, theirs), strict=True)
    ]
    torch.testing.assert_close(*recorded)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())


def test_heads_contain_the_output_of_forward() -> None:
    network = UNet(out_channels=3, widths=TINY).eval()
    image = images()
    answers = network.heads(image)
    assert set(answers) == {"seg"}
    assert answers["seg"].shape == (2, 3, 32, 32)
    assert torch.equal(answers["seg"], network(image))


@pytest.mark.parametrize(("height", "width"), [(16, 16), (17, 31), (33, 47), (50, 32)])
def test_the_output_has_the_size_of_the_image(height: int, width: int) -> None:
    output = UNet(widths=TINY).eval()(images(height, width))
    assert output.shape == (2, 2, height, width)
    assert output.isfinite().all()


def test_levels_halve() -> None:
    levels = UNetEncoder(widths=TINY)(images(33, 48))
    assert [tuple(level.shape) for level in levels] == [
        (2, width, 33 // 2**index, 48 // 2**index) for index, width in enumerate(TINY)
    ]
    assert UNetDecoder(TINY)(levels).shape == (2, TINY[0], 33, 48)


def test_a_script_gives_the_same_output() -> None:
    network = UNet(widths=TINY).eval()
    scripted = torch.jit.script(network)
    image = images(33, 40)
    torch.testing.assert_close(scripted(image), network(image))
    torch.testing.assert_close(scripted.heads(image), network.heads(image))


def test_convolutions_have_kaiming_initialization() -> None:
    """Standard deviation sqrt(2 / fan in), biases 0."""
    convolutions = [part for part in UNet(widths=(32, 32, 32, 32, 32)).modules() if isinstance(part, nn.Conv2d)]
    assert len(convolutions) == 2 * 5 + 3 * 4 + 1
    for convolution in convolutions:
        fan_in = convolution.weight[0].numel()
        if fan_in > 32:  # with few weights the estimate is not reliable
            assert convolution.weight.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.1)
        assert convolution.bias is not None
        assert not convolution.bias.any()


def test_dropout_is_used_only_in_training() -> None:
    network = UNet(widths=TINY, dropout=0.5)
    image = images()
    assert not torch.equal(network(image), network(image))
    network.eval()
    assert torch.equal(network(image), network(image))


@pytest.mark.parametrize("widths", [(8, 16, 32, 64), (8, 8, 8, 8, 8, 8)])
def test_another_number_of_levels_is_refused(widths: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="five levels"):
        UNet(widths=widths)
