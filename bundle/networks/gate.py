"""The gates of Semi-MoE: one weight an expert and an image (eq. 8 and 9 of the paper)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

KINDS = ("paper", "as_released", "equal")


class Gate(nn.Module):
    """A small network that looks at the pooled features of all experts and weighs the experts.

    Differs from the paper: nothing in ``paper``, but the widths of the two hidden layers, which it does not give.

    Args:
        features: length of the pooled features, experts times channels.
        experts: number of experts, K.
        kind: ``paper`` (fully connected, ReLU, fully connected, dropout, fully connected, softmax),
            ``as_released`` (the first layer's answer is multiplied by its own softmax: so small that at the start
            all images get nearly the same weights, set by biases alone, and the layer little gradient) or ``equal``
            (always 1 / K, no parameters).
        dropout: probability of dropout before the last layer.

    Raises:
        ValueError: for another kind.
    """

    def __init__(self, features: int, experts: int, kind: str = "paper", dropout: float = 0.1) -> None:
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f"gate is {kind!r}; choose one of {', '.join(KINDS)}")
        self.kind = kind
        self.experts = experts
        hidden = max(features // 2, experts)
        self.first = nn.Linear(features, hidden) if kind != "equal" else nn.Identity()
        self.rest = (
            nn.Sequential(
                nn.Linear(hidden, max(hidden // 2, experts)),
                nn.Dropout(dropout),
                nn.Linear(max(hidden // 2, experts), experts),
            )
            if kind != "equal"
            else nn.Identity()
        )

    def forward(self, pooled: Tensor) -> Tensor:
        """Weights (B, K), positive, each row sums to 1, of pooled features (B, features)."""
        if self.kind == "equal":
            return torch.full([pooled.shape[0], self.experts], 1.0 / self.experts, device=pooled.device)
        hidden = self.first(pooled)
        hidden = hidden * torch.softmax(hidden, dim=1) if self.kind == "as_released" else torch.relu(hidden)
        return torch.softmax(self.rest(hidden).float(), dim=1)


class GatedTask(nn.Module):
    """One task of the multi-gate: its own weights over the experts and its own 1x1 head on the weighted sum.

    The head is applied to each expert's features and the answers are mixed. As a 1x1 convolution is linear and the
    weights sum to 1 this equals the head on the mixed features, and moves 2 channels through memory and not 64.

    Args:
        channels: channels of an expert's last feature map.
        experts: number of experts, K.
        out_channels: channels of the task's answer.
        kind: kind of the gate.
        dropout: probability of dropout in the gate.
    """

    def __init__(self, channels: int, experts: int, out_channels: int, kind: str, dropout: float) -> None:
        super().__init__()
        self.gate = Gate(channels * experts, experts, kind, dropout)
        self.head = nn.Conv2d(channels, out_channels, kernel_size=1)

    def forward(self, features: list[Tensor], pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Mix K feature maps (B, C, H, W), pooled (B, K * C): answer (B, out_channels, H, W) and weights (B, K)."""
        weights = self.gate(pooled)
        answer = self.head(features[0]) * weights[:, 0, None, None, None]
        for expert in range(1, len(features)):
            answer = answer + self.head(features[expert]) * weights[:, expert, None, None, None]
        return answer, weights
