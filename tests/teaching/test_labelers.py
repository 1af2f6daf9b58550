"""Labelers: forms, confidence, and that what they write carries no gradient."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from bundle.teaching import HeadLabeler, TeacherLabeler, written
from bundle.types import Heads

LOGITS = torch.tensor([[[[2.0, -1.0]], [[0.0, 1.0]]]])
"""(1, 2, 1, 2): classes 0 and 1, with probability sigmoid(2) = 0.8808 each."""


class Teacher(nn.Module):
    """Batch normalisation and a head; says what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.head = nn.Conv2d(3, 2, 1)
        self.modes: list[bool] = []

    def heads(self, image: Tensor) -> Heads:
        self.modes.append(self.training)
        return {"seg": self.head(self.norm(image))}


def test_hard_is_a_class_index() -> None:
    target = written(LOGITS, "hard")
    assert target.dtype == torch.int64
    assert torch.equal(target, torch.tensor([[[[0, 1]]]]))


def test_soft_is_a_probability() -> None:
    expected = torch.tensor([[[[0.8808, 0.1192]], [[0.1192, 0.8808]]]])
    torch.testing.assert_close(written(LOGITS, "soft"), expected, atol=1e-4, rtol=0)


def test_tanh_is_a_signed_distance() -> None:
    expected = torch.tensor([[[[0.9640, -0.7616]]]])
    torch.testing.assert_close(written(LOGITS[:, :1], "tanh"), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("form", ["soft", "tanh"])
def test_numbers_are_written_in_float32(form: str) -> None:
    assert written(LOGITS.half(), form).dtype == torch.float32


def test_another_form_is_refused() -> None:
    with pytest.raises(ValueError, match="'hard', 'soft' or 'tanh', got 'sharp'"):
        written(LOGITS, "sharp")


def test_sources_and_forms_name_the_same_heads() -> None:
    with pytest.raises(ValueError, match=r"sources name the heads \['seg'\], forms \['sdf'\]"):
        HeadLabeler({"seg": "fused_seg"}, {"sdf": "tanh"})


def test_heads_write_for_one_another_without_gradient() -> None:
    heads = {
        "fused_seg": LOGITS.clone().requires_grad_(),
        "fused_sdf": LOGITS[:, :1].clone().requires_grad_(),
        "fused_boundary": -LOGITS.clone().requires_grad_(),
    }
    labeler = HeadLabeler(
        {"seg": "fused_seg", "sdf": "fused_sdf", "boundary": "fused_boundary"},
        {"seg": "hard", "sdf": "tanh", "boundary": "soft"},
    )
    labels = labeler({}, heads, 0.5)
    assert torch.equal(labels["seg"].target, written(LOGITS, "hard"))
    assert torch.equal(labels["sdf"].target, written(LOGITS[:, :1], "tanh"))
    assert torch.equal(labels["boundary"].target, written(-LOGITS, "soft"))
    assert {label.weight for label in labels.values()} == {None}
    assert not any(label.target.requires_grad for label in labels.values())


def test_peers_teach_each_other() -> None:
    heads = {"seg": LOGITS, "peer": -LOGITS}
    labels = HeadLabeler({"seg": "peer", "peer": "seg"}, {"seg": "hard", "peer": "hard"})({}, heads, 0.0)
    assert labels["seg"].target.flatten().tolist() == [1, 0]
    assert labels["peer"].target.flatten().tolist() == [0, 1]


@pytest.mark.parametrize("form", ["hard", "soft"])
def test_pixels_below_the_confidence_get_no_weight(form: str) -> None:
    """Largest probabilities sigmoid(0.4) = 0.599, sigmoid(3) = 0.953, sigmoid(2.9) = 0.948, exactly one half."""
    first = torch.tensor([0.4, -3.0, 2.9, 0.0])
    logits = torch.stack([first, torch.zeros(4)])[None, :, None]
    label = HeadLabeler({"seg": "weak"}, {"seg": form}, confidence=0.95)({}, {"weak": logits}, 0.0)["seg"]
    assert label.weight is not None
    assert label.weight.shape == (1, 1, 1, 4)
    assert label.weight.flatten().tolist() == [0.0, 1.0, 0.0, 0.0]
    assert torch.equal(label.target, written(logits, form))


def test_confidence_is_no_matter_of_signed_distances() -> None:
    labeler = HeadLabeler({"seg": "weak", "sdf": "far"}, {"seg": "hard", "sdf": "tanh"}, confidence=0.9)
    labels = labeler({}, {"weak": LOGITS, "far": LOGITS[:, :1]}, 0.0)
    assert labels["seg"].weight is not None
    assert labels["sdf"].weight is None


def test_a_teacher_answers_in_evaluation_mode_and_stays_as_it_is() -> None:
    teacher = Teacher().train()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    labeler = TeacherLabeler(teacher, {"seg": "seg"}, {"seg": "soft"})
    assert not labeler.needs_heads
    image = torch.randn(2, 3, 4, 4, requires_grad=True) + 5
    label = labeler({"image": image}, {}, 0.0)["seg"]
    assert teacher.modes == [False]
    assert not label.target.requires_grad
    torch.testing.assert_close(label.target, teacher.heads(image)["seg"].softmax(dim=1).detach())
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


def test_a_teacher_is_no_part_of_the_labeler() -> None:
    """Neither the optimiser nor DistributedDataParallel nor train() reaches it."""
    teacher = Teacher().eval()
    labeler = TeacherLabeler(teacher, {"seg": "seg"}, {"seg": "soft"}).train()
    assert list(labeler.parameters()) == list(labeler.buffers()) == []
    assert not teacher.training


def test_a_teacher_may_be_unsure_too() -> None:
    label = TeacherLabeler(Teacher(), {"seg": "seg"}, {"seg": "hard"}, confidence=0.999)(
        {"image": torch.zeros(1, 3, 2, 2)}, {}, 0.0
    )["seg"]
    assert label.weight is not None
    assert not label.weight.any()
