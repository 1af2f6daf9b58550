"""U-Net with a separate encoder and decoder, so that networks can share an encoder or add decoders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.networks.blocks import Convolution
from monai.networks.nets.basic_unet import TwoConv, UpCat
from torch import Tensor, nn
from torch.nn import functional

from bundle.networks.encoders import ACTIVATION, NORM, Encoder, create_encoders, initialize_convolutions
from bundle.networks.outputs import PRED, NamedOutputs
from bundle.types import Heads

WIDEST_TRANSPOSED = 256
"""Largest number of input channels of a transposed convolution, see docs/performance.md."""


class UpsampledConvolution(nn.Module):
    """Nearest x2 upsampling, 3x3 convolution, normalization and activation, with less than half of the operations.

    Upsampling copies each pixel four times, so the 3x3 convolution after it is a transposed convolution of stride 2.
    Its 4x4 kernel is the sum of four shifted copies of the 3x3 kernel. That needs 16 multiplications for four pixels in
    place of 36, and no upsampled map in memory. Results are equal up to rounding. The parameters are those of MONAI's
    ``UpSample`` with a 3x3 ``Convolution``. On a CPU, transposed convolutions of many channels can be slow
    on small maps, so wide layers are computed as they are defined.

    Args:
        in_channels: channels of the features.
        out_channels: channels of the result.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        shared: dict[str, Any] = {"act": ACTIVATION, "norm": NORM, "bias": True}
        self.postconv: Any = Convolution(2, in_channels, out_channels, kernel_size=3, **shared)
        self.transposed = in_channels <= WIDEST_TRANSPOSED

    def forward(self, features: Tensor) -> Tensor:
        """Return features (B, out_channels, 2 H, 2 W) for features (B, in_channels, H, W)."""
        if not self.transposed or torch.jit.is_tracing():  # ONNX runtimes prefer the definition
            return self.postconv(functional.interpolate(features, scale_factor=2.0, mode="nearest"))
        weight = self.postconv.conv.weight.flip(2, 3).transpose(0, 1)
        kernel = functional.pad(weight, [0, 1, 0, 1]) + functional.pad(weight, [1, 0, 0, 1])
        kernel = kernel + functional.pad(weight, [0, 1, 1, 0]) + functional.pad(weight, [1, 0, 1, 0])
        output = functional.conv_transpose2d(features, kernel, self.postconv.conv.bias, stride=2, padding=1)
        return self.postconv.adn(output)


class UNetDecoder(nn.Sequential):
    """Decoder of a U-Net; each level: nearest x2 upsampling, 3x3 convolution, concatenation, two convolutions.

    A level without encoder features of its stride concatenates nothing.

    Args:
        widths: channels of the decoder's features at strides 1, 2, 4, 8 and 16.
        dropout: probability of dropout after each convolution.
        encoder: encoder whose features are decoded; ``None`` means :class:`UNetEncoder` with the same widths.
        output_stride: stride of the finest features, 1 or 2. With 2 the output is upsampled to the size of the image,
            which saves the most expensive level.

    Attributes:
        channels: channels of the finest features.
        finest: index of their stride, 0 or 1.

    Raises:
        ValueError: if there are not five widths, the output stride is not 1 or 2, or the encoder has too large strides.
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
            raise ValueError(f"a U-Net needs five levels, got widths {tuple(widths)}")
        if output_stride not in (1, 2):
            raise ValueError(f"output_stride is {output_stride}; choose 1, or 2 for an upsampled output")
        if not 1 < deepest <= len(widths):
            raise ValueError(f"the encoder's coarsest features have stride {strides[-1]}; the five widths need 4 to 32")
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
        block.upsample = UpsampledConvolution(below, width)  # type: ignore[assignment]
        block.convs = TwoConv(2, side + width, width, ACTIVATION, NORM, True, dropout)
        return block

    def forward(self, levels: list[Tensor]) -> Tensor:
        """Return the finest features (B, widths[finest], H, W); half that size with output stride 2."""
        return self.scales(levels)[0]

    def scales(self, levels: list[Tensor]) -> list[Tensor]:
        """Return the features of all scales, the finest first.

        Args:
            levels: features of the encoder, the finest first.

        Returns:
            (B, widths[i], H / 2**i, W / 2**i) for i = finest, finest + 1, ...
        """
        scales: list[Tensor] = []
        features = levels[-1]
        for index, block in enumerate(self):
            level = len(levels) - 2 - index
            features = block(features, levels[level]) if level >= 0 else block(features, None)
            scales.insert(0, features)
        return scales

    def full_size(self, output: Tensor, image: Tensor) -> Tensor:
        """Resize the output of a head to the size of the image (bilinear).

        Args:
            output: output of a head on the finest features, (B, C, h, w). It has the size of the image already if
                ``output_stride`` and the encoder's finest stride are 1.
            image: (B, in_channels, H, W).

        Returns:
            (B, C, H, W).
        """
        if self.complete:
            return output
        return functional.interpolate(output, size=[image.shape[2], image.shape[3]], mode="bilinear")


class UNet(NamedOutputs):
    """U-Net with one head, ``seg``; with widths 64..1024 and three channels it has 34,527,106 parameters.

    Args:
        in_channels: channels of the image.
        out_channels: number of classes, including the background.
        widths: channels of the decoder, and of the default encoder, at strides 1, 2, 4, 8 and 16.
        dropout: probability of dropout after each convolution.
        outputs: as for :class:`NamedOutputs`.
        encoder: any :class:`Encoder`; ``None`` means :class:`UNetEncoder`.
        output_stride: as for :class:`UNetDecoder`.

    Example::

        >>> network = UNet(out_channels=2, widths=(4, 8, 8, 8, 8))
        >>> network(torch.zeros(1, 3, 64, 48)).shape
        torch.Size([1, 2, 64, 48])
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
        (self.encoder,) = create_encoders(1, encoder, in_channels, widths, dropout)
        self.decoder = UNetDecoder(widths, dropout, self.encoder, output_stride)
        self.head = nn.Conv2d(self.decoder.channels, out_channels, kernel_size=1)
        initialize_convolutions(self)

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits (B, out_channels, H, W).

        Args:
            image: (B, in_channels, H, W), H and W at least the encoder's largest stride, 16 px by default.
        """
        return self.decoder.full_size(self.head(self.decoder(self.encoder(image))), image)

    @torch.jit.export
    def heads(self, image: Tensor) -> Heads:
        """Return ``{"seg": logits}``."""
        return {"seg": self.decoder.full_size(self.head(self.decoder(self.encoder(image))), image)}
