"""A labeler for sparse annotations: what a person drew, and beyond it what a teacher is sure of."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from bundle.teaching.labelers import TeacherLabeler
from bundle.types import IGNORE, LABEL, Batch, HeadNetwork, Heads, PseudoLabel, Ramp


class FusingLabeler(nn.Module):
    """The annotation where there is one, else the teacher where it is sure, else nothing (2026, arXiv 2603.08605).

    With an annotation y, the teacher's probabilities p and the threshold tau(progress), a pixel has

        target = y           weight 1    where y is known
                 argmax p    weight 1    elsewhere, if max p > tau
                 argmax p    weight 0    elsewhere, if not

    For lessons on the labeled stream: its batches hold the annotation.

    Differs from the paper: its code lets the teacher overrule annotated background, as there unknown pixels are
    background too. Here they have a code of their own, and no annotation is overruled.

    Args:
        teacher: a network with named heads, for instance a snapshot of a moving average. It is held by reference, in
            evaluation mode.
        sources: taught head -> head of the teacher that writes its label, logits (B, C, H, W).
        confidence: tau, or a ramp of it. With 0 every pixel counts; with 1 the annotations teach alone, as no
            probability is larger.
        warm_up: share of training, in [0, 1], up to which the annotations teach alone: a teacher that follows an
            untrained student may be sure and wrong.
        annotations: taught head -> key of the batch that holds its annotation, class indices (B, 1, H, W) with
            ``IGNORE`` where nothing is known; ``label`` where not named.
    """

    needs_heads = False

    def __init__(
        self,
        teacher: HeadNetwork,
        sources: Mapping[str, str],
        confidence: float | Ramp,
        warm_up: float = 0.0,
        annotations: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.teacher = TeacherLabeler(teacher, sources, dict.fromkeys(sources, "soft"))
        self.confidence = confidence
        self.warm_up = warm_up
        self.annotations = {head: (annotations or {}).get(head, LABEL) for head in sources}

    @torch.no_grad()
    def forward(self, batch: Batch, heads: Heads, progress: float) -> dict[str, PseudoLabel]:
        """Ask the teacher about ``batch["image"]`` and lay the annotations over its answer.

        Raises:
            ValueError: where the batch holds no annotation, as on the unlabeled stream.
        """
        threshold = self.confidence(progress) if callable(self.confidence) else self.confidence
        if progress < self.warm_up:
            threshold = 1.0
        answers = self.teacher(batch, heads, progress)
        return {
            head: fused(self._annotation(batch, head), answer.target, threshold) for head, answer in answers.items()
        }

    def _annotation(self, batch: Batch, head: str) -> Tensor:
        key = self.annotations[head]
        if key not in batch:
            raise ValueError(f"the batch holds no annotation {key!r} of head {head!r}; give the lesson stream: labeled")
        return batch[key]


def fused(annotation: Tensor, probabilities: Tensor, threshold: float) -> PseudoLabel:
    """The equation of :class:`FusingLabeler`.

    Args:
        annotation: class indices (B, 1, H, W), ``IGNORE`` where nothing is known.
        probabilities: the teacher's (B, C, H, W).
        threshold: tau.

    Returns:
        Class indices, none of them ``IGNORE``, and weights of 0 and 1, (B, 1, H, W) each.
    """
    certainty, answer = probabilities.max(dim=1, keepdim=True)
    known = annotation != IGNORE
    target = torch.where(known, annotation.to(answer.dtype), answer)
    return PseudoLabel(target, (known | (certainty > threshold)).float())
