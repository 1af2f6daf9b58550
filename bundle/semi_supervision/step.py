"""One training step: the forward passes of both streams, all losses and the objective."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn

from bundle.semi_supervision.consistency import ConsistencyTerm
from bundle.semi_supervision.regularizers import Regularizer
from bundle.types import GATE, IMAGE, Batch, Heads, PseudoLabel, Scalars, View, Viewed, detached


class UnchangedView:
    """The batch without a view."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def transform_label(self, label: PseudoLabel) -> PseudoLabel:
        """Return the pseudo-label unchanged."""
        return label


@dataclass
class ForwardPasses:
    """Forward passes of one step, cached by stream and view, so that none is made twice."""

    network: nn.Module
    streams: Mapping[str, Batch]
    student_passes: frozenset[tuple[str, int]]
    views: dict[tuple[str, int], Viewed] = field(default_factory=dict)
    student_heads: dict[tuple[str, int], Heads] = field(default_factory=dict)
    source_heads: dict[tuple[str, int], Heads] = field(default_factory=dict)
    labels: dict[tuple[str, int, int], dict[str, PseudoLabel]] = field(default_factory=dict)

    def view(self, stream: str, view: View | None) -> Viewed:
        """Return the batch of a stream in a view, with the same random draw for all callers in this step."""
        key = (stream, id(view))
        if key not in self.views:
            batch = self.streams[stream]
            self.views[key] = UnchangedView(batch) if view is None else view(batch)
        return self.views[key]

    def student(self, stream: str, view: View | None) -> Heads:
        """Return the student's heads, with gradient."""
        key = (stream, id(view))
        if key not in self.student_heads:
            image = self.view(stream, view).batch[IMAGE]
            with torch.enable_grad():  # a pseudo-labeler may be the first caller
                self.student_heads[key] = self.network.heads(image)  # type: ignore[operator]
        return self.student_heads[key]

    def source(self, stream: str, view: View | None) -> Heads:
        """Return the student's heads without gradient; from the student's own pass if it has the same view."""
        key = (stream, id(view))
        if key in self.student_passes:
            return detached(self.student(stream, view))
        if key not in self.source_heads:
            with torch.no_grad():
                self.source_heads[key] = self.network.heads(self.view(stream, view).batch[IMAGE])  # type: ignore[operator]
        return detached(self.source_heads[key])

    @torch.no_grad()
    def pseudo_labels(self, term: ConsistencyTerm, progress: float) -> dict[str, PseudoLabel]:
        """Return the pseudo-labels of a term in its student view; terms may share a pseudo-labeler."""
        key = (term.stream, id(term.source_view), id(term.pseudo_labeler))
        if key not in self.labels:
            batch = self.view(term.stream, term.source_view).batch
            heads = self.source(term.stream, term.source_view) if term.pseudo_labeler.needs_heads else {}
            self.labels[key] = term.pseudo_labeler(batch, heads, progress)
        student_view = self.view(term.stream, term.student_view)
        return {head: student_view.transform_label(label) for head, label in self.labels[key].items()}


