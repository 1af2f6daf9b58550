"""U-Net in two halves, so that experts can share an encoder and auxiliary decoders can join it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.blocks import Convolution, UpSample
from monai.networks.nets.basic_unet import TwoConv, UpCat
from torch import Tensor, nn
from torch.nn import functional

from bundle.networks.encoders import ACTIVATION, NORM, Encoder, encoders_for, kaiming_initialized
from bundle.networks.outputs import PRED, NamedOutputs
from bundle.types import Heads


class UNetDecoder(nn.Sequential):
    """The expanding half of a U-Net: nearest x2 upsampling, 3x3 convolution, concatenation, two convolutions.

    Where the encoder has no features of a resolution, nothing is concatenated.

    Args:
        widths: channels of the features at strides 1, 2, 4, 8 and 16, as far as the decoder makes them.
        dropout: probability of dropout after each convolution.
        encoder: whose features are read; ``None`` for a plain one with the same widths.
        output_stride: stride of the finest features that are made, 1 or 2. With 2 the answer is brought up to the size
            of the image, which saves the costliest level.

    Attributes:
        channels: channels of the finest features.
        finest: index of their stride, 0 or 1.

    Raises:
        ValueError: for another number of widths or output stride, or an encoder with features of a larger stride.
    """

    def __init__(
        self,
        widths: Sequence[int] = (16, 32, 64, 128, 256),
        dropout: float = 0.0,
        encoder: Encoder | None = None,
        output_stride: int = 1,
    ) -> None:
        super().__init__()
        channels, strides = (widths, (1, 2, 4, 8, 16)) if encoder is None else (encoder.channels, encoder.strides)
        deepest = strides[-1].bit_length() - 1
        if len(widths) != 5:
            raise ValueError(f"a U-Net here has five levels, got widths {tuple(widths)}")
        if output_stride not in (1, 2):
            raise ValueError(f"output_stride is {output_stride}; choose 1, or 2 for an answer that is brought up")
        if not 1 < deepest <= len(widths):
            raise ValueError(f"the encoder's coarsest features have stride {strides[-1]}; 4 to 32 fit the five widths")
        self.finest = output_stride - 1
        self.channels = widths[self.finest]
        self.complete = output_stride == strides[0] == 1
        side = dict(zip(strides, channels, strict=True))
        below = channels[-1]
        for level in range(deepest - 1, self.finest - 1, -1):
            self.add_module(f"up_{level + 1}", self._up(below, side.get(2**level, 0), widths[level], dropout))
            below = widths[level]

    @staticmethod
    def _up(below: int, side: int, width: int, dropout: float) -> UpCat:
        block = UpCat(2, below, side, width, ACTIVATION, NORM, True, dropout, halves=True)
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
        block.convs = TwoConv(2, side + width, width, ACTIVATION, NORM, True, dropout)
        return block

    def forward(self, levels: list[Tensor]) -> Tensor:
        """The finest features (B, widths[finest], H, W); half that size with output stride 2."""
        return self.scales(levels)[0]

    def scales(self, levels: list[Tensor]) -> list[Tensor]:
        """Features of all scales, the finest first: (B, widths[i], H / 2**i, W / 2**i) for i = finest, finest + 1, ...

        Args:
            levels: what the encoder gave, the finest first.
        """
        found: list[Tensor] = []
        features = levels[-1]
        for index, block in enumerate(self):
            place = len(levels) - 2 - index
            features = block(features, levels[place]) if place >= 0 else block(features, None)
            found.insert(0, features)
        return found

    def full_size(self, answer: Tensor, image: Tensor) -> Tensor:
        """What a head made of the finest features, (B, C, h, w), at the size of the image (B, in_channels, H, W).

        Bilinear, of one size nothing changes. Where the encoder reads the full resolution it is that of the image.
        """
        if self.complete:
            return answer
        return functional.interpolate(answer, size=[image.shape[2], image.shape[3]], mode="bilinear")


class UNet(NamedOutputs):
    """A U-Net with one head, ``seg``; with widths 64..1024 and three channels it has 34,527,106 parameters.

    Args:
        in_channels: channels of the image.
        out_channels: number of classes, background counted.
        widths: channels of the five levels, at strides 1, 2, 4, 8 and 16: of the plain encoder, and of the decoder.
        dropout: probability of dropout after each convolution.
        outputs: as for :class:`NamedOutputs`.
        encoder: any :class:`Encoder`; ``None`` is the plain one.
        output_stride: as for :class:`UNetDecoder`.
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
        (self.encoder,) = encoders_for(1, encoder, in_channels, widths, dropout)
        self.decoder = UNetDecoder(widths, dropout, self.encoder, output_stride)
        self.head = nn.Conv2d(self.decoder.channels, out_channels, kernel_size=1)
        kaiming_initialized(self)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, out_channels, H, W) of images (B, in_channels, H, W).

        Sides are at least the encoder's largest stride, 16 px for the plain one.
        """
        return self.decoder.full_size(self.head(self.decoder(self.encoder(image))), image)

    @torch.jit.export
    def heads(self, image: Tensor) -> Heads:
        """The same answer by name: ``{"seg": logits}``."""
        return {"seg": self.decoder.full_size(self.head(self.decoder(self.encoder(image))), image)}
