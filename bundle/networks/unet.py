"""U-Net in two halves, so that experts can share an encoder and auxiliary decoders can join it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.blocks import Convolution, UpSample
from monai.networks.nets.basic_unet import Down, TwoConv, UpCat
from torch import Tensor, nn

from bundle.networks.outputs import PRED, NamedOutputs
from bundle.types import Heads

ACTIVATION = ("relu", {"inplace": True})
NORM = "batch"


def kaiming_initialised(module: nn.Module) -> None:
    """Draw the weights of all convolutions below ``module`` as He et al. do (2015, arXiv 1502.01852; fan-in, ReLU).

    Linear layers keep the smaller weights that torch draws: so gates start near equal shares, and starve no expert.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_in", nonlinearity="relu")
            if part.bias is not None:
                nn.init.zeros_(part.bias)


class UNetEncoder(nn.Module):
    """The contracting half of a U-Net (Ronneberger et al. 2015, arXiv 1505.04597) with batch normalisation.

    Args:
        in_channels: channels of the image.
        widths: channels of the five levels, from full resolution down to one sixteenth.
        dropout: probability of dropout after each convolution; MONAI Label's epistemic scoring turns it on.
    """

    def __init__(
        self, in_channels: int = 3, widths: Sequence[int] = (16, 32, 64, 128, 256), dropout: float = 0.0
    ) -> None:
        super().__init__()
        if len(widths) != 5:
            raise ValueError(f"a U-Net here has five levels, got widths {tuple(widths)}")
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


class UNetDecoder(nn.Module):
    """The expanding half of a U-Net: nearest x2 upsampling, 3x3 convolution, concatenation, two convolutions.

    Args:
        widths: as for the encoder.
        dropout: as for the encoder.
    """

    def __init__(self, widths: Sequence[int] = (16, 32, 64, 128, 256), dropout: float = 0.0) -> None:
        super().__init__()
        self.up_4 = self._up(widths[4], widths[3], dropout)
        self.up_3 = self._up(widths[3], widths[2], dropout)
        self.up_2 = self._up(widths[2], widths[1], dropout)
        self.up_1 = self._up(widths[1], widths[0], dropout)

    @staticmethod
    def _up(below: int, width: int, dropout: float) -> UpCat:
        block = UpCat(2, below, width, width, ACTIVATION, NORM, True, dropout, halves=True)
        convolution = Convolution(2, below, width, kernel_size=3, act=ACTIVATION, norm=NORM, bias=True)
        block.upsample = UpSample(
            2,
            below,
            below,
            2,
            mode="nontrainable",
            pre_conv=None,
            interp_mode="nearest",
            align_corners=None,
            post_conv=convolution,
        )
        block.convs = TwoConv(2, 2 * width, width, ACTIVATION, NORM, True, dropout)
        return block

    def forward(self, levels: list[Tensor]) -> Tensor:
        """Features of the finest level (B, widths[0], H, W)."""
        return self.scales(levels)[0]

    def scales(self, levels: list[Tensor]) -> list[Tensor]:
        """Features of all scales, the finest first: (B, widths[i], H / 2**i, W / 2**i) for i = 0..3."""
        eighth = self.up_4(levels[4], levels[3])
        quarter = self.up_3(eighth, levels[2])
        half = self.up_2(quarter, levels[1])
        return [self.up_1(half, levels[0]), half, quarter, eighth]


class UNet(NamedOutputs):
    """A U-Net with one head, ``seg``; with widths 64..1024 and three channels it has 34,527,106 parameters.

    Args:
        in_channels: channels of the image.
        out_channels: number of classes, background counted.
        widths: channels of the five levels.
        dropout: probability of dropout after each convolution.
        outputs: as for :class:`NamedOutputs`.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 2,
        widths: Sequence[int] = (16, 32, 64, 128, 256),
        dropout: float = 0.0,
        outputs: str = PRED,
    ) -> None:
        super().__init__(outputs)
        self.encoder = UNetEncoder(in_channels, widths, dropout)
        self.decoder = UNetDecoder(widths, dropout)
        self.head = nn.Conv2d(widths[0], out_channels, kernel_size=1)
        kaiming_initialised(self)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, out_channels, H, W) of images (B, in_channels, H, W); sides of at least 16 px."""
        return self.head(self.decoder(self.encoder(image)))

    @torch.jit.export
    def heads(self, image: Tensor) -> Heads:
        """The same answer by name: ``{"seg": logits}``."""
        return {"seg": self.head(self.decoder(self.encoder(image)))}
