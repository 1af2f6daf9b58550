"""The gates of Semi-MoE: one weight per expert and image (eq. 8 and 9 of the paper)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

KINDS = ("paper", "as_released", "equal")


class Gate(nn.Module):
    """Gating network: weights of the experts from the pooled features of all experts.

    ``paper`` follows the paper; the widths of the two hidden layers are ours, because the paper does not give them.
    ``as_released`` follows the authors' review code: the hidden features are multiplied by the softmax of a second
    layer. They are then so small that at first all weights are close to 1 / K for each image, and the gate gets little
    gradient.

    Args:
        features: number of pooled features, experts times channels.
        experts: number of experts, K.
        kind: ``paper`` (fully connected, ReLU, fully connected, dropout, fully connected, softmax), ``as_released``
            (fully connected, ReLU, times the softmax of a fully connected layer, dropout, fully connected, softmax;
            Kaiming initialization, zero biases) or ``equal`` (always 1 / K, no parameters).
        dropout: probability of dropout before the last layer.

    Raises:
        ValueError: if ``kind`` is unknown.

    Example::

        >>> Gate(features=24, experts=3, kind="equal")(torch.zeros(2, 24))
        tensor([[0.3333, 0.3333, 0.3333],
                [0.3333, 0.3333, 0.3333]])
    """

    def __init__(self, features: int, experts: int, kind: str = "paper", dropout: float = 0.1) -> None:
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f"unknown gate {kind!r}; choose one of {', '.join(KINDS)}")
        self.kind = kind
        self.experts = experts
        hidden = max(features // 2, experts)
        self.first: nn.Module = nn.Identity()
        self.attention: nn.Module = nn.Identity()
        self.rest: nn.Module = nn.Identity()
        if kind == "paper":
            smaller = max(hidden // 2, experts)
            self.first = nn.Linear(features, hidden)
            self.rest = nn.Sequential(nn.Linear(hidden, smaller), nn.Dropout(dropout), nn.Linear(smaller, experts))
        elif kind == "as_released":
            self.first = nn.Linear(features, hidden)
            self.attention = nn.Linear(hidden, hidden)
            self.rest = nn.Sequential(nn.Dropout(dropout), nn.Linear(hidden, experts))
            for layer in self.modules():
                if isinstance(layer, nn.Linear):
                    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                    nn.init.zeros_(layer.bias)

    def forward(self, pooled: Tensor) -> Tensor:
        """Return positive weights (B, K), each row with sum 1, for pooled features (B, features)."""
        if self.kind == "equal":
            return torch.full([pooled.shape[0], self.experts], 1.0 / self.experts, device=pooled.device)
        hidden = torch.relu(self.first(pooled))
        if self.kind == "as_released":
            hidden = hidden * torch.softmax(self.attention(hidden), dim=1)
        return torch.softmax(self.rest(hidden).float(), dim=1)


class GatedTask(nn.Module):
    """One task of the multi-gate mixture: a gate over the experts and a 1x1 head on the weighted sum.

    The head is applied to the features of each expert, and its outputs are mixed. A 1x1 convolution is linear and the
    weights sum to 1, so this equals the head on the mixed features, but it moves 2 channels through memory, not 64.

    Args:
        channels: channels of an expert's last feature map.
        experts: number of experts, K.
        out_channels: channels of the task's output.
        kind: kind of the gate, see :class:`Gate`.
        dropout: probability of dropout in the gate.
    """

    def __init__(self, channels: int, experts: int, out_channels: int, kind: str, dropout: float) -> None:
        super().__init__()
        self.gate = Gate(channels * experts, experts, kind, dropout)
        self.head = nn.Conv2d(channels, out_channels, kernel_size=1)

    def forward(self, features: list[Tensor], pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Return the output (B, out_channels, H, W) and the weights (B, K) of the experts.

        Args:
            features: K feature maps (B, C, H, W).
            pooled: their means over space, (B, K * C).
        """
        weights = self.gate(pooled)
        output = self.head(features[0]) * weights[:, 0, None, None, None]
        for expert in range(1, len(features)):
            output = output + self.head(features[expert]) * weights[:, expert, None, None, None]
        return output, weights
