"""Who writes pseudo-labels: from the student's own heads, or from a teacher.

A labeler answers ``(batch, heads, progress) -> {head: PseudoLabel}``; no gradient flows through what it writes.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from bundle.types import Batch, HeadNetwork, Heads, PseudoLabel


def written(logits: Tensor, form: str) -> Tensor:
    """What one head says, as a target for another.

    Args:
        logits: (B, C, H, W); C is 1 for ``tanh``.
        form: ``hard`` (class indices (B, 1, H, W)), ``soft`` (probabilities (B, C, H, W)) or ``tanh`` (signed
            distances in [-1, 1]).

    Raises:
        ValueError: for another form.
    """
    if form == "hard":
        return logits.argmax(dim=1, keepdim=True)
    if form == "soft":
        return logits.float().softmax(dim=1)
    if form == "tanh":
        return logits.float().tanh()
    raise ValueError(f"a pseudo-label's form is 'hard', 'soft' or 'tanh', got {form!r}")


class HeadLabeler(nn.Module):
    """One head writes for another, from the student's own pass: the gates teach the experts, peers teach each other.

    Semi-MoE eq. 5 and 6 (``seg`` <- argmax ``fused_seg``, ``sdf`` <- tanh ``fused_sdf``, ...); cross pseudo
    supervision (Chen et al. 2021, arXiv 2106.01226) with ``{"seg": "peer", "peer": "seg"}``.

    Args:
        sources: taught head -> head that writes its label.
        forms: taught head -> ``hard``, ``soft`` or ``tanh``.
        confidence: pixels where the writer's largest probability is lower get weight 0; 0 keeps all and gives no
            weight. Only for ``hard`` and ``soft``.
    """

    needs_heads = True

    def __init__(self, sources: Mapping[str, str], forms: Mapping[str, str], confidence: float = 0.0) -> None:
        super().__init__()
        if set(sources) != set(forms):
            raise ValueError(f"sources name the heads {sorted(sources)}, forms {sorted(forms)}: they must be the same")
        self.sources = dict(sources)
        self.forms = dict(forms)
        self.confidence = confidence

    @torch.no_grad()
    def forward(self, batch: Batch, heads: Heads, progress: float) -> dict[str, PseudoLabel]:
        """Write a label for each taught head."""
        return {taught: self._label(heads[source], self.forms[taught]) for taught, source in self.sources.items()}

    def _label(self, logits: Tensor, form: str) -> PseudoLabel:
        logits = logits.detach()
        if self.confidence <= 0.0 or form == "tanh":
            return PseudoLabel(written(logits, form))
        sure = logits.float().softmax(dim=1).amax(dim=1, keepdim=True) >= self.confidence
        return PseudoLabel(written(logits, form), sure.float())


class TeacherLabeler(HeadLabeler):
    """A second network writes; it is given at construction, stays in evaluation mode and gets no gradient.

    Args:
        teacher: a network with named heads, for instance a moving average of the student. It is held by reference.
        sources: taught head -> head of the teacher that writes its label.
        forms: taught head -> ``hard``, ``soft`` or ``tanh``.
        confidence: as for :class:`HeadLabeler`.
    """

    needs_heads = False

    def __init__(
        self, teacher: HeadNetwork, sources: Mapping[str, str], forms: Mapping[str, str], confidence: float = 0.0
    ) -> None:
        super().__init__(sources, forms, confidence)
        # in a tuple, so that the teacher is no part of the step: neither DDP nor the student's train() may touch it
        self._teacher = (teacher,)

    @torch.no_grad()
    def forward(self, batch: Batch, heads: Heads, progress: float) -> dict[str, PseudoLabel]:
        """Ask the teacher about ``batch["image"]``; the student's heads are not read."""
        teacher = self._teacher[0]
        if isinstance(teacher, nn.Module):
            teacher.eval()
        return super().forward(batch, teacher.heads(batch["image"]), progress)
