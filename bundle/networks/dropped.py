"""A U-Net that also answers from features of which some channels were dropped, and two ways of dropping them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from bundle.networks.encoders import Encoder, encoders_for, kaiming_initialized
from bundle.networks.outputs import PRED, NamedOutputs
from bundle.networks.unet import UNetDecoder
from bundle.types import Heads


class FeatureDropout(nn.Module):
    """Drops whole channels of all levels, each with the same probability: the feature perturbation of UniMatch.

    Yang et al. 2023, arXiv 2208.09910. What is left is divided by 1 - rate.

    Args:
        rate: probability that a channel of an image is dropped.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        """Features (B, C, H, W) of each level without some of their channels."""
        dropped: list[Tensor] = []
        for level in levels:
            dropped.append(functional.dropout2d(level, self.rate, training=True))
        return dropped


class ComplementaryDropout(nn.Module):
    """Drops half of the channels of an image, and the other half of them in its partner: that of UniMatch V2.

    Yang et al. 2025, arXiv 2410.10777. The first half of a batch gets a mask m of zeros and twos, drawn for each
    channel, the second half 2 - m: image i and image i + B/2, which show the same tissue in two strong views. So no
    channel is known to both, and both together know all. Some pairs are left whole.

    Differs from the paper: each level of the U-Net has a mask of its own, as their channels are different ones; pairs
    are left whole each with a probability, where its code takes that share of them, rounded down.

    Args:
        kept: probability that a pair is left whole.
    """

    def __init__(self, kept: float) -> None:
        super().__init__()
        self.kept = kept

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        """Features (B, C, H, W) of each level, about half of the channels at 0 and the rest doubled.

        Of an odd number of images the middle one has no partner.
        """
        images = levels[0].shape[0]
        pairs = (images + 1) // 2
        whole = torch.rand([pairs, 1, 1, 1], device=levels[0].device) < self.kept
        dropped: list[Tensor] = []
        for level in levels:
            mask = 2.0 * (torch.rand([pairs, level.shape[1], 1, 1], device=level.device) < 0.5).to(level.dtype)
            mask = mask.masked_fill(whole, 1.0)
            dropped.append(level * torch.cat([mask, 2.0 - mask])[:images])
        return dropped


class DroppedUNet(NamedOutputs):
    """A U-Net with two heads that share all weights: ``seg``, and ``dropped`` from features without some channels.

    The decoder sees both kinds of features in one pass, as in the code of UniMatch (Yang et al. 2023, arXiv
    2208.09910). So batch normalization takes its statistics from both, in training as later in evaluation. Nothing is
    dropped in evaluation: then ``dropped`` is ``seg``.

    Args:
        dropout: drops channels of all levels, list of features -> list of features; active in training mode alone.
        in_channels: channels of the image.
        out_channels: number of classes, background counted.
        widths: channels of the five levels.
        outputs: as for :class:`NamedOutputs`.
        encoder: as for :class:`UNet`.
        output_stride: as for :class:`UNet`.
    """

    def __init__(
        self,
        dropout: nn.Module,
        in_channels: int = 3,
        out_channels: int = 2,
        widths: Sequence[int] = (16, 32, 64, 128, 256),
        outputs: str = PRED,
        encoder: Encoder | None = None,
        output_stride: int = 1,
    ) -> None:
        super().__init__(outputs)
        (self.encoder,) = encoders_for(1, encoder, in_channels, widths, 0.0)
        self.decoder = UNetDecoder(widths, 0.0, self.encoder, output_stride)
        self.dropout = dropout
        self.head = nn.Conv2d(self.decoder.channels, out_channels, kernel_size=1)
        kaiming_initialized(self)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, out_channels, H, W) of images (B, in_channels, H, W), sides >= 16 px; nothing is dropped."""
        return self.decoder.full_size(self.head(self.decoder(self.encoder(image))), image)

    @torch.jit.export
    def heads(self, image: Tensor) -> Heads:
        """``seg`` and ``dropped``: logits (B, out_channels, H, W) each."""
        levels = self.encoder(image)
        if not self.training:
            answer = self.decoder.full_size(self.head(self.decoder(levels)), image)
            return {"seg": answer, "dropped": answer}
        both: list[Tensor] = []
        for level, dropped in zip(levels, self.dropout(levels)):  # noqa: B905 (TorchScript)
            both.append(torch.cat([level, dropped]))
        seg, dropped = self.decoder.full_size(self.head(self.decoder(both)), image).chunk(2)
        return {"seg": seg, "dropped": dropped}
