"""Collaborative generalist and specialists: one head that knows all classes, and one for each class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from bundle.networks.encoders import Encoder, kaiming_initialized
from bundle.networks.outputs import PRED
from bundle.networks.semi_moe import SemiMoE
from bundle.networks.unet import UNet
from bundle.types import EXPERTS, SEG, SPECIALIST, Heads


def specialist_heads(channels: int, classes: int) -> nn.ModuleDict:
    """A 1x1 head for each foreground class: background, its own class, every other foreground class.

    Args:
        channels: channels of the features.
        classes: number of classes, background counted, at least 3.

    Raises:
        ValueError: for fewer classes: with one foreground class there is no other, and the one specialist would be
            held to what the generalist is held to.
    """
    if classes < 3:
        raise ValueError(
            f"generalist and specialists need two foreground classes or more, and there are {classes} classes with the "
            "background: add an overlay that tells classes apart, for example configs/data/phantom_classes.yaml, or "
            "take another method"
        )
    return nn.ModuleDict({f"{SPECIALIST}{own}": nn.Conv2d(channels, 3, kernel_size=1) for own in range(1, classes)})


class GeneralistUNet(UNet):
    """A U-Net whose features serve a generalist, ``seg``, and a specialist for each foreground class.

    Balancing multi-target semi-supervised segmentation with Collaborative Generalist and Specialists (CGS; Wang et al.
    2025, arXiv 2504.00862). The generalist answers; specialists are there to teach and be taught.

    Args:
        in_channels: channels of the image.
        out_channels: number of classes, background counted, at least 3.
        widths: channels of the five levels.
        dropout: probability of dropout after each convolution.
        outputs: as for :class:`NamedOutputs`.
        encoder: as for :class:`UNet`.
        output_stride: as for :class:`UNet`.

    Raises:
        ValueError: for fewer than two foreground classes.
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
        kaiming_initialized(self.specialists)

    @torch.jit.export
    def heads(self, image: Tensor) -> Heads:
        """Every map by name: ``seg`` (B, out_channels, H, W), ``specialist_1``, ... (B, 3, H, W) each."""
        features = self.decoder(self.encoder(image))
        answers: dict[str, Tensor] = {"seg": self.decoder.full_size(self.head(features), image)}
        for name, specialist in self.specialists.items():
            answers[name] = self.decoder.full_size(specialist(features), image)
        return answers


class SpecialistSemiMoE(SemiMoE):
    """Semi-MoE with a specialist for each foreground class on the features of its segmentation expert.

    The specialists of CGS (Wang et al. 2025, arXiv 2504.00862) as an addition: the expert ``seg`` is their generalist,
    and ``fused_seg`` answers as before.

    Args:
        in_channels: channels of the image.
        out_channels: number of classes, background counted, at least 3.
        widths: channels of the five levels of each U-Net.
        experts: as for :class:`SemiMoE`.
        **rest: as for :class:`SemiMoE`.

    Raises:
        ValueError: for fewer than two foreground classes, and as :class:`SemiMoE`.
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
        kaiming_initialized(self.specialists)

    @torch.jit.export
    def heads(self, image: Tensor) -> Heads:
        """Every map by name: those of :class:`SemiMoE`, and ``specialist_1``, ... (B, 3, H, W) each."""
        features, pooled = self._features(image)
        answers = self._answers(features, pooled, image)
        for name, specialist in self.specialists.items():
            answers[name] = self._full_size(specialist(features[self.generalist]), image)
        return answers
