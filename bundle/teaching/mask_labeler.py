"""A labeler that teaches unlike heads from one mask."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from bundle.types import Batch, Heads, PseudoLabel


class MaskLabeler(nn.Module):
    """One head's argmax is the mask from which the targets of all taught heads are made, as they are from a label.

    The single-gate ablation of Semi-MoE (BMVC 2025): for a taught head h, target_h = f_h(argmax source).

    Args:
        source: head of logits (B, C, H, W) whose argmax is the mask.
        targets: taught head -> function of a mask (B, 1, H, W), uint8, to a target of the same shape: class index,
            signed distance or boundary. Functions may work on the CPU; the answer is brought back to the mask's device.
    """

    needs_heads = True

    def __init__(self, source: str, targets: Mapping[str, Callable[[Tensor], Tensor]]) -> None:
        super().__init__()
        self.source = source
        self.targets = dict(targets)

    @torch.no_grad()
    def forward(self, batch: Batch, heads: Heads, progress: float) -> dict[str, PseudoLabel]:
        """Write a label for each taught head."""
        mask = heads[self.source].detach().argmax(dim=1, keepdim=True).to(torch.uint8)
        return {taught: PseudoLabel(target(mask).to(mask.device)) for taught, target in self.targets.items()}
