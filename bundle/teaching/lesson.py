"""Who teaches whom on which stream, in which view, how much."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn

from bundle.teaching.ramps import ConstantRamp
from bundle.types import Labeler, Ramp, View

STREAMS = ("labeled", "unlabeled")


class Lesson(nn.Module):
    """A labeler looks at the source view and writes labels; the student answers in the student view.

    Args:
        labeler: who writes.
        losses: taught head -> loss ``(prediction, target)``, called ``(prediction, target, weight)`` where the
            labeler gives weights (B, 1, H, W).
        student_view: what the student sees; ``None`` is the batch as it is. Labels are carried into it.
        source_view: what the labeler sees; it may change colours, never places.
        ramp: weight of the lesson over training; 1 where an objective brings its own.
        stream: ``unlabeled``, or ``labeled`` for lessons from sparse labels.
        labels: taught head -> name under which the labeler wrote for it, where that is not the head's own name; so
            one labeler, asked once a step, serves several lessons for one head.

    Raises:
        ValueError: for another stream, or a lesson without losses.
    """

    def __init__(
        self,
        labeler: Labeler,
        losses: Mapping[str, Callable],
        student_view: View | None = None,
        source_view: View | None = None,
        ramp: Ramp | None = None,
        stream: str = "unlabeled",
        labels: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        if stream not in STREAMS:
            raise ValueError(f"a lesson's stream is one of {STREAMS}, got {stream!r}")
        if not losses:
            raise ValueError("a lesson needs the loss of at least one head")
        self.labeler = labeler
        self.losses = dict(losses)
        self.student_view = student_view
        self.source_view = source_view
        self.ramp = ramp if ramp is not None else ConstantRamp(1.0)
        self.stream = stream
        self.labels = {head: (labels or {}).get(head, head) for head in losses}
