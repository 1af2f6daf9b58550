"""XNet: two U-Nets for the low and the high frequencies of an image, with fused encoder features."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.blocks import Convolution
from torch import Tensor, nn
from torch.nn import functional

from bundle.networks.encoders import ACTIVATION, NORM, Encoder, create_encoders, initialize_convolutions
from bundle.networks.outputs import PRED, NamedOutputs
from bundle.networks.unet import UNetDecoder
from bundle.types import Heads

EXCHANGED = 2
"""Number of deepest encoder levels with fused features: levels 4 and 5 of a U-Net."""


def low_frequencies(image: Tensor) -> Tensor:
    """Reconstruct an image (B, C, H, W) from its approximation in a one-level Haar transform, at full size.

    With the details set to 0, the inverse transform gives each pixel the mean of its 2 x 2 block, counted from the
    upper left corner. If a side is odd, the last block is one pixel wide.
    """
    mean = functional.avg_pool2d(image, kernel_size=2, stride=2, ceil_mode=True)
    full = functional.interpolate(mean, scale_factor=2.0, mode="nearest")
    return full[:, :, : image.shape[2], : image.shape[3]]


class Exchange(nn.Module):
    """Fuse the deep features of both branches for one branch: concatenation, then a 1x1 convolution.

    Args:
        channels: channels of the encoder levels.
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
        """Return the features of this branch; the last two levels are fused with those of the other branch."""
        levels = own[: len(own) - len(self.joins)]
        for index, join in enumerate(self.joins):
            level = len(own) - len(self.joins) + index
            levels.append(join(torch.cat([own[level], other[level]], dim=1)))
        return levels


class XNet(NamedOutputs):
    """Two U-Nets for low and high frequencies, whose encoders exchange features at levels 4 and 5.

    XNet: Wavelet-Based Low and High Frequency Fusion Networks (Zhou et al., ICCV 2023). The network splits the image
    itself: low = inverse Haar transform of the approximation, high = image - low, both at full size.

    The low-frequency branch is the output (``seg``); it needs both encoders and one decoder.

    Differs from the paper: Haar (the paper chooses the wavelet for each data set), color in both branches (gray high
    frequencies in the authors' code), U-Net blocks, and features exchanged only within a level (the paper also
    exchanges them between levels 4 and 5). The authors' code reports the branch with the better validation score; here
    the output is always the low-frequency branch.

    Args:
        in_channels: channels of the image.
        out_channels: number of classes, including the background.
        widths: channels of the five levels of each branch.
        dropout: probability of dropout after each convolution.
        outputs: as for :class:`NamedOutputs`.
        encoder: as for :class:`UNet`; the high-frequency branch has a copy. Its input has mean 0, which is the mean
            color in the normalization of the pipeline.
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
        self.low_encoder, self.high_encoder = create_encoders(2, encoder, in_channels, widths, dropout)
        self.low_exchange = Exchange(self.low_encoder.channels)
        self.high_exchange = Exchange(self.low_encoder.channels)
        self.low_decoder = UNetDecoder(widths, dropout, self.low_encoder, output_stride)
        self.high_decoder = UNetDecoder(widths, dropout, self.low_encoder, output_stride)
        self.low_head = nn.Conv2d(self.low_decoder.channels, out_channels, kernel_size=1)
        self.high_head = nn.Conv2d(self.low_decoder.channels, out_channels, kernel_size=1)
        initialize_convolutions(self)

    def _encoded(self, image: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Return the features of both encoders, before the exchange."""
        low = low_frequencies(image)
        return self.low_encoder(low), self.high_encoder(image - low)

    def _low(self, low: list[Tensor], high: list[Tensor], image: Tensor) -> Tensor:
        return self.low_decoder.full_size(self.low_head(self.low_decoder(self.low_exchange(low, high))), image)

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits of the low-frequency branch (B, out_channels, H, W).

        Args:
            image: (B, in_channels, H, W), H and W at least 16 px.
        """
        low, high = self._encoded(image)
        return self._low(low, high, image)

    @torch.jit.export
    def heads(self, image: Tensor) -> Heads:
        """Return the logits (B, out_channels, H, W) of ``seg`` (low frequencies) and ``peer`` (high)."""
        low, high = self._encoded(image)
        peer = self.high_head(self.high_decoder(self.high_exchange(high, low)))
        return {"seg": self._low(low, high, image), "peer": self.high_decoder.full_size(peer, image)}
