"""The encoder interface, the encoder of a U-Net, and functions that create encoders for networks."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from monai.networks.nets.basic_unet import Down, TwoConv
from torch import Tensor, nn

ACTIVATION = ("relu", {"inplace": True})
NORM = "batch"
PRETRAINED = "pretrained"
"""Argument of encoders: whether to load pretrained weights in the constructor."""
SUBTRAHEND = (0.788, 0.512, 0.785)
DIVISOR = (0.168, 0.248, 0.132)
"""Normalization of the data pipeline, as ``normalization`` in the configs."""


class Encoder(nn.Module):
    """Base class of encoders: feature maps of an image, each half as large as the one before.

    Args:
        in_channels: channels of the image.
        channels: channels of the features, the finest first.
        strides: strides of the features relative to the image, powers of two, each twice the one before.

    Attributes:
        pretrainable: whether pretrained weights exist. Such an encoder initializes or loads its weights itself, and
            ``NamedOutputs.encoder_parameters`` returns its parameters.

    Raises:
        ValueError: if the strides are not such powers of two.
    """

    pretrainable = False

    def __init__(self, in_channels: int, channels: Sequence[int], strides: Sequence[int]) -> None:
        super().__init__()
        doubled = all(after == 2 * before for before, after in pairwise(strides))
        if not strides or strides[0] < 1 or strides[0] & (strides[0] - 1) or not doubled:
            raise ValueError(
                f"features of strides {list(strides)} do not fit a U-Net, which needs powers of two, each twice the "
                "one before; choose another encoder"
            )
        self.in_channels = in_channels
        self.channels = list(channels)
        self.strides = list(strides)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return features (B, channels[i], H // strides[i], W // strides[i]) of an image (B, in_channels, H, W)."""
        raise NotImplementedError


class UNetEncoder(Encoder):
    """Encoder of a U-Net (Ronneberger et al. 2015, arXiv 1505.04597) with batch normalization.

    Args:
        in_channels: channels of the image.
        widths: channels of the five levels, at strides 1, 2, 4, 8 and 16.
        dropout: probability of dropout after each convolution; used by MONAI Label's epistemic scoring.
    """

    def __init__(
        self, in_channels: int = 3, widths: Sequence[int] = (16, 32, 64, 128, 256), dropout: float = 0.0
    ) -> None:
        if len(widths) != 5:
            raise ValueError(f"a U-Net needs five levels, got widths {tuple(widths)}")
        super().__init__(in_channels, widths, (1, 2, 4, 8, 16))
        settings = (ACTIVATION, NORM, True, dropout)
        self.conv_0 = TwoConv(2, in_channels, widths[0], *settings)
        self.down_1 = Down(2, widths[0], widths[1], *settings)
        self.down_2 = Down(2, widths[1], widths[2], *settings)
        self.down_3 = Down(2, widths[2], widths[3], *settings)
        self.down_4 = Down(2, widths[3], widths[4], *settings)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return features (B, widths[i], H / 2**i, W / 2**i) for i = 0..4; odd sides are rounded down."""
        level_0 = self.conv_0(image)
        level_1 = self.down_1(level_0)
        level_2 = self.down_2(level_1)
        level_3 = self.down_3(level_2)
        return [level_0, level_1, level_2, level_3, self.down_4(level_3)]


class PretrainableEncoder(Encoder):
    """Base class of encoders with pretrained weights.

    The data pipelines normalize an image p in [0, 1] to (p - subtrahend) / divisor. :meth:`converted` changes this to
    (p - mean) / sd, the normalization that the weights expect. So the data pipeline is the same for every encoder.

    Args:
        channels: as for :class:`Encoder`.
        strides: as for :class:`Encoder`.
        mean: mean in the normalization that the weights expect, one value per channel.
        sd: standard deviation in it.
        subtrahend: value that the data pipeline subtracts, one per channel.
        divisor: value that it then divides by.
    """

    pretrainable = True

    def __init__(
        self,
        channels: Sequence[int],
        strides: Sequence[int],
        mean: Sequence[float],
        sd: Sequence[float],
        subtrahend: Sequence[float] = SUBTRAHEND,
        divisor: Sequence[float] = DIVISOR,
    ) -> None:
        super().__init__(len(mean), channels, strides)
        factor = [old / new for old, new in zip(divisor, sd, strict=True)]
        offset = [(old - new) / scale for old, new, scale in zip(subtrahend, mean, sd, strict=True)]
        # Not persistent: they are set by the arguments and are not part of the weights.
        self.register_buffer("factor", torch.tensor(factor).reshape(1, -1, 1, 1), persistent=False)
        self.register_buffer("offset", torch.tensor(offset).reshape(1, -1, 1, 1), persistent=False)

    def converted(self, image: Tensor) -> Tensor:
        """Return images (B, C, H, W) in the normalization that the weights expect."""
        return image * self.factor + self.offset  # type: ignore[operator]


def create_encoders(
    count: int, encoder: Encoder | None, in_channels: int, widths: Sequence[int], dropout: float
) -> list[Encoder]:
    """Return several encoders of the same kind with separate weights.

    Args:
        count: number of encoders.
        encoder: the first encoder; the others are copies, so pretrained ones start equal. ``None`` creates
            :class:`UNetEncoder`, each with its own random weights.
        in_channels: channels of the image.
        widths: channels of the five levels of a :class:`UNetEncoder`.
        dropout: probability of dropout in a :class:`UNetEncoder`.

    Raises:
        ValueError: if the encoder has another number of input channels.
    """
    if encoder is None:
        return [UNetEncoder(in_channels, widths, dropout) for _ in range(count)]
    if encoder.in_channels != in_channels:
        raise ValueError(
            f"{type(encoder).__name__} needs images of {encoder.in_channels} channels, but network_def#in_channels is "
            f"{in_channels}; set both to the same number"
        )
    return [encoder, *(copy.deepcopy(encoder) for _ in range(count - 1))]


def initialize_convolutions(module: nn.Module) -> None:
    """Initialize all convolutions in ``module`` as in He et al. (2015, arXiv 1502.01852; fan-in, ReLU).

    Linear layers keep torch's smaller initial weights, so that gates start with nearly equal weights for all experts.
    Encoders that can be pretrained keep their weights.
    """
    pretrainable = {
        part
        for encoder in module.modules()
        if isinstance(encoder, Encoder) and encoder.pretrainable
        for part in encoder.modules()
    }
    for part in module.modules():
        if isinstance(part, nn.Conv2d) and part not in pretrainable:
            nn.init.kaiming_normal_(part.weight, mode="fan_in", nonlinearity="relu")
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def without_pretrained(definition: Any) -> Any:
    """Return a copy of a network definition that loads no pretrained weights.

    For networks that load a trained ``model.pt`` next, so that no package of pretrained weights is needed.

    Args:
        definition: nested dictionaries and lists with ``_target_``, as in a config.
    """
    if isinstance(definition, Mapping):
        return {key: False if key == PRETRAINED else without_pretrained(value) for key, value in definition.items()}
    return [without_pretrained(value) for value in definition] if isinstance(definition, list) else definition
