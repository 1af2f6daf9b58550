"""Pseudo-labels from sparse annotations and a confident teacher."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from bundle.semi_supervision.pseudo_labelers import TeacherPseudoLabeler
from bundle.types import IGNORE, LABEL, Batch, HeadNetwork, Heads, PseudoLabel, Ramp


class FusionPseudoLabeler(nn.Module):
    """Combine sparse annotations with the confident predictions of a teacher (2026, arXiv 2603.08605).

    Given an annotation y, the teacher's probabilities p and a threshold tau(progress), a pixel has

        target = y           weight 1    where y is known
                 argmax p    weight 1    elsewhere, if max p > tau
                 argmax p    weight 0    elsewhere, if not

    Use it in a consistency term on the labeled stream, whose batches contain the annotation.

    Differs from the paper: there the teacher may overrule annotated background, because unknown pixels are coded as
    background. Here unknown pixels have a code of their own, and no annotation is overruled.

    Args:
        teacher: network with named heads, for example a snapshot of a moving average. It is held by reference and in
            evaluation mode.
        sources: student head -> head of the teacher, logits (B, C, H, W).
        confidence: tau, or a ramp of it. With 0 every pixel counts; with 1 only annotated pixels count.
        warm_up: share of training, in [0, 1], during which only annotated pixels count, because a teacher that follows
            an untrained student may be confident and wrong.
        annotations: student head -> key of its annotation in the batch, ``label`` by default: class indices
            (B, 1, H, W) with ``IGNORE`` at unknown pixels.
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
        self.teacher = TeacherPseudoLabeler(teacher, sources, dict.fromkeys(sources, "soft"))
        self.confidence = confidence
        self.warm_up = warm_up
        self.annotations = {head: (annotations or {}).get(head, LABEL) for head in sources}

    @torch.no_grad()
    def forward(self, batch: Batch, heads: Heads, progress: float) -> dict[str, PseudoLabel]:
        """Run the teacher on ``batch["image"]`` and replace its prediction by the annotation where there is one.

        Raises:
            ValueError: if the batch has no annotation, as on the unlabeled stream.
        """
        threshold = self.confidence(progress) if callable(self.confidence) else self.confidence
        if progress < self.warm_up:
            threshold = 1.0
        predictions = self.teacher(batch, heads, progress)
        return {
            head: fuse(self._annotation(batch, head), prediction.target, threshold)
            for head, prediction in predictions.items()
        }

    def _annotation(self, batch: Batch, head: str) -> Tensor:
        key = self.annotations[head]
        if key not in batch:
            raise ValueError(
                f"the batch holds no annotation {key!r} of head {head!r}; give the consistency term stream: labeled"
            )
        return batch[key]


def fuse(annotation: Tensor, probabilities: Tensor, threshold: float) -> PseudoLabel:
    """Compute the equation of :class:`FusionPseudoLabeler`.

    Args:
        annotation: class indices (B, 1, H, W), ``IGNORE`` at unknown pixels.
        probabilities: of the teacher, (B, C, H, W).
        threshold: tau.

    Returns:
        Class indices, none of them ``IGNORE``, and weights of 0 and 1, (B, 1, H, W) each.
    """
    confidence, predicted = probabilities.max(dim=1, keepdim=True)
    known = annotation != IGNORE
    target = torch.where(known, annotation.to(predicted.dtype), predicted)
    return PseudoLabel(target, (known | (confidence > threshold)).float())
