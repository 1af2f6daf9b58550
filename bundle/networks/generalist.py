"""Networks of CGS: a generalist head for all classes, and a specialist head for each foreground class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from bundle.networks.encoders import Encoder, initialize_convolutions
from bundle.networks.outputs import PRED
from bundle.networks.semi_moe import SemiMoE
from bundle.networks.unet import UNet
from bundle.types import EXPERTS, SEG, SPECIALIST, Heads


def specialist_heads(channels: int, classes: int) -> nn.ModuleDict:
    """Return one 1x1 head per foreground class, with 3 channels: background, this class, other foreground classes.

    Args:
        channels: channels of the features.
        classes: number of classes, including the background, at least 3.

    Raises:
        ValueError: if there are fewer than 3 classes. With one foreground class, its specialist would have the same
            target as the generalist.
    """
    if classes < 3:
        raise ValueError(
            f"generalist and specialists need at least two foreground classes, but there are {classes} classes "
            "including the background; add an overlay with several classes, for example "
            "configs/data/phantom_classes.yaml, or choose another method"
        )
    return nn.ModuleDict({f"{SPECIALIST}{index}": nn.Conv2d(channels, 3, kernel_size=1) for index in range(1, classes)})


class GeneralistUNet(UNet):
    """U-Net with a generalist head, ``seg``, and a specialist head for each foreground class.

    Balancing multi-target semi-supervised segmentation with Collaborative Generalist and Specialists (CGS; Wang et al.
    2025, arXiv 2504.00862). The generalist is the output; the specialists are used only in training.

    Args:
        in_channels: channels of the image.
        out_channels: number of classes, including the background, at least 3.
        widths: channels of the five levels.
        dropout: probability of dropout after each convolution.
        outputs: as for :class:`NamedOutputs`.
        encoder: as for :class:`UNet`.
        output_stride: as for :class:`UNet`.

    Raises:
        ValueError: if there are fewer than two foreground classes.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        widths: Sequence[int] = (16, 32, 64, 128, 256),
        dropout: float = 0.0,
        outputs: str = PRED,
        encoder: Encoder | None = None,
        output_stride: int = 1,
    ) -> None:
        super().__init__(in_channels, out_channels, widths, dropout, outputs, encoder, output_stride)
        self.specialists = specialist_heads(self.head.in_channels, out_channels)
        initialize_convolutions(self.specialists)

    @torch.jit.export
    def heads(self, image: Tensor) -> Heads:
        """Return the logits of ``seg`` (B, out_channels, H, W) and ``specialist_1``, ... (B, 3, H, W)."""
        features = self.decoder(self.encoder(image))
        outputs: dict[str, Tensor] = {"seg": self.decoder.full_size(self.head(features), image)}
        for name, specialist in self.specialists.items():
            outputs[name] = self.decoder.full_size(specialist(features), image)
        return outputs


class SpecialistSemiMoE(SemiMoE):
    """Semi-MoE with a specialist head for each foreground class on the features of its segmentation expert.

    Adds the specialists of CGS (Wang et al. 2025, arXiv 2504.00862). The expert ``seg`` is their generalist;
    ``fused_seg`` is still the output.

    Args:
        in_channels: channels of the image.
        out_channels: number of classes, including the background, at least 3.
        widths: channels of the five levels of each U-Net.
        experts: as for :class:`SemiMoE`.
        **rest: as for :class:`SemiMoE`.

    Raises:
        ValueError: if there are fewer than two foreground classes, and as for :class:`SemiMoE`.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        widths: Sequence[int] = (16, 32, 64, 128, 256),
        experts: Sequence[str] = EXPERTS,
        **rest: Any,
    ) -> None:
        super().__init__(in_channels, out_channels, widths, experts, **rest)
        self.generalist = list(experts).index(SEG)
        self.specialists = specialist_heads(cast(nn.Conv2d, self.expert_heads[SEG]).in_channels, out_channels)
        initialize_convolutions(self.specialists)

    @torch.jit.export
    def heads(self, image: Tensor) -> Heads:
        """Return the heads of :class:`SemiMoE`, and the logits of ``specialist_1``, ... (B, 3, H, W)."""
        features, pooled = self._features(image)
        outputs = self._outputs(features, pooled, image)
        for name, specialist in self.specialists.items():
            outputs[name] = self._full_size(specialist(features[self.generalist]), image)
        return outputs
