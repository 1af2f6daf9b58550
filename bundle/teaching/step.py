"""One training step: both streams through the network, all losses, one number."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn

from bundle.teaching.lesson import Lesson
from bundle.teaching.regularizers import Regularizer
from bundle.types import GATE, IMAGE, Batch, Heads, PseudoLabel, Scalars, View, Viewed, detached


class SameView:
    """A batch as it is."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def carry(self, label: PseudoLabel) -> PseudoLabel:
        """The label as it is."""
        return label


@dataclass
class Passes:
    """The passes of one step, each made once: (stream, view) -> what was shown and what the network answered."""

    network: nn.Module
    streams: Mapping[str, Batch]
    student_passes: frozenset[tuple[str, int]]
    shown: dict[tuple[str, int], Viewed] = field(default_factory=dict)
    answers: dict[tuple[str, int], Heads] = field(default_factory=dict)
    sources: dict[tuple[str, int], Heads] = field(default_factory=dict)
    labels: dict[tuple[str, int, int], dict[str, PseudoLabel]] = field(default_factory=dict)

    def show(self, stream: str, view: View | None) -> Viewed:
        """The batch of a stream in a view; the same random draw for all who ask in this step."""
        key = (stream, id(view))
        if key not in self.shown:
            batch = self.streams[stream]
            self.shown[key] = SameView(batch) if view is None else view(batch)
        return self.shown[key]

    def student(self, stream: str, view: View | None) -> Heads:
        """The student's heads, with gradient."""
        key = (stream, id(view))
        if key not in self.answers:
            with torch.enable_grad():  # a labeler may be the first to ask
                self.answers[key] = self.network.heads(self.show(stream, view).batch[IMAGE])  # type: ignore[operator]
        return self.answers[key]

    def source(self, stream: str, view: View | None) -> Heads:
        """The student's heads without gradient; from a student's pass where one sees the same view."""
        key = (stream, id(view))
        if key in self.student_passes:
            return detached(self.student(stream, view))
        if key not in self.sources:
            with torch.no_grad():
                self.sources[key] = self.network.heads(self.show(stream, view).batch[IMAGE])  # type: ignore[operator]
        return detached(self.sources[key])

    @torch.no_grad()
    def taught(self, lesson: Lesson, progress: float) -> dict[str, PseudoLabel]:
        """What the lesson's labeler writes, carried into the student's view; lessons may share a labeler."""
        key = (lesson.stream, id(lesson.source_view), id(lesson.labeler))
        if key not in self.labels:
            batch = self.show(lesson.stream, lesson.source_view).batch
            heads = self.source(lesson.stream, lesson.source_view) if lesson.labeler.needs_heads else {}
            self.labels[key] = lesson.labeler(batch, heads, progress)
        shown = self.show(lesson.stream, lesson.student_view)
        return {head: shown.carry(label) for head, label in self.labels[key].items()}