class Step(nn.Module):
    """Compute the loss of a method for one labeled and one unlabeled batch.

    The step shares the bare network. DistributedDataParallel wraps the step, not the network, so that both streams lie
    inside one forward call and gradients are synchronized once. The optimizer gets the parameters of the network and of
    the objective.

    Args:
        network: network with named heads.
        targets: head -> key of its target in the labeled batch. May be empty if a consistency term uses the labeled
            stream.
        losses: head -> loss ``(prediction, target)`` on labeled images, for the same heads.
        objective: combines all losses into one number.
        consistency: name -> consistency term; empty for supervised training.
        regularizers: name -> loss without a target.
        labeled_view: augmentation of the labeled batch on the device, such as color jitter. It must not move pixels,
            because targets are made before it. ``None`` uses the batch as it is.
        unlabeled_first: whether the forward passes of the unlabeled batch come first. The order only matters for the
            running statistics of batch normalization.

    Raises:
        ValueError: if targets and losses do not name the same heads, or nothing is learned from labeled images.
    """

    def __init__(
        self,
        network: nn.Module,
        targets: Mapping[str, str],
        losses: Mapping[str, Callable],
        objective: nn.Module,
        consistency: Mapping[str, ConsistencyTerm] | None = None,
        regularizers: Mapping[str, Regularizer] | None = None,
        labeled_view: View | None = None,
        unlabeled_first: bool = False,
    ) -> None:
        super().__init__()
        if set(targets) != set(losses):
            raise ValueError(f"targets name the heads {sorted(targets)}, losses {sorted(losses)}: not the same")
        if not targets and not any(term.stream == "labeled" for term in (consistency or {}).values()):
            raise ValueError("nothing is learned from labeled images: set targets, or a term on the labeled stream")
        self.network = network
        self.targets = dict(targets)
        self.losses = dict(losses)
        self.objective = objective
        self.consistency = nn.ModuleDict(consistency or {})
        self.regularizers = nn.ModuleDict(regularizers or {})
        self.labeled_view = labeled_view
        self.unlabeled_first = unlabeled_first
        students = {("labeled", id(None))}
        students |= {(term.stream, id(term.student_view)) for term in self._consistency.values()}
        students |= {(term.stream, id(term.student_view)) for term in self._regularizers.values()}
        self._student_passes = frozenset(students)

    @property
    def needs_unlabeled(self) -> bool:
        """Whether any consistency term or regularizer uses unlabeled images."""
        return any(part.stream == "unlabeled" for part in [*self._consistency.values(), *self._regularizers.values()])

    def forward(self, labeled: Batch, unlabeled: Batch | None, progress: float) -> Scalars:
        """Compute all losses and the objective.

        Args:
            labeled: batch with ``image`` (B, 3, H, W) and the targets.
            unlabeled: batch with ``image``, or ``None``.
            progress: share of the training that is done, in [0, 1].

        Returns:
            ``loss`` with gradient. For logging, without gradient: single losses (``labeled/seg``,
            ``unlabeled/gates/seg``), share of foreground in pseudo-labels (``foreground/gates/seg``), values of the
            objective, and gate weights (B, K) of both streams (``unlabeled/gate_seg``).
        """
        if self.labeled_view is not None:
            labeled = self.labeled_view(labeled).batch
        streams = {"labeled": labeled} if unlabeled is None else {"labeled": labeled, "unlabeled": unlabeled}
        passes = ForwardPasses(self.network, streams, self._student_passes)
        if not self.unlabeled_first:
            passes.student("labeled", None)
        unlabeled_losses, log = self._consistency_losses(passes, progress)
        heads = passes.student("labeled", None)
        labeled_losses = {
            head: self.losses[head](heads[head].float(), labeled[key]) for head, key in self.targets.items()
        }
        total, weights = self.objective(labeled_losses, unlabeled_losses, progress)
        for name, term in self._regularizers.items():
            if term.stream in streams:
                value = term(passes.student(term.stream, term.student_view), progress)
                log[f"regularizer/{name}"] = value
                total = total + term.ramp(progress) * value
        log |= {f"labeled/{name}": loss for name, loss in labeled_losses.items()} | weights | self._gates(passes)
        return {"loss": total} | detached(log)

    def _consistency_losses(self, passes: ForwardPasses, progress: float) -> tuple[Scalars, Scalars]:
        """Return the losses of all consistency terms, times their ramps, and the numbers to log."""
        losses: Scalars = {}
        log: Scalars = {}
        for name, term in self._consistency.items():
            if term.stream not in passes.streams:
                continue
            labels = passes.pseudo_labels(term, progress)
            heads = passes.student(term.stream, term.student_view)
            weight = term.ramp(progress)
            for head, loss in term.losses.items():
                label = labels[term.labels[head]]
                pixel_weight = () if label.weight is None else (label.weight,)
                value = loss(heads[head].float(), label.target, *pixel_weight)
                losses[f"{name}/{head}"] = weight * value
                log[f"{term.stream}/{name}/{head}"] = value
                log[f"foreground/{name}/{head}"] = label.foreground()
                if label.weight is not None:
                    log[f"counted/{name}/{head}"] = label.weight.mean()
                log[f"ramp/{name}"] = value.new_full((), weight)
        return losses, log

    @staticmethod
    def _gates(passes: ForwardPasses) -> dict[str, Tensor]:
        """Return gate weights (B, K) of the student's passes; of several views of a stream, the last."""
        return {
            f"{stream}/{name}": head
            for (stream, _), heads in passes.student_heads.items()
            for name, head in heads.items()
            if name.startswith(GATE)
        }

    @property
    def _consistency(self) -> Mapping[str, ConsistencyTerm]:
        return cast("Mapping[str, ConsistencyTerm]", self.consistency)

    @property
    def _regularizers(self) -> Mapping[str, Regularizer]:
        return cast("Mapping[str, Regularizer]", self.regularizers)
