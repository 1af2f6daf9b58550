"""Pseudo-labelers: modules that make the targets of unlabeled images.

A pseudo-labeler is called as ``(batch, heads, progress)`` and returns ``{head: PseudoLabel}`` without gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from bundle.types import Batch, HeadNetwork, Heads, PseudoLabel


def to_target(logits: Tensor, form: str) -> Tensor:
    """Convert the output of a head to a target for a loss.

    Args:
        logits: (B, C, H, W); C is 1 for ``tanh``.
        form: ``hard`` (class indices (B, 1, H, W)), ``soft`` (probabilities (B, C, H, W)) or ``tanh`` (signed
            distances in [-1, 1]).

    Raises:
        ValueError: if ``form`` is none of these.
    """
    if form == "hard":
        return logits.argmax(dim=1, keepdim=True)
    if form == "soft":
        return logits.float().softmax(dim=1)
    if form == "tanh":
        return logits.float().tanh()
    raise ValueError(f"a pseudo-label's form is 'hard', 'soft' or 'tanh', got {form!r}")


def foreground(output: Tensor) -> Tensor:
    """Return where a head predicts foreground, (B, 1, H, W), bool: another class than 0, or a positive distance.

    Args:
        output: logits (B, C, H, W), or a signed distance (B, 1, H, W).
    """
    return output > 0.0 if output.shape[1] == 1 else output.argmax(dim=1, keepdim=True) > 0


class HeadPseudoLabeler(nn.Module):
    """Use the student's own heads, detached, as pseudo-labels for its other heads.

    In Semi-MoE (eq. 5 and 6) the gated heads label the experts: ``{"seg": "fused_seg", "sdf": "fused_sdf", ...}``. In
    cross pseudo supervision (Chen et al. 2021, arXiv 2106.01226) two networks label each other:
    ``{"seg": "peer", "peer": "seg"}``.

    Args:
        sources: student head -> head that gives its pseudo-label.
        forms: student head -> ``hard``, ``soft`` or ``tanh``, see :func:`to_target`.
        confidence: pixels whose largest probability is lower get weight 0; 0 keeps all pixels. Only for ``hard`` and
            ``soft``.
        agreement: heads that must agree with the source on foreground or background, as logits or as the sign of a
            distance; pixels where one does not get weight 0. Only for ``hard`` and ``soft``.
        reweighted: whether the other pixels get the weight (p - 1/C) / (1 - 1/C), p their largest of C probabilities:
            1 if it is 1, and 0 if all classes are equally probable. Otherwise their weight is 1. Only for ``hard`` and
            ``soft``.

    A label has no weight if none of ``confidence``, ``agreement`` and ``reweighted`` is given.

    Raises:
        ValueError: if ``sources`` and ``forms`` do not name the same heads.

    Example::

        >>> pseudo_labeler = HeadPseudoLabeler({"seg": "peer"}, {"seg": "hard"}, confidence=0.9)
        >>> labels = pseudo_labeler({}, {"peer": torch.tensor([[[[0.0]], [[5.0]]]])}, progress=0.0)
        >>> labels["seg"].target.item(), labels["seg"].weight.item()
        (1, 1.0)
    """

    needs_heads = True

    def __init__(
        self,
        sources: Mapping[str, str],
        forms: Mapping[str, str],
        confidence: float = 0.0,
        agreement: Sequence[str] = (),
        reweighted: bool = False,
    ) -> None:
        super().__init__()
        if set(sources) != set(forms):
            raise ValueError(f"sources name the heads {sorted(sources)}, forms {sorted(forms)}: they must be the same")
        self.sources = dict(sources)
        self.forms = dict(forms)
        self.confidence = confidence
        self.agreement = tuple(agreement)
        self.reweighted = reweighted

    @torch.no_grad()
    def forward(self, batch: Batch, heads: Heads, progress: float) -> dict[str, PseudoLabel]:
        """Return one pseudo-label for each student head."""
        others = [heads[name].detach() for name in self.agreement]
        return {head: self._label(heads[source], self.forms[head], others) for head, source in self.sources.items()}

    def _label(self, logits: Tensor, form: str, others: Sequence[Tensor]) -> PseudoLabel:
        logits = logits.detach()
        if form == "tanh":
            return PseudoLabel(to_target(logits, form))
        weights = [(foreground(other) == foreground(logits)).float() for other in others]
        if self.confidence > 0.0 or self.reweighted:
            largest = logits.float().softmax(dim=1).amax(dim=1, keepdim=True)
            weights += [(largest >= self.confidence).float()] if self.confidence > 0.0 else []
            weights += [(largest * logits.shape[1] - 1.0) / (logits.shape[1] - 1.0)] if self.reweighted else []
        weight = torch.stack(weights).prod(dim=0) if weights else None
        return PseudoLabel(to_target(logits, form), weight)


class TeacherPseudoLabeler(HeadPseudoLabeler):
    """Use the heads of a teacher network as pseudo-labels.

    Args:
        teacher: network with named heads, for example a moving average of the student. It is held by reference, stays
            in evaluation mode and gets no gradient.
        sources: student head -> head of the teacher that gives its pseudo-label.
        forms: student head -> ``hard``, ``soft`` or ``tanh``.
        confidence: as for :class:`HeadPseudoLabeler`.
        agreement: as for :class:`HeadPseudoLabeler`; heads of the teacher.
        reweighted: as for :class:`HeadPseudoLabeler`.
    """

    needs_heads = False

    def __init__(
        self,
        teacher: HeadNetwork,
        sources: Mapping[str, str],
        forms: Mapping[str, str],
        confidence: float = 0.0,
        agreement: Sequence[str] = (),
        reweighted: bool = False,
    ) -> None:
        super().__init__(sources, forms, confidence, agreement, reweighted)
        # A tuple hides the teacher from `nn.Module`: neither DDP nor the student's train() may touch it.
        self._teacher = (teacher,)

    @torch.no_grad()
    def forward(self, batch: Batch, heads: Heads, progress: float) -> dict[str, PseudoLabel]:
        """Run the teacher on ``batch["image"]``; the student's heads are not used."""
        teacher = self._teacher[0]
        if isinstance(teacher, nn.Module):
            teacher.eval()
        return super().forward(batch, teacher.heads(batch["image"]), progress)


