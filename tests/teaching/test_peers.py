"""Other methods, sketched with tiny networks: each is a choice of parts for the one step.

What a sketch adds beside the bundle's parts (a labeler, a loss, a view of a few lines) is what such a method would
add to it. Every sketch must teach its student and leave its source alone.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from monai.losses import DiceLoss
from torch import Tensor, nn

from bundle.teaching import (
    BalanceRegularizer,
    ConstantRamp,
    EntropyRegularizer,
    HeadLabeler,
    Lesson,
    LinearRamp,
    Regularizer,
    SigmoidRamp,
    Step,
    TeacherLabeler,
    WeightedSum,
)
from bundle.types import Batch, HeadNetwork, Heads, PseudoLabel, Scalars, Viewed

DICE = DiceLoss(softmax=True, to_onehot_y=True)
SIDE = 8


def soft_mse(prediction: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean squared error of probabilities over the pixels that count."""
    squared = (prediction.softmax(dim=1) - target) ** 2
    if weight is None:
        return squared.mean()
    return (squared * weight).sum() / (weight.sum() * squared.shape[1]).clamp_min(1.0)


def masked_cross_entropy(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Cross-entropy over the pixels that count."""
    each = nn.functional.cross_entropy(prediction, target[:, 0], reduction="none")
    return (each * weight[:, 0]).sum() / weight.sum().clamp_min(1.0)


def entropy_of(probabilities: Tensor) -> Tensor:
    """Entropy of each pixel (B, 1, H, W) in nats."""
    return torch.special.entr(probabilities).sum(dim=1, keepdim=True)


class Branches(nn.Module):
    """Named branches side by side, with a gate over them where asked."""

    def __init__(self, *names: str, gate: bool = False) -> None:
        super().__init__()
        self.branches = nn.ModuleDict({name: self._branch() for name in names})
        self.gate = nn.Linear(3, len(names)) if gate else None
        self.passes = 0

    @staticmethod
    def _branch() -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 2, 1))

    def heads(self, image: Tensor) -> Heads:
        self.passes += 1
        answers = {name: branch(image) for name, branch in self.branches.items()}
        if self.gate is not None:
            shares = self.gate(image.mean(dim=(2, 3))).softmax(dim=1)
            stacked = torch.stack([answer.softmax(dim=1) for answer in answers.values()], dim=1)
            mixed = torch.einsum("bk,bkchw->bchw", shares, stacked)
            answers |= {"seg": mixed.clamp_min(1e-8).log(), "gate_seg": shares}
        return answers


class Auxiliary(nn.Module):
    """One encoder, a main head and heads on perturbed features (CCT), perturbed in training alone."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU())
        self.main = nn.Conv2d(6, 2, 1)
        self.auxiliary = nn.ModuleList([nn.Conv2d(6, 2, 1) for _ in range(3)])

    def heads(self, image: Tensor) -> Heads:
        features = self.encoder(image)
        answers = {"seg": self.main(features)}
        for index, head in enumerate(self.auxiliary):
            answers[f"aux_{index}"] = head(nn.functional.dropout(features, 0.3, self.training))
        return answers


class Noise:
    """Gaussian noise, sd 0.1, cut at 0.2; drawn anew each time."""

    @dataclass
    class Shown:
        batch: Batch

        def carry(self, label: PseudoLabel) -> PseudoLabel:
            return label

    def __call__(self, batch: Batch) -> Viewed:
        noise = (0.1 * torch.randn_like(batch["image"])).clamp(-0.2, 0.2)
        return self.Shown(batch | {"image": batch["image"] + noise})


@dataclass
class UncertainTeacher:
    """The teacher's mean over noisy passes, where its entropy is low enough (Yu 2019)."""

    teacher: HeadNetwork
    passes: int = 8
    noise: Noise = field(default_factory=Noise)
    needs_heads: bool = False

    def __call__(self, batch: Batch, heads: Heads, progress: float) -> dict[str, PseudoLabel]:
        answers = [self.teacher.heads(self.noise(batch).batch["image"])["seg"].softmax(1) for _ in range(self.passes)]
        mean = torch.stack(answers).mean(dim=0)
        threshold = (0.75 + 0.25 * progress) * math.log(mean.shape[1])
        return {"seg": PseudoLabel(mean, (entropy_of(mean) < threshold).float())}


@dataclass
class MeanOfHeads:
    """The mean of some heads teaches each of them, less where a head strays from it (URPC, K experts)."""

    names: tuple[str, ...]
    weigh: bool = False
    needs_heads: bool = True

    def __call__(self, batch: Batch, heads: Heads, progress: float) -> dict[str, PseudoLabel]:
        each = {name: heads[name].softmax(dim=1) for name in self.names}
        mean = torch.stack(list(each.values())).mean(dim=0)
        return {name: PseudoLabel(mean, self._weight(own, mean) if self.weigh else None) for name, own in each.items()}

    @staticmethod
    def _weight(own: Tensor, mean: Tensor) -> Tensor:
        return torch.exp(-(own * (own / mean).log()).sum(dim=1, keepdim=True))


class HeadVariance(Regularizer):
    """Mean divergence of some heads from their mean (URPC)."""

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__(ConstantRamp())
        self.names = names

    def forward(self, heads: Heads, progress: float) -> Tensor:
        each = torch.stack([heads[name].softmax(dim=1) for name in self.names])
        return (each * (each / each.mean(dim=0)).log()).sum(dim=2).mean()


@dataclass
class SparseLabels:
    """The annotation where there is one, else the teacher where it is sure, else nothing (arXiv 2603.08605)."""

    teacher: HeadNetwork
    threshold: LinearRamp
    ignored: int = 255
    needs_heads: bool = False

    def __call__(self, batch: Batch, heads: Heads, progress: float) -> dict[str, PseudoLabel]:
        sparse = batch["sparse"]
        confidence, answer = self.teacher.heads(batch["image"])["seg"].softmax(dim=1).max(dim=1, keepdim=True)
        known = sparse != self.ignored
        counts = known | (confidence > self.threshold(progress))
        return {"seg": PseudoLabel(torch.where(known, sparse, answer), counts.float())}


class OnlyTaught(nn.Module):
    """An objective that leaves the labeled part out, so that what the unlabeled images teach is seen."""

    def forward(self, labeled: Scalars, unlabeled: Scalars, progress: float) -> tuple[Tensor, Scalars]:
        parts = [0.0 * part for part in labeled.values()]
        return torch.stack([*parts, *unlabeled.values()]).sum(), {}


@dataclass
class Sketch:
    """A method: student, teacher, and the step that joins them; `source` names parameters that only write."""

    student: nn.Module
    parts: dict[str, Any]
    teacher: nn.Module | None = None
    target: str = "seg"
    source: tuple[str, ...] = ()

    def step(self, objective: nn.Module) -> Step:
        return Step(self.student, {self.target: "label"}, {self.target: DICE}, objective, **self.parts)


def teacher_of(student: nn.Module) -> nn.Module:
    """A moving average some way behind its student."""
    teacher = copy.deepcopy(student).eval().requires_grad_(False)
    for parameter in teacher.parameters():
        parameter.add_(0.2 * torch.randn_like(parameter))
    return teacher


def mean_teacher() -> Sketch:
    student = Branches("seg")
    teacher = teacher_of(student)
    labeler = TeacherLabeler(teacher, {"seg": "seg"}, {"seg": "soft"})
    lesson = Lesson(labeler, {"seg": soft_mse}, Noise(), Noise(), SigmoidRamp(5.0))
    return Sketch(student, {"lessons": {"average": lesson}}, teacher)


def entropy() -> Sketch:
    return Sketch(Branches("seg"), {"regularizers": {"entropy": EntropyRegularizer("seg", LinearRamp(1.0))}})


def uncertainty_mean_teacher() -> Sketch:
    student = Branches("seg")
    teacher = teacher_of(student)
    lesson = Lesson(UncertainTeacher(teacher), {"seg": soft_mse}, Noise(), ramp=SigmoidRamp(0.1))
    return Sketch(student, {"lessons": {"average": lesson}}, teacher)


def cct() -> Sketch:
    names = [f"aux_{index}" for index in range(3)]
    labeler = HeadLabeler(dict.fromkeys(names, "seg"), dict.fromkeys(names, "soft"))
    lesson = Lesson(labeler, dict.fromkeys(names, soft_mse), ramp=LinearRamp(1.0))
    return Sketch(Auxiliary(), {"lessons": {"main": lesson}}, source=("main",))


def cps() -> Sketch:
    labeler = HeadLabeler({"seg": "peer", "peer": "seg"}, {"seg": "hard", "peer": "hard"})
    lesson = Lesson(labeler, {"seg": DICE, "peer": DICE}, ramp=LinearRamp(5.0))
    return Sketch(Branches("seg", "peer"), {"lessons": {"peers": lesson}})


def urpc() -> Sketch:
    names = ("seg", "scale_1", "scale_2", "scale_3")
    lesson = Lesson(MeanOfHeads(names, weigh=True), dict.fromkeys(names, soft_mse))
    return Sketch(Branches(*names), {"lessons": {"mean": lesson}, "regularizers": {"variance": HeadVariance(names)}})


def fixmatch() -> Sketch:
    labeler = HeadLabeler({"seg": "seg"}, {"seg": "hard"}, confidence=0.55)
    return Sketch(Branches("seg"), {"lessons": {"weak": Lesson(labeler, {"seg": masked_cross_entropy}, Noise())}})


def k_experts() -> Sketch:
    names = ("expert_0", "expert_1", "expert_2")
    parts = {
        "lessons": {"mean": Lesson(MeanOfHeads(names), dict.fromkeys(names, soft_mse))},
        "regularizers": {"balance": BalanceRegularizer("gate_seg", ConstantRamp(0.01))},
    }
    return Sketch(Branches(*names, gate=True), parts)


def weak_teacher() -> Sketch:
    student = Branches("seg")
    teacher = teacher_of(student)
    labeler = SparseLabels(teacher, LinearRamp(maximum=0.25, initial=0.95))
    lesson = Lesson(labeler, {"seg": masked_cross_entropy}, stream="labeled")
    return Sketch(student, {"lessons": {"fused": lesson}}, teacher)


METHODS = [mean_teacher, entropy, uncertainty_mean_teacher, cct, cps, urpc, fixmatch, k_experts, weak_teacher]


def streams() -> tuple[Batch, Batch]:
    """A labeled batch, whose sparse label knows a quarter of the pixels, and an unlabeled one."""
    labels = torch.randint(0, 2, (2, 1, SIDE, SIDE))
    sparse = labels.clone()
    sparse[..., SIDE // 2 :, :] = sparse[..., SIDE // 2 :] = 255
    image = torch.randn(2, 3, SIDE, SIDE)
    return {"image": image, "label": labels, "sparse": sparse}, {"image": torch.randn(2, 3, SIDE, SIDE)}


def unlabeled_gradient(sketch: Sketch, progress: float = 1.0) -> dict[str, Tensor]:
    """What the lessons and terms alone teach each parameter of the student."""
    sketch.student.zero_grad()
    sketch.step(OnlyTaught())(*streams(), progress)["loss"].backward()
    found = {}
    for name, parameter in sketch.student.named_parameters():
        found[name] = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
    return found


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__name__)
def test_a_method_teaches_its_student_and_leaves_its_source_alone(method: Callable[[], Sketch]) -> None:
    sketch = method()
    before = {} if sketch.teacher is None else copy.deepcopy(sketch.teacher.state_dict())
    found = unlabeled_gradient(sketch)
    assert all(gradient.isfinite().all() for gradient in found.values())
    wrote = {name for name in found if name.split(".")[0] in sketch.source}
    assert len(wrote) >= len(sketch.source)
    assert not any(found[name].any() for name in wrote)
    # a bias before batch normalisation moves nothing
    taught = {name for name in found.keys() - wrote if not name.endswith(".0.bias")}
    assert all(found[name].any() for name in taught)
    if sketch.teacher is not None:
        assert all(torch.equal(value, before[name]) for name, value in sketch.teacher.state_dict().items())
        inside = {id(parameter) for parameter in sketch.step(OnlyTaught()).parameters()}
        assert not inside & {id(parameter) for parameter in sketch.teacher.parameters()}


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__name__)
def test_a_method_learns(method: Callable[[], Sketch]) -> None:
    """A few steps on the same two batches lower the loss."""
    sketch = method()
    step = sketch.step(WeightedSum())
    optimizer = torch.optim.Adam(step.parameters(), lr=0.02)
    labeled, unlabeled = streams()
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        result = step(labeled, unlabeled if step.needs_unlabeled else None, 1.0)
        result["loss"].backward()
        optimizer.step()
        losses.append(result["loss"].item())
    assert sum(losses[-3:]) < sum(losses[:3])


