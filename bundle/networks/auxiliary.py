"""U-Nets with several outputs: auxiliary decoders on perturbed features (CCT), and one output per decoder scale.

Perturbed heads are also computed where no loss uses them, on labeled images and in strong views; this costs a decoder
pass and keeps the interface of a network small.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from bundle.networks.encoders import Encoder, create_encoders, initialize_convolutions
from bundle.networks.outputs import PRED, NamedOutputs
from bundle.networks.unet import UNetDecoder
from bundle.types import Heads


class FeatureNoise(nn.Module):
    """Multiply features by 1 + n, with n uniform in [-amplitude, amplitude] for each value; only in training mode.

    F-Noise of cross-consistency training (Ouali et al. 2020, arXiv 2003.09005). The paper draws n once for all images.

    Args:
        amplitude: largest relative change of a feature.
    """

    def __init__(self, amplitude: float) -> None:
        super().__init__()
        self.amplitude = amplitude

    def forward(self, features: Tensor) -> Tensor:
        """Return the features (B, C, H, W) with noise."""
        if not self.training:
            return features
        return features * (1.0 + self.amplitude * (2.0 * torch.rand_like(features) - 1.0))


class FeatureDrop(nn.Module):
    """Set the most active positions of the features to 0, in all channels; only in training mode.

    F-Drop of cross-consistency training (Ouali et al. 2020, arXiv 2003.09005). A position is dropped if its mean over
    channels is at least t times the maximum of the image. t is uniform in [lowest, highest]; it is drawn here for each
    image, in the paper once for all images.

    Args:
        lowest: smallest t.
        highest: largest t.
    """

    def __init__(self, lowest: float, highest: float) -> None:
        super().__init__()
        self.lowest = lowest
        self.highest = highest

    def forward(self, features: Tensor) -> Tensor:
        """Return the features (B, C, H, W) without the positions of the largest mean magnitude.

        The magnitude of a feature equals the feature after a ReLU; other encoders have negative features too.
        """
        if not self.training:
            return features
        activity = features.abs().mean(dim=1, keepdim=True)
        share = torch.empty([features.shape[0], 1, 1, 1], device=features.device).uniform_(self.lowest, self.highest)
        return features * (activity < share * activity.amax(dim=[2, 3], keepdim=True)).to(features.dtype)


class AuxiliaryUNet(NamedOutputs):
    """U-Net of cross-consistency training with one auxiliary decoder per feature perturbation.

    CCT (Ouali et al. 2020, arXiv 2003.09005). ``seg`` is the output. The auxiliary decoders ``aux_1``, ``aux_2``, ...
    get perturbed features and learn to predict the same. Features are perturbed only in training mode.

    Differs from the paper: the network is a U-Net, so the features of all five levels are perturbed. The paper perturbs
    the last features of an encoder without skip connections; here an unperturbed skip would bypass the perturbation.

    Args:
        perturbations: modules that map features (B, C, H, W) to features, one per auxiliary decoder; at least one.
        in_channels: channels of the image.
        out_channels: number of classes, including the background.
        widths: channels of the five levels.
        dropout: probability of dropout after each convolution.
        outputs: as for :class:`NamedOutputs`.
        encoder: as for :class:`UNet`.
        output_stride: as for :class:`UNet`.

    Raises:
        ValueError: if there is no perturbation.
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
            raise ValueError("perturbations is empty; give at least one perturbation, each gets its own decoder")
        (self.encoder,) = create_encoders(1, encoder, in_channels, widths, dropout)
        self.decoder = UNetDecoder(widths, dropout, self.encoder, output_stride)
        self.head = nn.Conv2d(self.decoder.channels, out_channels, kernel_size=1)
        self.perturbations = nn.ModuleList(perturbations)
        self.auxiliary_decoders = nn.ModuleList(
            [UNetDecoder(widths, dropout, self.encoder, output_stride) for _ in perturbations]
        )
        self.auxiliary_heads = nn.ModuleList([nn.Conv2d(self.head.in_channels, out_channels, 1) for _ in perturbations])
        initialize_convolutions(self)

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits of the main decoder (B, out_channels, H, W).

        Args:
            image: (B, in_channels, H, W), H and W at least 16 px.
        """
        return self.decoder.full_size(self.head(self.decoder(self.encoder(image))), image)

    @torch.jit.export
    def heads(self, image: Tensor) -> Heads:
        """Return the logits of ``seg`` (main decoder), ``aux_1``, ``aux_2``, ... in the order of the perturbations."""
        levels = self.encoder(image)
        outputs = {"seg": self.decoder.full_size(self.head(self.decoder(levels)), image)}
        parts = zip(self.perturbations, self.auxiliary_decoders, self.auxiliary_heads)  # noqa: B905 (TorchScript)
        for index, (perturbation, decoder, head) in enumerate(parts):
            perturbed: list[Tensor] = []
            for level in levels:
                perturbed.append(perturbation(level))
            outputs["aux_" + str(index + 1)] = self.decoder.full_size(head(decoder(perturbed)), image)
        return outputs


class PyramidUNet(NamedOutputs):
    """U-Net with one output for each of the four scales of its decoder (Luo et al. 2021, URPC, arXiv 2012.07042).

    ``seg`` is the output at full size, the only one that is evaluated. ``scale_2``, ``scale_4`` and ``scale_8`` come
    from features of 1/2, 1/4 and 1/8 of it; their logits are upsampled to full size (nearest neighbor).

    Args:
        in_channels: channels of the image.
        out_channels: number of classes, including the background.
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
        (self.encoder,) = create_encoders(1, encoder, in_channels, widths, dropout)
        self.decoder = UNetDecoder(widths, dropout, self.encoder, output_stride)
        self.head = nn.Conv2d(self.decoder.channels, out_channels, kernel_size=1)
        self.scale_heads = nn.ModuleDict(
            {f"scale_{2**level}": nn.Conv2d(widths[level], out_channels, kernel_size=1) for level in (1, 2, 3)}
        )
        initialize_convolutions(self)

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits at full size (B, out_channels, H, W).

        Args:
            image: (B, in_channels, H, W), H and W at least 16 px.
        """
        return self.decoder.full_size(self.head(self.decoder(self.encoder(image))), image)

    @torch.jit.export
    def heads(self, image: Tensor) -> Heads:
        """Return the logits (B, out_channels, H, W) of ``seg``, ``scale_2``, ``scale_4`` and ``scale_8``."""
        scales = self.decoder.scales(self.encoder(image))
        outputs = {"seg": self.decoder.full_size(self.head(scales[0]), image)}
        for index, (name, head) in enumerate(self.scale_heads.items()):
            coarse = head(scales[index + 1 - self.decoder.finest])
            outputs[name] = functional.interpolate(coarse, size=[image.shape[2], image.shape[3]], mode="nearest")
        return outputs
