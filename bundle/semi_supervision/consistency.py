"""Consistency terms: the losses of a method on unlabeled images."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn

from bundle.semi_supervision.ramps import ConstantRamp
from bundle.types import PseudoLabeler, Ramp, View

STREAMS = ("labeled", "unlabeled")


class ConsistencyTerm(nn.Module):
    """Losses between the student's heads in one view and pseudo-labels made in another view.

    Args:
        pseudo_labeler: makes the pseudo-labels.
        losses: student head -> loss ``(prediction, target)``, called as ``(prediction, target, weight)`` if the
            pseudo-labeler returns pixel weights (B, 1, H, W).
        student_view: view in which the student sees the batch; ``None`` means unchanged. Pseudo-labels are transformed
            with it.
        source_view: view in which the pseudo-labeler sees the batch; it may change colors, never positions.
        ramp: weight of the term over training; 1 by default, for objectives that bring their own.
        stream: ``unlabeled``, or ``labeled`` for terms on sparsely labeled images.
        labels: student head -> name of its pseudo-label, if that is not the name of the head. One pseudo-labeler,
            which runs once a step, can so serve several terms for one head.

    Raises:
        ValueError: if ``stream`` is unknown or ``losses`` is empty.

    Example::

        >>> from bundle.semi_supervision import HeadPseudoLabeler, LinearRamp
        >>> pseudo_labeler = HeadPseudoLabeler({"seg": "fused_seg"}, {"seg": "hard"})
        >>> term = ConsistencyTerm(pseudo_labeler, {"seg": nn.CrossEntropyLoss()}, ramp=LinearRamp(maximum=1.0))
        >>> term.stream
        'unlabeled'
    """

    def __init__(
        self,
        pseudo_labeler: PseudoLabeler,
        losses: Mapping[str, Callable],
        student_view: View | None = None,
        source_view: View | None = None,
        ramp: Ramp | None = None,
        stream: str = "unlabeled",
        labels: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        if stream not in STREAMS:
            raise ValueError(f"the stream of a consistency term is one of {STREAMS}, got {stream!r}")
        if not losses:
            raise ValueError("a consistency term needs the loss of at least one head")
        self.pseudo_labeler = pseudo_labeler
        self.losses = dict(losses)
        self.student_view = student_view
        self.source_view = source_view
        self.ramp = ramp if ramp is not None else ConstantRamp(1.0)
        self.stream = stream
        self.labels = {head: (labels or {}).get(head, head) for head in losses}
