"""What an encoder is, the plain one of a U-Net, and how a network comes by its encoders."""

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
"""Argument of encoders that says whether they load weights when they are made."""
SUBTRAHEND = (0.788, 0.512, 0.785)
DIVISOR = (0.168, 0.248, 0.132)
"""Both as in ``normalization`` of the configs."""


class Encoder(nn.Module):
    """The contracting half of a network: feature maps of an image, each half as large as the one before.

    Args:
        in_channels: channels of the image.
        channels: channels of the features, the finest first.
        strides: pixels of the image that a step in each of them takes, powers of two, each twice the one before.

    Attributes:
        pretrainable: whether its weights may come from elsewhere. Such an encoder draws or loads its weights itself,
            and ``NamedOutputs.encoder_parameters`` has its parameters.

    Raises:
        ValueError: for other strides.
    """

    pretrainable = False

    def __init__(self, in_channels: int, channels: Sequence[int], strides: Sequence[int]) -> None:
        super().__init__()
        doubled = all(after == 2 * before for before, after in pairwise(strides))
        if not strides or strides[0] < 1 or strides[0] & (strides[0] - 1) or not doubled:
            raise ValueError(
                f"features of strides {list(strides)} do not fit a U-Net, which takes powers of two, each twice the "
                "one before; take another encoder"
            )
        self.in_channels = in_channels
        self.channels = list(channels)
        self.strides = list(strides)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Features (B, channels[i], H // strides[i], W // strides[i]) of images (B, in_channels, H, W)."""
        raise NotImplementedError


class UNetEncoder(Encoder):
    """The contracting half of a U-Net (Ronneberger et al. 2015, arXiv 1505.04597) with batch normalization.

    Args:
        in_channels: channels of the image.
        widths: channels of the five levels, from full resolution down to one sixteenth.
        dropout: probability of dropout after each convolution; MONAI Label's epistemic scoring turns it on.
    """

    def __init__(
        self, in_channels: int = 3, widths: Sequence[int] = (16, 32, 64, 128, 256), dropout: float = 0.0
    ) -> None:
        if len(widths) != 5:
            raise ValueError(f"a U-Net here has five levels, got widths {tuple(widths)}")
        super().__init__(in_channels, widths, (1, 2, 4, 8, 16))
        rest = (ACTIVATION, NORM, True, dropout)
        self.conv_0 = TwoConv(2, in_channels, widths[0], *rest)
        self.down_1 = Down(2, widths[0], widths[1], *rest)
        self.down_2 = Down(2, widths[1], widths[2], *rest)
        self.down_3 = Down(2, widths[2], widths[3], *rest)
        self.down_4 = Down(2, widths[3], widths[4], *rest)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Features of all levels: (B, widths[i], H / 2**i, W / 2**i) for i = 0..4; odd sides are rounded down."""
        level_0 = self.conv_0(image)
        level_1 = self.down_1(level_0)
        level_2 = self.down_2(level_1)
        level_3 = self.down_3(level_2)
        return [level_0, level_1, level_2, level_3, self.down_4(level_3)]


class PretrainableEncoder(Encoder):
    """An encoder that can start from published weights, and takes images as all networks here do.

    The images of all data pipelines are (p - subtrahend) / divisor of p in [0, 1]. :meth:`converted` makes of them
    (p - mean) / sd, which the weights expect. So another encoder changes nothing before the network.

    Args:
        channels: as for :class:`Encoder`.
        strides: as for :class:`Encoder`.
        mean: what the weights expect to be subtracted from each channel of p.
        sd: what they expect it to be divided by.
        subtrahend: what was subtracted from each channel of p.
        divisor: what it was divided by.
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
        factor = [own / expected for own, expected in zip(divisor, sd, strict=True)]
        offset = [(own - other) / expected for own, other, expected in zip(subtrahend, mean, sd, strict=True)]
        # arguments say what they are: they are no part of the weights
        self.register_buffer("factor", torch.tensor(factor).reshape(1, -1, 1, 1), persistent=False)
        self.register_buffer("offset", torch.tensor(offset).reshape(1, -1, 1, 1), persistent=False)

    def converted(self, image: Tensor) -> Tensor:
        """Images (B, C, H, W) as the weights expect them."""
        return image * self.factor + self.offset  # type: ignore[operator]


def encoders_for(
    count: int, encoder: Encoder | None, in_channels: int, widths: Sequence[int], dropout: float
) -> list[Encoder]:
    """Encoders of one kind, each with weights of its own.

    Args:
        count: how many.
        encoder: the first of them; the others are copies, so pretrained ones start equal. ``None`` makes plain ones,
            each drawn anew.
        in_channels: channels of the image.
        widths: channels of the five levels of plain encoders.
        dropout: probability of dropout in plain encoders.

    Raises:
        ValueError: where the encoder takes images of other channels.
    """
    if encoder is None:
        return [UNetEncoder(in_channels, widths, dropout) for _ in range(count)]
    if encoder.in_channels != in_channels:
        raise ValueError(
            f"{type(encoder).__name__} takes images of {encoder.in_channels} channels, and network_def#in_channels is "
            f"{in_channels}; make them the same"
        )
    return [encoder, *(copy.deepcopy(encoder) for _ in range(count - 1))]


def kaiming_initialized(module: nn.Module) -> None:
    """Draw the weights of all convolutions below ``module`` as He et al. do (2015, arXiv 1502.01852; fan-in, ReLU).

    Linear layers keep the smaller weights that torch draws: so gates start near equal shares, and starve no expert.
    Encoders that can be pretrained keep theirs.
    """
    kept = {
        part
        for encoder in module.modules()
        if isinstance(encoder, Encoder) and encoder.pretrainable
        for part in encoder.modules()
    }
    for part in module.modules():
        if isinstance(part, nn.Conv2d) and part not in kept:
            nn.init.kaiming_normal_(part.weight, mode="fan_in", nonlinearity="relu")
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def without_pretrained(definition: Any) -> Any:
    """The definition of a network as a config has it, changed so that making it loads no weights.

    For a network that loads a trained ``model.pt`` next: it needs no package of pretrained weights.

    Args:
        definition: dictionaries and lists with ``_target_``, one in the other; it is not changed.
    """
    if isinstance(definition, Mapping):
        return {key: False if key == PRETRAINED else without_pretrained(value) for key, value in definition.items()}
    return [without_pretrained(value) for value in definition] if isinstance(definition, list) else definition
