"""U-Net++: a U-Net whose skip connections are U-Nets themselves."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.nets import BasicUNetPlusPlus
from torch import Tensor, nn

from bundle.networks.encoders import ACTIVATION, NORM, Encoder, kaiming_initialized
from bundle.networks.outputs import PRED, NamedOutputs
from bundle.types import Heads


class UNetPlusPlus(NamedOutputs):
    """MONAI's U-Net++ in two dimensions with one head, ``seg`` (Zhou et al. 2018, arXiv 1807.10165).

    Differs from the paper: without deep supervision. Normalization, activation and first weights are those of
    :class:`bundle.networks.UNet`, so that a comparison of the two is one of their shapes.

    Args:
        in_channels: channels of the image.
        out_channels: number of classes, background counted.
        widths: channels of the five levels, from full resolution down to one sixteenth. All nodes of a level have
            its width, and so has the last one, MONAI's sixth number.
        dropout: probability of dropout after each convolution.
        outputs: as for :class:`NamedOutputs`.
        encoder: ``None`` alone: its own levels are its encoder.
        output_stride: 1 alone.

    Raises:
        ValueError: for another number of levels, or an encoder or output stride.
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
        if len(widths) != 5:
            raise ValueError(f"a U-Net++ here has five levels, got widths {tuple(widths)}")
        if encoder is not None or output_stride != 1:
            raise ValueError(
                "U-Net++ has an encoder of its own, whose levels are nodes of the whole; leave network_def#encoder at "
                "null (configs/encoders/unet.yaml) and network_def#output_stride at 1, or take another network"
            )
        self.nested = BasicUNetPlusPlus(
            spatial_dims=2,
            in_channels=in_channels,
            out_channels=out_channels,
            features=(*widths, widths[0]),
            deep_supervision=False,
            act=ACTIVATION,
            norm=NORM,
            dropout=dropout,
        )
        # the heads of the shallower nodes are for deep supervision: MONAI asks them even where it drops the answers
        self.nested.final_conv_0_1 = self.nested.final_conv_0_2 = self.nested.final_conv_0_3 = nn.Identity()
        kaiming_initialized(self)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, out_channels, H, W) of images (B, in_channels, H, W); sides of at least 16 px, also odd ones."""
        return self.nested(image)[0]

    @torch.jit.export
    def heads(self, image: Tensor) -> Heads:
        """The same answer by name: ``{"seg": logits}``."""
        return {"seg": self.nested(image)[0]}
