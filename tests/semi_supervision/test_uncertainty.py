"""A teacher that is asked several times: its mean, and where that counts."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from bundle.semi_supervision import ConstantRamp, LinearRamp, UncertaintyPseudoLabeler
from bundle.types import Batch, Heads, PseudoLabel


class Answers(nn.Module):
    """A teacher whose logits are the image; it remembers what it was asked, and in which mode."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Tensor] = []
        self.modes: list[bool] = []
        self.weight = nn.Parameter(torch.ones(()))

    def heads(self, image: Tensor) -> Heads:
        self.asked.append(image)
        self.modes.append(self.training)
        return {"seg": self.weight * image, "other": -image}


class Turn:
    """A view that adds 0, 1, 2, ... to the first channel, another number at each call."""

    def __init__(self, batch: Batch | None = None) -> None:
        self.calls = 0
        self.batch = batch or {}

    def __call__(self, batch: Batch) -> Turn:
        image = batch["image"].clone()
        image[:, 0] += self.calls
        self.calls += 1
        return Turn({"image": image})

    def transform_label(self, label: PseudoLabel) -> PseudoLabel:
        return label


def entropy(*probabilities: float) -> float:
    return -sum(value * math.log(value) for value in probabilities)


def test_the_label_is_the_mean_over_the_passes() -> None:
    """Softmax of (0, 0), (1, 0) and (2, 0): the mean of probabilities and not of logits."""
    teacher, view = Answers(), Turn()
    pseudo_labeler = UncertaintyPseudoLabeler(
        teacher, {"seg": "seg", "aux": "other"}, view, ConstantRamp(1.0), passes=3
    )
    labels = pseudo_labeler({"image": torch.zeros(1, 2, 1, 1)}, {}, 0.0)
    shares = [1 / (1 + math.exp(-value)) for value in (0.0, 1.0, 2.0)]
    mean = sum(shares) / 3
    assert labels["seg"].target.flatten().tolist() == pytest.approx([mean, 1 - mean])
    assert labels["aux"].target.flatten().tolist() == pytest.approx([1 - mean, mean])
    assert view.calls == len(teacher.asked) == 3
    assert teacher.modes == [False] * 3
    assert all(image.shape == (1, 2, 1, 1) for image in teacher.asked), "one after the other"
    assert not any(label.target.requires_grad for label in labels.values())


def test_pixels_count_by_the_entropy_of_the_mean_and_a_threshold_that_rises() -> None:
    """Three classes. Threshold 0.75 ln 3 at the start, 0.875 ln 3 half-way, ln 3 at the end."""
    answers = [(0.9, 0.05, 0.05), (0.6, 0.3, 0.1), (0.5, 0.3, 0.2), (0.35, 0.35, 0.3), (1 / 3, 1 / 3, 1 / 3)]
    shares = [entropy(*output) / math.log(3) for output in answers]
    assert shares[0] < 0.75 < shares[1] < 0.875 < shares[2] < shares[3] < 1.0
    image = torch.tensor(answers).T.reshape(1, 3, 1, 5).log()
    image[..., 4] = 0.0
    pseudo_labeler = UncertaintyPseudoLabeler(
        Answers(), {"seg": "seg"}, Same(), LinearRamp(initial=0.75, maximum=1.0), passes=1
    )
    counted = []
    for progress in (0.0, 0.5, 1.0):
        weight = pseudo_labeler({"image": image}, {}, progress)["seg"].weight
        assert weight is not None
        assert weight.shape == (1, 1, 1, 5)
        counted.append(weight.flatten().tolist())
    assert counted[0] == [1.0, 0.0, 0.0, 0.0, 0.0]
    assert counted[1] == [1.0, 1.0, 0.0, 0.0, 0.0]
    assert counted[2][:4] == [1.0, 1.0, 1.0, 1.0]


class Same(Turn):
    """A view that shows the batch as it is."""

    def __call__(self, batch: Batch) -> Turn:
        return Turn(batch)


def test_passes_that_disagree_are_unsure_though_each_is_sure() -> None:
    """Logits 4 - 8 n of the first class: sure of it, then sure of the other."""
    teacher = Answers()
    batch = {"image": torch.tensor([4.0, 0.0]).reshape(1, 2, 1, 1)}
    sure = UncertaintyPseudoLabeler(teacher, {"seg": "seg"}, Same(), ConstantRamp(0.75), passes=2)(batch, {}, 0.0)[
        "seg"
    ]
    with torch.no_grad():
        other = UncertaintyPseudoLabeler(teacher, {"seg": "seg"}, Flip(), ConstantRamp(0.75), passes=2)(batch, {}, 0.0)[
            "seg"
        ]
    assert sure.weight is not None
    assert other.weight is not None
    assert (sure.weight.item(), other.weight.item()) == (1.0, 0.0)


class Flip(Turn):
    """A view that swaps the channels at each second call."""

    def __call__(self, batch: Batch) -> Turn:
        self.calls += 1
        return Turn({"image": batch["image"].flip(1) if self.calls % 2 else batch["image"]})


def test_the_teacher_is_no_part_of_the_pseudo_labeler_and_one_pass_is_the_least() -> None:
    pseudo_labeler = UncertaintyPseudoLabeler(Answers(), {"seg": "seg"}, Turn(), ConstantRamp(1.0))
    assert list(pseudo_labeler.parameters()) == []
    assert not pseudo_labeler.needs_heads
    with pytest.raises(ValueError, match="1 or more, got"):
        UncertaintyPseudoLabeler(Answers(), {"seg": "seg"}, Turn(), ConstantRamp(1.0), passes=0)