class Step(nn.Module):
    """What a method does with one labeled and one unlabeled batch.

    It shares the bare network. Under DistributedDataParallel *it* is wrapped, so that both streams lie inside one
    forward and gradients synchronise once; the optimiser gets the parameters of network and objective.

    Args:
        network: a network with named heads.
        targets: head -> key of the labeled batch that it is held to; none where a lesson on the labeled stream
            says all.
        losses: head -> loss ``(prediction, target)`` on labeled images, the same heads.
        objective: makes one number of the parts.
        lessons: name -> lesson; none for supervised training.
        regularizers: name -> term without a target.
        labeled_view: augmentation of the labeled batch on the device, such as a change of colors; it may move no
            pixel, because targets are made before it. ``None`` takes the batch as the loader gives it.

    Raises:
        ValueError: when targets and losses do not name the same heads, or labeled images teach nothing.
    """

    def __init__(
        self,
        network: nn.Module,
        targets: Mapping[str, str],
        losses: Mapping[str, Callable],
        objective: nn.Module,
        lessons: Mapping[str, Lesson] | None = None,
        regularizers: Mapping[str, Regularizer] | None = None,
        labeled_view: View | None = None,
    ) -> None:
        super().__init__()
        if set(targets) != set(losses):
            raise ValueError(f"targets name the heads {sorted(targets)}, losses {sorted(losses)}: not the same")
        if not targets and not any(lesson.stream == "labeled" for lesson in (lessons or {}).values()):
            raise ValueError("nothing is learned from labeled images: give targets, or a lesson on that stream")
        self.network = network
        self.targets = dict(targets)
        self.losses = dict(losses)
        self.objective = objective
        self.lessons = nn.ModuleDict(lessons or {})
        self.regularizers = nn.ModuleDict(regularizers or {})
        self.labeled_view = labeled_view
        students = {("labeled", id(None))}
        students |= {(lesson.stream, id(lesson.student_view)) for lesson in self._lessons.values()}
        students |= {(term.stream, id(None)) for term in self._regularizers.values()}
        self._student_passes = frozenset(students)

    @property
    def needs_unlabeled(self) -> bool:
        """Whether any lesson or term looks at unlabeled images."""
        return any(part.stream == "unlabeled" for part in [*self._lessons.values(), *self._regularizers.values()])

    def forward(self, labeled: Batch, unlabeled: Batch | None, progress: float) -> Scalars:
        """Compute all losses of one step.

        Args:
            labeled: ``image`` (B, 3, H, W) and the targets.
            unlabeled: ``image``; ``None`` where there is none.
            progress: share of training that is over, in [0, 1].

        Returns:
            ``loss``, with gradient, and to be logged, without: loss parts (``labeled/seg``,
            ``unlabeled/gates/seg``), ``foreground/gates/seg``, what the objective logs. Beside these numbers the
            gate weights (B, K) of both streams (``unlabeled/gate_seg``).
        """
        if self.labeled_view is not None:
            labeled = self.labeled_view(labeled).batch
        streams = {"labeled": labeled} if unlabeled is None else {"labeled": labeled, "unlabeled": unlabeled}
        passes = Passes(self.network, streams, self._student_passes)
        heads = passes.student("labeled", None)
        labeled_parts = {
            head: self.losses[head](heads[head].float(), labeled[key]) for head, key in self.targets.items()
        }
        taught_parts, log = self._teach(passes, progress)
        total, weights = self.objective(labeled_parts, taught_parts, progress)
        for name, term in self._regularizers.items():
            if term.stream in streams:
                value = term(passes.student(term.stream, None), progress)
                log[f"regularizer/{name}"] = value
                total = total + term.ramp(progress) * value
        log |= {f"labeled/{name}": part for name, part in labeled_parts.items()} | weights | self._gates(passes)
        return {"loss": total} | detached(log)

    def _teach(self, passes: Passes, progress: float) -> tuple[Scalars, Scalars]:
        """Loss parts of all lessons, with their ramps, and what there is to log of them."""
        parts: Scalars = {}
        log: Scalars = {}
        for name, lesson in self._lessons.items():
            if lesson.stream not in passes.streams:
                continue
            labels = passes.taught(lesson, progress)
            heads = passes.student(lesson.stream, lesson.student_view)
            weight = lesson.ramp(progress)
            for head, loss in lesson.losses.items():
                label = labels[lesson.labels[head]]
                rest = () if label.weight is None else (label.weight,)
                value = loss(heads[head].float(), label.target, *rest)
                parts[f"{name}/{head}"] = weight * value
                log[f"{lesson.stream}/{name}/{head}"] = value
                log[f"foreground/{name}/{head}"] = label.foreground()
                if label.weight is not None:
                    log[f"counted/{name}/{head}"] = label.weight.mean()
                log[f"ramp/{name}"] = value.new_full((), weight)
        return parts, log

    @staticmethod
    def _gates(passes: Passes) -> dict[str, Tensor]:
        """Gate weights (B, K) of the student's passes; of several views of a stream, the last."""
        return {
            f"{stream}/{name}": head
            for (stream, _), heads in passes.answers.items()
            for name, head in heads.items()
            if name.startswith(GATE)
        }

    @property
    def _lessons(self) -> Mapping[str, Lesson]:
        return cast("Mapping[str, Lesson]", self.lessons)

    @property
    def _regularizers(self) -> Mapping[str, Regularizer]:
        return cast("Mapping[str, Regularizer]", self.regularizers)
