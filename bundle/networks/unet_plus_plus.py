"""U-Net++: a U-Net with nested skip connections."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.nets import BasicUNetPlusPlus
from torch import Tensor, nn

from bundle.networks.encoders import ACTIVATION, NORM, Encoder, initialize_convolutions
from bundle.networks.outputs import PRED, NamedOutputs
from bundle.types import Heads


class UNetPlusPlus(NamedOutputs):
    """MONAI's 2D U-Net++ with one head, ``seg`` (Zhou et al. 2018, arXiv 1807.10165).

    Differs from the paper: no deep supervision. Normalization, activation and initialization are those of
    :class:`bundle.networks.UNet`, so that only the architectures differ.

    Args:
        in_channels: channels of the image.
        out_channels: number of classes, including the background.
        widths: channels of all nodes of the five levels, at strides 1, 2, 4, 8 and 16. The last node, MONAI's sixth
            width, has the first width.
        dropout: probability of dropout after each convolution.
        outputs: as for :class:`NamedOutputs`.
        encoder: must be ``None``: the encoder is part of the nested levels.
        output_stride: must be 1.

    Raises:
        ValueError: if there are not five widths, or ``encoder`` or ``output_stride`` is set.
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
            raise ValueError(f"a U-Net++ needs five levels, got widths {tuple(widths)}")
        if encoder is not None or output_stride != 1:
            raise ValueError(
                "U-Net++ cannot use another encoder or output stride; use no encoder overlay "
                "but configs/encoders/unet.yaml, or choose another network"
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
        # Heads for deep supervision: MONAI runs them even if their outputs are not used.
        self.nested.final_conv_0_1 = self.nested.final_conv_0_2 = self.nested.final_conv_0_3 = nn.Identity()
        initialize_convolutions(self)

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits (B, out_channels, H, W).

        Args:
            image: (B, in_channels, H, W), H and W at least 16 px; they may be odd.
        """
        return self.nested(image)[0]

    @torch.jit.export
    def heads(self, image: Tensor) -> Heads:
        """Return ``{"seg": logits}``."""
        return {"seg": self.nested(image)[0]}
