"""Equal experts with own weights, and a gate that looks at the image: the mixture of the Semi-MoE project page."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from itertools import pairwise

import torch
from monai.networks.blocks import Convolution
from torch import Tensor, nn

from bundle.networks.encoders import ACTIVATION, NORM, Encoder, kaiming_initialized
from bundle.networks.gate import Gate
from bundle.networks.outputs import PRED, NamedOutputs
from bundle.networks.unet import UNet
from bundle.types import Heads


class ImageGate(nn.Module):
    """A gate that looks at the image itself: convolutions of stride 2, the mean over space, then a :class:`Gate`.

    Args:
        in_channels: channels of the image.
        experts: number of experts, K.
        widths: channels of the convolutions.
        kind: kind of the gate; ``equal`` for a plain mean of the experts.
        dropout: probability of dropout in the gate.
    """

    def __init__(self, in_channels: int, experts: int, widths: Sequence[int], kind: str, dropout: float) -> None:
        super().__init__()
        channels = [in_channels, *widths]
        convolutions = [
            Convolution(2, before, after, strides=2, act=ACTIVATION, norm=NORM) for before, after in pairwise(channels)
        ]
        self.features = nn.Sequential(*convolutions)
        self.gate = Gate(channels[-1], experts, kind, dropout)

    def forward(self, image: Tensor) -> Tensor:
        """Weights (B, K) in float32, each row sums to 1, of images (B, in_channels, H, W)."""
        return self.gate(self.features(image).mean(dim=[2, 3]))


class KExperts(NamedOutputs):
    """K U-Nets of one shape, each with weights of its own, mixed by one gate an image (Semi-MoE project page).

    g = softmax(G(x)), y = sum_k g_k p_k(x), p_k = softmax(E_k(x)): the *probabilities* are mixed. ``forward`` gives
    log y, whose softmax is y, so every loss and reading that takes logits stays right. It is computed as
    logsumexp_k(log g_k + log p_k) in float32, which needs no clamp where an expert is sure.

    Not the Semi-MoE of the paper (BMVC 2025), whose experts solve unlike tasks; its project page describes this one.

    Args:
        in_channels: channels of the image.
        out_channels: number of classes, background counted.
        widths: channels of the five levels of each U-Net; the first four are those of the gate's convolutions.
        experts: names of the experts' heads; their number is K, at least 2.
        gate: ``paper`` (learned) or ``equal`` (the plain mean).
        gate_dropout: probability of dropout in the gate.
        dropout: probability of dropout in the U-Nets.
        outputs: as for :class:`NamedOutputs`.
        encoder: as for :class:`UNet`; each expert has a copy, and the gate's convolutions stay plain.
        output_stride: as for :class:`UNet`.

    Raises:
        ValueError: for fewer than two experts, or names that are not all different.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 2,
        widths: Sequence[int] = (16, 32, 64, 128, 256),
        experts: Sequence[str] = ("expert_1", "expert_2", "expert_3"),
        gate: str = "paper",
        gate_dropout: float = 0.1,
        dropout: float = 0.0,
        outputs: str = PRED,
        encoder: Encoder | None = None,
        output_stride: int = 1,
    ) -> None:
        super().__init__(outputs)
        if len(set(experts)) < max(2, len(experts)):
            raise ValueError(f"experts are {list(experts)}; name at least two, each once")
        self.experts = nn.ModuleDict(
            {
                name: UNet(
                    in_channels, out_channels, widths, dropout, encoder=deepcopy(encoder), output_stride=output_stride
                )
                for name in experts
            }
        )
        self.gate = ImageGate(in_channels, len(experts), widths[:4], gate, gate_dropout)
        self.least_weight = torch.finfo(torch.float32).tiny  # of a gate so sure that it says 0, which has no logarithm
        kaiming_initialized(self.gate)

    def forward(self, image: Tensor) -> Tensor:
        """Log-probabilities (B, out_channels, H, W), float32, of images (B, in_channels, H, W), sides >= 16 px."""
        return self.heads(image)["seg"]

    @torch.jit.export
    def heads(self, image: Tensor) -> Heads:
        """Every map by name.

        Returns:
            ``seg``, the mixture as log-probabilities (B, C, H, W); the experts by their names, logits of that shape;
            ``gate_seg``, the weights (B, K), in the order of the experts.
        """
        weights = self.gate(image)
        logarithms = weights.clamp_min(self.least_weight).log()
        answers: dict[str, Tensor] = {}
        terms: list[Tensor] = []
        for index, (name, expert) in enumerate(self.experts.items()):
            answers[name] = expert(image)
            terms.append(answers[name].float().log_softmax(dim=1) + logarithms[:, index, None, None, None])
        answers["seg"] = torch.stack(terms).logsumexp(dim=0)
        answers["gate_seg"] = weights
        return answers
