"""U-Nets with more answers than one: decoders on perturbed features (CCT), and a decoder that answers at each scale."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from bundle.networks.encoders import Encoder, encoders_for, kaiming_initialized
from bundle.networks.outputs import PRED, NamedOutputs
from bundle.networks.unet import UNetDecoder
from bundle.types import Heads


class FeatureNoise(nn.Module):
    """Features times 1 + n, n drawn evenly from [-amplitude, amplitude] for each value; in training alone.

    F-Noise of cross-consistency training (Ouali et al. 2020, arXiv 2003.09005), which draws once for all images.

    Args:
        amplitude: largest share by which a feature is changed.
    """

    def __init__(self, amplitude: float) -> None:
        super().__init__()
        self.amplitude = amplitude

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, C, H, W) with noise."""
        if not self.training:
            return features
        return features * (1.0 + self.amplitude * (2.0 * torch.rand_like(features) - 1.0))


class FeatureDrop(nn.Module):
    """Features with their most active places set to 0, in all channels; in training alone.

    F-Drop of cross-consistency training (Ouali et al. 2020, arXiv 2003.09005): places where the mean over channels
    reaches the share t of its largest value in the image. t is drawn evenly from [lowest, highest], here for each
    image, there once for all.

    Args:
        lowest: smallest t.
        highest: largest t.
    """

    def __init__(self, lowest: float, highest: float) -> None:
        super().__init__()
        self.lowest = lowest
        self.highest = highest

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, C, H, W) without the most active places, those with the largest mean magnitude.

        The magnitude is the feature itself where it comes from a ReLU; other encoders have negative ones too.
        """
        if not self.training:
            return features
        activity = features.abs().mean(dim=1, keepdim=True)
        share = torch.empty([features.shape[0], 1, 1, 1], device=features.device).uniform_(self.lowest, self.highest)
        return features * (activity < share * activity.amax(dim=[2, 3], keepdim=True)).to(features.dtype)


class AuxiliaryUNet(NamedOutputs):
    """One encoder, a main decoder, and a decoder for each perturbation of the features (Ouali et al. 2020, CCT).

    arXiv 2003.09005. ``seg`` answers; the decoders ``aux_1``, ``aux_2``, ... see perturbed features and learn to
    answer the same. Perturbations act in training mode alone.

    Differs from the paper: a U-Net, so the features of all five levels are perturbed (there the last ones of an
    encoder without skips; an undisturbed skip would tell the decoder what it is to find out).

    Args:
        perturbations: modules that take and give features (B, C, H, W), one an auxiliary decoder; at least one.
        in_channels: channels of the image.
        out_channels: number of classes, background counted.
        widths: channels of the five levels.
        dropout: probability of dropout after each convolution.
        outputs: as for :class:`NamedOutputs`.
        encoder: as for :class:`UNet`.
        output_stride: as for :class:`UNet`.

    Raises:
        ValueError: without a perturbation.
    """

    def __init__(
        self,
        perturbations: Sequence[nn.Module],
        in_channels: int = 3,
        out_channels: int = 2,
        widths: Sequence[int] = (16, 32, 64, 128, 256),
        dropout: float = 0.0,
        outputs: str = PRED,
        encoder: Encoder | None = None,
        output_stride: int = 1,
    ) -> None:
        super().__init__(outputs)
        if not perturbations:
            raise ValueError("cross-consistency needs at least one perturbation, with a decoder for each")
        (self.encoder,) = encoders_for(1, encoder, in_channels, widths, dropout)
        self.decoder = UNetDecoder(widths, dropout, self.encoder, output_stride)
        self.head = nn.Conv2d(self.decoder.channels, out_channels, kernel_size=1)
        self.perturbations = nn.ModuleList(perturbations)
        self.auxiliary_decoders = nn.ModuleList(
            [UNetDecoder(widths, dropout, self.encoder, output_stride) for _ in perturbations]
        )
        self.auxiliary_heads = nn.ModuleList([nn.Conv2d(self.head.in_channels, out_channels, 1) for _ in perturbations])
        kaiming_initialized(self)

    def forward(self, image: Tensor) -> Tensor:
        """Logits of the main decoder (B, out_channels, H, W) of images (B, in_channels, H, W), sides >= 16 px."""
        return self.decoder.full_size(self.head(self.decoder(self.encoder(image))), image)

    @torch.jit.export
    def heads(self, image: Tensor) -> Heads:
        """``seg`` (the main decoder), ``aux_1``, ``aux_2``, ... in the order of the perturbations; logits."""
        levels = self.encoder(image)
        answers = {"seg": self.decoder.full_size(self.head(self.decoder(levels)), image)}
        parts = zip(self.perturbations, self.auxiliary_decoders, self.auxiliary_heads)  # noqa: B905 (TorchScript)
        for index, (perturbation, decoder, head) in enumerate(parts):
            perturbed: list[Tensor] = []
            for level in levels:
                perturbed.append(perturbation(level))
            answers["aux_" + str(index + 1)] = self.decoder.full_size(head(decoder(perturbed)), image)
        return answers


class PyramidUNet(NamedOutputs):
    """A U-Net that answers at each of the four scales of its decoder (Luo et al. 2021, URPC, arXiv 2012.07042).

    ``seg`` is the answer at full size, which alone is evaluated; ``scale_2``, ``scale_4`` and ``scale_8`` come from
    features of a half, a quarter and an eighth of it, brought to full size (nearest neighbor, on logits).

    Args:
        in_channels: channels of the image.
        out_channels: number of classes, background counted.
        widths: channels of the five levels.
        dropout: probability of dropout after each convolution.
        outputs: as for :class:`NamedOutputs`.
        encoder: as for :class:`UNet`.
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
        (self.encoder,) = encoders_for(1, encoder, in_channels, widths, dropout)
        self.decoder = UNetDecoder(widths, dropout, self.encoder, output_stride)
        self.head = nn.Conv2d(self.decoder.channels, out_channels, kernel_size=1)
        self.scale_heads = nn.ModuleDict(
            {f"scale_{2**level}": nn.Conv2d(widths[level], out_channels, kernel_size=1) for level in (1, 2, 3)}
        )
        kaiming_initialized(self)

    def forward(self, image: Tensor) -> Tensor:
        """Logits at full size (B, out_channels, H, W) of images (B, in_channels, H, W), sides >= 16 px."""
        return self.decoder.full_size(self.head(self.decoder(self.encoder(image))), image)

    @torch.jit.export
    def heads(self, image: Tensor) -> Heads:
        """``seg``, ``scale_2``, ``scale_4``, ``scale_8``: logits (B, out_channels, H, W) each."""
        scales = self.decoder.scales(self.encoder(image))
        answers = {"seg": self.decoder.full_size(self.head(scales[0]), image)}
        for index, (name, head) in enumerate(self.scale_heads.items()):
            coarse = head(scales[index + 1 - self.decoder.finest])
            answers[name] = functional.interpolate(coarse, size=[image.shape[2], image.shape[3]], mode="nearest")
        return answers
