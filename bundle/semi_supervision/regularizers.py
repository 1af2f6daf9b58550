"""Regularizers: losses without a target, called as ``(heads, progress)``."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from bundle.types import SDF, SEG, Heads, Ramp, View


class Regularizer(nn.Module):
    """Base class of losses on the student's own heads, on one stream.

    Args:
        ramp: weight over training.
        stream: ``labeled`` or ``unlabeled``.
        student_view: view in which the student sees the batch; ``None`` means unchanged. With the view of a
            consistency term, both use the same forward pass.
    """

    def __init__(self, ramp: Ramp, stream: str = "unlabeled", student_view: View | None = None) -> None:
        super().__init__()
        self.ramp = ramp
        self.stream = stream
        self.student_view = student_view

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


class CrossTaskRegularizer(Regularizer):
    """Mean squared difference of the segmentation and the signed distance: dual-task consistency.

    mean (p - sigmoid(k tanh(sdf)))^2, p the probability of any foreground class (Luo et al. 2021, arXiv 2009.04448).
    Both heads get a gradient.

    Differs from the paper: distances are positive inside; k is a setting (there 1500, so that almost only the pixels on
    the boundary have a gradient).

    Args:
        ramp: weight over training.
        steepness: k, above 0. If a tanh of 1 is d px, the probability rises from 0.27 to 0.73 within 2 d / k px.
        seg: name of a head of logits (B, C, H, W); class 0 is background.
        sdf: name of a head of signed distances before tanh (B, 1, H, W).
        stream: ``labeled`` or ``unlabeled``.
        student_view: as for :class:`Regularizer`.

    Raises:
        ValueError: if ``steepness`` is not above 0.
    """

    def __init__(
        self,
        ramp: Ramp,
        steepness: float,
        seg: str = SEG,
        sdf: str = SDF,
        stream: str = "unlabeled",
        student_view: View | None = None,
    ) -> None:
        super().__init__(ramp, stream, student_view)
        if steepness <= 0.0:
            raise ValueError(f"the steepness of a cross-task consistency must be above 0, got {steepness}")
        self.steepness = steepness
        self.seg = seg
        self.sdf = sdf

    def forward(self, heads: Heads, progress: float) -> Tensor:
        """Return the mean over all pixels, in [0, 1]."""
        foreground = 1.0 - heads[self.seg].float().softmax(dim=1)[:, :1]
        inside = torch.sigmoid(self.steepness * torch.tanh(heads[self.sdf].float()))
        return (foreground - inside).square().mean()


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
