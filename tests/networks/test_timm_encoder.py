"""Encoders of timm, tested with a fake module, because timm is an optional dependency."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bundle.networks import TimmEncoder, UNet, XNet

TINY = (4, 6, 8, 10, 12)
MEAN, SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Features(nn.Module):
    """Fake of ``timm.create_model(..., features_only=True)``: maps of some strides, and their metadata."""

    def __init__(self, reductions: list[int], output_fmt: str = "NCHW") -> None:
        super().__init__()
        channels = [4 + index for index in range(len(reductions))]
        self.feature_info = SimpleNamespace(channels=lambda: channels, reduction=lambda: reductions)
        self.pretrained_cfg = {"mean": MEAN, "std": SD}
        self.output_fmt = output_fmt
        self.reductions = reductions
        self.maps = nn.ModuleList([nn.Conv2d(3, channel, 1) for channel in channels])
        self.seen: list[Tensor] = []

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return means of blocks; raises an error for other sides than multiples, as some encoders of timm."""
        self.seen.append(image)
        assert all(side % max(self.reductions) == 0 for side in image.shape[2:])
        maps = [
            convolution(nn.functional.avg_pool2d(image, stride))
            for convolution, stride in zip(self.maps, self.reductions, strict=True)
        ]
        return [item.permute(0, 2, 3, 1) for item in maps] if self.output_fmt == "NHWC" else maps


@pytest.fixture
def timm(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Fake of timm; ``calls`` records the arguments."""
    module: Any = ModuleType("timm")
    module.calls = []

    def create_model(name: str, **arguments: Any) -> Features:
        module.calls.append((name, arguments))
        if name == "nonsense":
            raise RuntimeError("Unknown model (nonsense)")
        reductions = {"hierarchical": [2, 4, 8, 16, 32], "late": [4, 8, 16, 32], "vit": [16] * 3, "dino": [14] * 4}
        reductions |= {"odd": [4, 8, 8], "many": [8] * 5, "swin": [4, 8, 16, 32]}
        return Features(reductions[name], "NHWC" if name == "swin" else "NCHW")

    module.create_model = create_model
    monkeypatch.setitem(sys.modules, "timm", module)
    return module


@pytest.mark.parametrize(
    ("name", "strides"),
    [
        ("hierarchical", [2, 4, 8, 16, 32]),
        ("late", [4, 8, 16, 32]),
        ("swin", [4, 8, 16, 32]),
        ("vit", [4, 8, 16]),
        ("dino", [2, 4, 8, 16]),
    ],
)
@pytest.mark.parametrize(("height", "width"), [(64, 96), (65, 98)])
def test_features_fit_a_unet(name: str, strides: list[int], height: int, width: int, timm: Any) -> None:
    encoder = TimmEncoder(name)
    assert encoder.strides == strides
    features = encoder(torch.randn(2, 3, height, width))
    assert [tuple(item.shape) for item in features] == [
        (2, channels, height // stride, width // stride)
        for channels, stride in zip(encoder.channels, strides, strict=True)
    ]
    network = UNet(widths=TINY, encoder=encoder).train()
    output = network(torch.randn(2, 3, height, width))
    assert output.shape == (2, 2, height, width)
    output.square().mean().backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())
    assert XNet(widths=TINY, encoder=encoder)(torch.randn(2, 3, height, width)).shape == (2, 2, height, width)


def test_the_image_is_normalized_for_timm_and_padded(timm: Any) -> None:
    encoder = TimmEncoder("hierarchical", subtrahend=(0.1, 0.2, 0.3), divisor=(0.5, 0.5, 0.25))
    image = torch.rand(1, 3, 33, 64)
    encoder((image - torch.tensor([0.1, 0.2, 0.3])[:, None, None]) / torch.tensor([0.5, 0.5, 0.25])[:, None, None])
    (recorded,) = encoder.network.seen
    expected = (image - torch.tensor(MEAN)[:, None, None]) / torch.tensor(SD)[:, None, None]
    assert recorded.shape == (1, 3, 64, 64)
    torch.testing.assert_close(recorded[:, :, :33], expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(recorded[:, :, 33:], expected[:, :, 32:].expand(-1, -1, 31, -1), atol=1e-5, rtol=1e-5)


def test_features_keep_their_positions(timm: Any) -> None:
    """Each value is the mean of its block of pixels, also if the image was padded."""
    encoder = TimmEncoder("late", subtrahend=MEAN, divisor=SD)
    image = torch.randn(1, 3, 45, 70)
    for index, (stride, feature) in enumerate(zip(encoder.strides, encoder(image), strict=True)):
        expected = encoder.network.maps[index](nn.functional.avg_pool2d(image, stride))
        torch.testing.assert_close(feature, expected)


def test_weights_are_loaded_only_on_request(timm: Any, tmp_path: Any) -> None:
    file = tmp_path / "weights.pth"
    TimmEncoder("late", weights=str(file))
    file.write_bytes(b"")
    TimmEncoder("late", pretrained=True, weights=str(file), options={"img_size": [64, 64]})
    assert timm.calls == [
        ("late", {"features_only": True, "pretrained": False}),
        (
            "late",
            {
                "features_only": True,
                "pretrained": True,
                "pretrained_cfg_overlay": {"file": str(file)},
                "img_size": [64, 64],
            },
        ),
    ]


def test_the_network_keeps_the_encoder_s_weights(timm: Any) -> None:
    encoder = TimmEncoder("late")
    before = encoder.network.maps[0].weight.clone()
    network = UNet(widths=TINY, encoder=encoder)
    assert torch.equal(network.encoder.network.maps[0].weight, before)
    assert len(network.encoder_parameters()) == 8


def test_wrong_arguments_are_refused(timm: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        ValueError, match=r"timm cannot create the encoder 'nonsense': RuntimeError: Unknown model .*; choose"
    ):
        TimmEncoder("nonsense")
    with pytest.raises(ValueError, match=r"strides \[4, 8, 8\] do not fit a U-Net"):
        TimmEncoder("odd")
    with pytest.raises(ValueError, match=r"5 maps of stride 8 are too many for a pyramid; set fewer"):
        TimmEncoder("many")
    with pytest.raises(
        FileNotFoundError, match=r"no weights at .*none\.pth; set network_def#encoder#weights to a file"
    ):
        TimmEncoder("late", pretrained=True, weights=str(tmp_path / "none.pth"))
    timm.calls.clear()
    with pytest.raises(
        ValueError, match=r"checkpoint_path is not allowed in the options of an encoder; set the file as weights"
    ):
        TimmEncoder("late", options={"checkpoint_path": str(tmp_path / "pickle.pth")})
    assert not timm.calls, "timm would unpickle the file"
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(RuntimeError, match=r"encoder 'late' needs timm, .*; pip install timm, or \.\[timm\]"):
        TimmEncoder("late")