class MeanPseudoLabeler(nn.Module):
    """Use the mean probabilities of several heads as the pseudo-label of each: t = 1/K sum_k softmax(head_k).

    Used by uncertainty rectified pyramid consistency (Luo et al. 2021, arXiv 2012.07042), where the heads are scales of
    one decoder, and by the mixture of equal experts of the Semi-MoE project page.

    Args:
        sources: heads of logits (B, C, H, W) that are averaged.
        heads: heads that get this pseudo-label; ``None`` means ``sources``.

    Raises:
        ValueError: if ``sources`` is empty.
    """

    needs_heads = True

    def __init__(self, sources: Sequence[str], heads: Sequence[str] | None = None) -> None:
        super().__init__()
        if not sources:
            raise ValueError("a mean needs at least one source head")
        self.sources = tuple(sources)
        self.heads = self.sources if heads is None else tuple(heads)

    @torch.no_grad()
    def forward(self, batch: Batch, heads: Heads, progress: float) -> dict[str, PseudoLabel]:
        """Return the same pseudo-label, probabilities (B, C, H, W), for each student head."""
        probabilities = torch.stack([to_target(heads[name].detach(), "soft") for name in self.sources])
        return dict.fromkeys(self.heads, PseudoLabel(probabilities.mean(dim=0)))


class MaskPseudoLabeler(nn.Module):
    """Compute the pseudo-labels of all tasks from the predicted mask of one head, as targets are made from a label.

    The single-gate ablation of Semi-MoE (BMVC 2025): for a student head h, target_h = f_h(argmax source).

    Args:
        source: head of logits (B, C, H, W) whose argmax is the mask.
        targets: student head -> function of a mask (B, 1, H, W), uint8, to a target of the same shape: class index,
            signed distance or boundary. It may work on the CPU; its result is moved to the device of the mask.
    """

    needs_heads = True

    def __init__(self, source: str, targets: Mapping[str, Callable[[Tensor], Tensor]]) -> None:
        super().__init__()
        self.source = source
        self.targets = dict(targets)

    @torch.no_grad()
    def forward(self, batch: Batch, heads: Heads, progress: float) -> dict[str, PseudoLabel]:
        """Return one pseudo-label for each student head."""
        mask = heads[self.source].detach().argmax(dim=1, keepdim=True).to(torch.uint8)
        return {head: PseudoLabel(target(mask).to(mask.device)) for head, target in self.targets.items()}
