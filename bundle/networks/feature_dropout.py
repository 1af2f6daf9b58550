"""A U-Net with a second output from features with dropped channels, and two kinds of channel dropout."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from bundle.networks.encoders import Encoder, create_encoders, initialize_convolutions
from bundle.networks.outputs import PRED, NamedOutputs
from bundle.networks.unet import UNetDecoder
from bundle.types import Heads


class FeatureDropout(nn.Module):
    """Channel dropout on the features of all levels: the feature perturbation of UniMatch.

    Yang et al. 2023, arXiv 2208.09910. The remaining channels are divided by 1 - rate.

    Args:
        rate: probability that a channel of an image is dropped.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        """Return the features (B, C, H, W) of each level with some channels set to 0."""
        dropped: list[Tensor] = []
        for level in levels:
            dropped.append(functional.dropout2d(level, self.rate, training=True))
        return dropped


class ComplementaryDropout(nn.Module):
    """Complementary dropout of UniMatch V2: an image loses half of its channels, its partner the other half.

    Yang et al. 2025, arXiv 2410.10777. Images i and i + B/2 show the same tissue in two strong views. The first gets a
    mask m of zeros and twos, drawn for each channel, the second gets 2 - m. So each channel is seen by exactly one of
    the two. Some pairs are left unchanged.

    Differs from the paper: each level of the U-Net has its own mask, because the levels have different channels. Each
    pair is left unchanged with a probability; the authors' code leaves that share of the pairs, rounded down.

    Args:
        kept: probability that a pair is left unchanged.
    """

    def __init__(self, kept: float) -> None:
        super().__init__()
        self.kept = kept

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        """Return the features (B, C, H, W) of each level, about half of the channels set to 0, the rest doubled.

        If the number of images is odd, the middle one has no partner.
        """
        images = levels[0].shape[0]
        pairs = (images + 1) // 2
        unchanged = torch.rand([pairs, 1, 1, 1], device=levels[0].device) < self.kept
        dropped: list[Tensor] = []
        for level in levels:
            mask = 2.0 * (torch.rand([pairs, level.shape[1], 1, 1], device=level.device) < 0.5).to(level.dtype)
            mask = mask.masked_fill(unchanged, 1.0)
            dropped.append(level * torch.cat([mask, 2.0 - mask])[:images])
        return dropped


class DroppedUNet(NamedOutputs):
    """U-Net with two heads that share all weights: ``seg``, and ``dropped`` from features with dropped channels.

    The decoder gets both kinds of features in one pass, as in the code of UniMatch (Yang et al. 2023, arXiv
    2208.09910). So the statistics of batch normalization come from both. In evaluation mode nothing is dropped, and
    ``dropped`` equals ``seg``.

    Args:
        dropout: channel dropout, list of features -> list of features; used only in training mode.
        in_channels: channels of the image.
        out_channels: number of classes, including the background.
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
        (self.encoder,) = create_encoders(1, encoder, in_channels, widths, 0.0)
        self.decoder = UNetDecoder(widths, 0.0, self.encoder, output_stride)
        self.dropout = dropout
        self.head = nn.Conv2d(self.decoder.channels, out_channels, kernel_size=1)
        initialize_convolutions(self)

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits (B, out_channels, H, W) without dropped channels.

        Args:
            image: (B, in_channels, H, W), H and W at least 16 px.
        """
        return self.decoder.full_size(self.head(self.decoder(self.encoder(image))), image)

    @torch.jit.export
    def heads(self, image: Tensor) -> Heads:
        """Return the logits (B, out_channels, H, W) of ``seg`` and ``dropped``."""
        levels = self.encoder(image)
        if not self.training:
            logits = self.decoder.full_size(self.head(self.decoder(levels)), image)
            return {"seg": logits, "dropped": logits}
        both: list[Tensor] = []
        for level, dropped in zip(levels, self.dropout(levels)):  # noqa: B905 (TorchScript)
            both.append(torch.cat([level, dropped]))
        seg, dropped = self.decoder.full_size(self.head(self.decoder(both)), image).chunk(2)
        return {"seg": seg, "dropped": dropped}
