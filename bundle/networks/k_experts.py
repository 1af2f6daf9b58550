"""Mixture of equal experts with a gate on the image, as on the Semi-MoE project page."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from itertools import pairwise

import torch
from monai.networks.blocks import Convolution
from torch import Tensor, nn

from bundle.networks.encoders import ACTIVATION, NORM, Encoder, initialize_convolutions
from bundle.networks.gate import Gate
from bundle.networks.outputs import PRED, NamedOutputs
from bundle.networks.unet import UNet
from bundle.types import Heads


class ImageGate(nn.Module):
    """Gate on the image: convolutions of stride 2, mean over space, then a :class:`Gate`.

    Args:
        in_channels: channels of the image.
        experts: number of experts, K.
        widths: channels of the convolutions.
        kind: kind of the gate, see :class:`Gate`; ``equal`` is the mean of the experts.
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
        """Return weights (B, K), float32, each row with sum 1, for an image (B, in_channels, H, W)."""
        return self.gate(self.features(image).mean(dim=[2, 3]))


class KExperts(NamedOutputs):
    """Mixture of K U-Nets of the same architecture with separate weights and one gate (Semi-MoE project page).

    g = softmax(G(x)), y = sum_k g_k p_k(x), p_k = softmax(E_k(x)): the *probabilities* are mixed. ``forward`` returns
    log y. Its softmax is y, so it can be used wherever logits are expected. It is computed as
    logsumexp_k(log g_k + log p_k) in float32, so a probability of 0 needs no clamp.

    Not the Semi-MoE of the paper (BMVC 2025), whose experts solve different tasks; its project page describes this one.

    Args:
        in_channels: channels of the image.
        out_channels: number of classes, including the background.
        widths: channels of the five levels of each U-Net; the gate's convolutions have the first four.
        experts: names of the experts' heads; their number is K, at least 2.
        gate: ``paper`` (learned) or ``equal`` (the mean of the experts).
        gate_dropout: probability of dropout in the gate.
        dropout: probability of dropout in the U-Nets.
        outputs: as for :class:`NamedOutputs`.
        encoder: as for :class:`UNet`; each expert has a copy. It does not affect the gate.
        output_stride: as for :class:`UNet`.

    Raises:
        ValueError: if there are fewer than two experts, or a name is repeated.
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
            raise ValueError(f"experts are {list(experts)}; give at least two different names")
        self.experts = nn.ModuleDict(
            {
                name: UNet(
                    in_channels, out_channels, widths, dropout, encoder=deepcopy(encoder), output_stride=output_stride
                )
                for name in experts
            }
        )
        self.gate = ImageGate(in_channels, len(experts), widths[:4], gate, gate_dropout)
        self.least_weight = torch.finfo(torch.float32).tiny  # a weight of 0 has no logarithm
        initialize_convolutions(self.gate)

    def forward(self, image: Tensor) -> Tensor:
        """Return the log-probabilities (B, out_channels, H, W), float32.

        Args:
            image: (B, in_channels, H, W), H and W at least 16 px.
        """
        return self.heads(image)["seg"]

    @torch.jit.export
    def heads(self, image: Tensor) -> Heads:
        """Return all heads.

        Returns:
            ``seg``, log-probabilities (B, C, H, W) of the mixture; the experts by name, logits (B, C, H, W);
            ``gate_seg``, weights (B, K) in the order of the experts.
        """
        weights = self.gate(image)
        logarithms = weights.clamp_min(self.least_weight).log()
        outputs: dict[str, Tensor] = {}
        terms: list[Tensor] = []
        for index, (name, expert) in enumerate(self.experts.items()):
            outputs[name] = expert(image)
            terms.append(outputs[name].float().log_softmax(dim=1) + logarithms[:, index, None, None, None])
        outputs["seg"] = torch.stack(terms).logsumexp(dim=0)
        outputs["gate_seg"] = weights
        return outputs
