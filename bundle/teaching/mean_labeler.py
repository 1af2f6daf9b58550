"""A labeler that lets several heads write together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from bundle.teaching.labelers import written
from bundle.types import Batch, Heads, PseudoLabel


class MeanLabeler(nn.Module):
    """The mean of what several heads say teaches each of them, soft: t = 1/K sum_k softmax(head_k).

    Uncertainty rectified pyramid consistency (Luo et al. 2021, arXiv 2012.07042), where the heads are scales of one
    decoder, and the mixture of equal experts of the Semi-MoE project page.

    Args:
        sources: heads of logits (B, C, H, W) that write together.
        taught: heads that get this label; ``None`` teaches those that write.

    Raises:
        ValueError: without a source.
    """

    needs_heads = True

    def __init__(self, sources: Sequence[str], taught: Sequence[str] | None = None) -> None:
        super().__init__()
        if not sources:
            raise ValueError("a mean needs at least one head that writes")
        self.sources = tuple(sources)
        self.taught = self.sources if taught is None else tuple(taught)

    @torch.no_grad()
    def forward(self, batch: Batch, heads: Heads, progress: float) -> dict[str, PseudoLabel]:
        """Write one label, probabilities (B, C, H, W), for all taught heads."""
        each = torch.stack([written(heads[name].detach(), "soft") for name in self.sources])
        label = PseudoLabel(each.mean(dim=0))
        return dict.fromkeys(self.taught, label)
