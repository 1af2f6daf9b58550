"""Regularizers: losses without a target, called as ``(heads, progress)``."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from bundle.types import Heads, Ramp


class Regularizer(nn.Module):
    """Base class of losses on the student's own heads, on one stream.

    Args:
        ramp: weight over training.
        stream: ``labeled`` or ``unlabeled``.
    """

    def __init__(self, ramp: Ramp, stream: str = "unlabeled") -> None:
        super().__init__()
        self.ramp = ramp
        self.stream = stream

    def forward(self, heads: Heads, progress: float) -> Tensor:
        """Return the loss, a 0-d tensor, without the ramp."""
        raise TypeError(f"{type(self).__name__} does not implement forward")


class EntropyRegularizer(Regularizer):
    """Normalized entropy of a head, -sum p log p / log C, in [0, 1] (Vu et al. 2019, arXiv 1811.12833).

    Args:
        head: name of a head of logits (B, C, H, W), C >= 2.
        ramp: weight over training.
        stream: ``labeled`` or ``unlabeled``.
    """

    def __init__(self, head: str, ramp: Ramp, stream: str = "unlabeled") -> None:
        super().__init__(ramp, stream)
        self.head = head

    def forward(self, heads: Heads, progress: float) -> Tensor:
        """Return the mean entropy over all pixels."""
        logarithms = heads[self.head].float().log_softmax(dim=1)  # `entr` of a probability 0 has no gradient
        return -(logarithms.exp() * logarithms).sum(dim=1).mean() / math.log(logarithms.shape[1])


class BalanceRegularizer(Regularizer):
    """Load balancing of a gate: log K - H(mean gate weights).

    It is 0 if all experts are used equally, and log K if one expert gets all the weight.

    Differs from the paper: the project page of Semi-MoE prints -sum mean(g) log mean(g), the entropy, whose
    minimum is the collapse that the loss is meant to prevent.

    Args:
        head: name of a head of gate weights (B, K).
        ramp: weight over training.
        stream: ``labeled`` or ``unlabeled``.
    """

    def __init__(self, head: str, ramp: Ramp, stream: str = "unlabeled") -> None:
        super().__init__(ramp, stream)
        self.head = head

    def forward(self, heads: Heads, progress: float) -> Tensor:
        """Return how far the mean gate weights of the batch are from uniform, in nats."""
        use = heads[self.head].float().mean(dim=0).clamp_min(torch.finfo(torch.float32).tiny)  # as above
        return math.log(use.numel()) - torch.special.entr(use).sum()
