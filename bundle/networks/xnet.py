"""XNet: one branch for the low, one for the high frequencies of an image, joined in the middle."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.blocks import Convolution
from torch import Tensor, nn
from torch.nn import functional

from bundle.networks.encoders import ACTIVATION, NORM, Encoder, encoders_for, kaiming_initialized
from bundle.networks.outputs import PRED, NamedOutputs
from bundle.networks.unet import UNetDecoder
from bundle.types import Heads

EXCHANGED = 2
"""Deepest levels of the encoders, at which the branches see each other's features: the fourth and fifth of a U-Net."""


def low_frequencies(image: Tensor) -> Tensor:
    """The image (B, C, H, W) from its approximation alone, one level of the Haar wavelet, at full size.

    With the details set to 0 the inverse transform gives each pixel the mean of its 2 x 2 block, counted from the
    upper left corner. Odd sides are continued by repeating the last row or column, so the last block is narrower.
    """
    mean = functional.avg_pool2d(image, kernel_size=2, stride=2, ceil_mode=True)
    full = functional.interpolate(mean, scale_factor=2.0, mode="nearest")
    return full[:, :, : image.shape[2], : image.shape[3]]


class Exchange(nn.Module):
    """What one branch makes of its deep features and of the other branch's: side by side, then a 1x1 convolution.

    Args:
        channels: channels of the levels of the encoders.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.joins = nn.ModuleList(
            [
                Convolution(2, 2 * width, width, kernel_size=1, act=ACTIVATION, norm=NORM)
                for width in channels[-EXCHANGED:]
            ]
        )

    def forward(self, own: list[Tensor], other: list[Tensor]) -> list[Tensor]:
        """The branch's levels, as its encoder gave them, the last two with the other's in them."""
        levels = own[: len(own) - len(self.joins)]
        for index, join in enumerate(self.joins):
            level = len(own) - len(self.joins) + index
            levels.append(join(torch.cat([own[level], other[level]], dim=1)))
        return levels


class XNet(NamedOutputs):
    """Two U-Nets, one for low and one for high frequencies, whose encoders exchange levels 4 and 5 (Zhou et al. 2023).

    XNet: Wavelet-Based Low and High Frequency Fusion Networks, ICCV 2023. The image is split on line, so the network
    takes one image as any other: low = inverse Haar transform of the approximation alone, high = image - low, both at
    full size; they add up to the image.

    The branch for low frequencies answers (``seg``); that takes both encoders and one decoder.

    Differs from the paper: Haar (there the wavelet is chosen for each data set), color in both branches (in the
    authors' code the high frequencies are gray), plain U-Net blocks, and features exchanged at their own scale (there
    also between the fourth level and the fifth). In the authors' code the branch that validates better is reported;
    here it is chosen beforehand, so that this method too has one answer.

    Args:
        in_channels: channels of the image.
        out_channels: number of classes, background counted.
        widths: channels of the five levels of each branch.
        dropout: probability of dropout after each convolution.
        outputs: as for :class:`NamedOutputs`.
        encoder: as for :class:`UNet`, that of the low branch; the high branch has a copy, which sees the high
            frequencies as details around the mean color that the pipeline subtracted.
        output_stride: as for :class:`UNet`.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 2,
        widths: Sequence[int] = (16, 32, 64, 128, 256),
        dropout: float = 0.0,
        outputs: str = PRED,
        encoder: Encoder | None = None,
        output_stride: int = 1,
    ) -> None:
        super().__init__(outputs)
        self.low_encoder, self.high_encoder = encoders_for(2, encoder, in_channels, widths, dropout)
        self.low_exchange = Exchange(self.low_encoder.channels)
        self.high_exchange = Exchange(self.low_encoder.channels)
        self.low_decoder = UNetDecoder(widths, dropout, self.low_encoder, output_stride)
        self.high_decoder = UNetDecoder(widths, dropout, self.low_encoder, output_stride)
        self.low_head = nn.Conv2d(self.low_decoder.channels, out_channels, kernel_size=1)
        self.high_head = nn.Conv2d(self.low_decoder.channels, out_channels, kernel_size=1)
        kaiming_initialized(self)

    def _encoded(self, image: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Levels of both encoders, before the exchange."""
        low = low_frequencies(image)
        return self.low_encoder(low), self.high_encoder(image - low)

    def _low(self, low: list[Tensor], high: list[Tensor], image: Tensor) -> Tensor:
        return self.low_decoder.full_size(self.low_head(self.low_decoder(self.low_exchange(low, high))), image)

    def forward(self, image: Tensor) -> Tensor:
        """Logits of the low branch (B, out_channels, H, W) of images (B, in_channels, H, W), sides >= 16 px."""
        low, high = self._encoded(image)
        return self._low(low, high, image)

    @torch.jit.export
    def heads(self, image: Tensor) -> Heads:
        """Both answers: ``seg`` (low frequencies) and ``peer`` (high), logits (B, out_channels, H, W) each."""
        low, high = self._encoded(image)
        peer = self.high_head(self.high_decoder(self.high_exchange(high, low)))
        return {"seg": self._low(low, high, image), "peer": self.high_decoder.full_size(peer, image)}