def test_cross_pseudo_supervision_is_one_pass_a_stream() -> None:
    sketch = cps()
    sketch.step(WeightedSum())(*streams(), 1.0)
    assert sketch.student.passes == 2


def test_a_mean_teacher_that_equals_its_student_still_disagrees_under_noise() -> None:
    """Each view draws noise of its own; were it the student's own logits, the loss would be 0."""
    sketch = mean_teacher()
    student = sketch.student.eval()  # no batch statistics: without noise they would agree
    assert sketch.teacher is not None
    sketch.teacher.load_state_dict(student.state_dict())
    loss = sketch.step(OnlyTaught())(*streams(), 1.0)["unlabeled/average/seg"].item()
    assert loss > 0
    lesson: Any = sketch.parts["lessons"]["average"]
    lesson.student_view = lesson.source_view = None
    assert sketch.step(OnlyTaught())(*streams(), 1.0)["unlabeled/average/seg"].item() == pytest.approx(0.0, abs=1e-12)


def test_pixels_that_the_noisy_teacher_doubts_teach_nothing() -> None:
    """At ramp 0 only entropies below 0.75 log 2 count, later all below log 2."""
    sketch = uncertainty_mean_teacher()
    step = sketch.step(OnlyTaught())
    labeled, unlabeled = streams()
    counted = [step(labeled, unlabeled, progress)["counted/average/seg"].item() for progress in (0.0, 1.0)]
    assert 0 <= counted[0] < counted[1] <= 1
    assert sketch.teacher is not None
    for parameter in sketch.teacher.parameters():
        parameter.zero_()
    result = step(labeled, unlabeled, 0.0)  # the teacher says one half everywhere
    assert result["counted/average/seg"].item() == 0.0
    assert result["loss"].item() == 0.0


def test_unknown_pixels_of_a_sparse_label_teach_nothing() -> None:
    """With a teacher that is never sure enough: no gradient where nothing is annotated, whatever the answer there."""
    sketch = weak_teacher()
    logits: list[Tensor] = []

    def keep(module: nn.Module, inputs: Any, output: Tensor) -> None:
        output.retain_grad()
        logits.append(output)

    sketch.student.branches["seg"].register_forward_hook(keep)
    assert sketch.teacher is not None
    for parameter in sketch.teacher.parameters():
        parameter.mul_(0.01)
    labeled, _ = streams()
    result = sketch.step(OnlyTaught())(labeled, None, 0.0)
    result["loss"].backward()
    known = (labeled["sparse"] != 255).expand(-1, 2, -1, -1)
    assert logits[0].grad is not None
    assert logits[0].grad[known].all()
    assert not logits[0].grad[~known].any()
    assert result["counted/fused/seg"].item() == 0.25


def test_the_threshold_of_a_sparse_lesson_falls() -> None:
    sketch = weak_teacher()
    step = sketch.step(OnlyTaught())
    labeled, _ = streams()
    counted = [step(labeled, None, progress)["counted/fused/seg"].item() for progress in (0.0, 0.5, 1.0)]
    assert 0.25 <= counted[0] < counted[1] <= counted[2] == 1.0
