"""Pseudo-labelers: forms, confidence, and that what they write carries no gradient."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from bundle.semi_supervision import HeadPseudoLabeler, MeanPseudoLabeler, TeacherPseudoLabeler, to_target
from bundle.types import Heads

LOGITS = torch.tensor([[[[2.0, -1.0]], [[0.0, 1.0]]]])
"""(1, 2, 1, 2): classes 0 and 1, with probability sigmoid(2) = 0.8808 each."""


class Teacher(nn.Module):
    """Batch normalization and a head; says what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.head = nn.Conv2d(3, 2, 1)
        self.modes: list[bool] = []

    def heads(self, image: Tensor) -> Heads:
        self.modes.append(self.training)
        return {"seg": self.head(self.norm(image))}


def test_hard_is_a_class_index() -> None:
    target = to_target(LOGITS, "hard")
    assert target.dtype == torch.int64
    assert torch.equal(target, torch.tensor([[[[0, 1]]]]))


def test_soft_is_a_probability() -> None:
    expected = torch.tensor([[[[0.8808, 0.1192]], [[0.1192, 0.8808]]]])
    torch.testing.assert_close(to_target(LOGITS, "soft"), expected, atol=1e-4, rtol=0)


def test_tanh_is_a_signed_distance() -> None:
    expected = torch.tensor([[[[0.9640, -0.7616]]]])
    torch.testing.assert_close(to_target(LOGITS[:, :1], "tanh"), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("form", ["soft", "tanh"])
def test_numbers_are_written_in_float32(form: str) -> None:
    assert to_target(LOGITS.half(), form).dtype == torch.float32


@pytest.mark.parametrize(("confidence", "weights"), [(0.0, [0.0, 0.7616, 0.0, 1.0]), (0.9, [0.0, 0.0, 0.0, 1.0])])
def test_certainty_weights_the_pixels_that_pass_the_filter(confidence: float, weights: list[float]) -> None:
    """Largest probabilities of 1/2, 0.8808, 1/2 and 1: the weights are 2 p - 1, and 0 below the confidence."""
    logits = torch.tensor([[[[0.0, 2.0, 5.0, 99.0]], [[0.0, 0.0, 5.0, 0.0]]]], requires_grad=True)
    labeler = HeadPseudoLabeler({"seg": "peer"}, {"seg": "hard"}, confidence, reweighted=True)
    label = labeler({}, {"peer": logits}, 0.0)["seg"]
    assert label.weight is not None
    assert not label.weight.requires_grad
    torch.testing.assert_close(label.weight.flatten(), torch.tensor(weights), atol=1e-4, rtol=0)
    distance = HeadPseudoLabeler({"sdf": "peer"}, {"sdf": "tanh"}, confidence, reweighted=True)
    assert distance({}, {"peer": logits[:, :1]}, 0.0)["sdf"].weight is None
    three = HeadPseudoLabeler({"seg": "peer"}, {"seg": "hard"}, reweighted=True)
    undecided = three({}, {"peer": torch.zeros(1, 3, 1, 1)}, 0.0)["seg"].weight
    assert undecided is not None
    assert undecided.item() == pytest.approx(0.0, abs=1e-6)


def test_another_form_is_refused() -> None:
    with pytest.raises(ValueError, match="'hard', 'soft' or 'tanh', got 'sharp'"):
        to_target(LOGITS, "sharp")


def test_sources_and_forms_name_the_same_heads() -> None:
    with pytest.raises(ValueError, match=r"sources name the heads \['seg'\], forms \['sdf'\]"):
        HeadPseudoLabeler({"seg": "fused_seg"}, {"sdf": "tanh"})


def test_heads_write_for_one_another_without_gradient() -> None:
    heads = {
        "fused_seg": LOGITS.clone().requires_grad_(),
        "fused_sdf": LOGITS[:, :1].clone().requires_grad_(),
        "fused_boundary": -LOGITS.clone().requires_grad_(),
    }
    pseudo_labeler = HeadPseudoLabeler(
        {"seg": "fused_seg", "sdf": "fused_sdf", "boundary": "fused_boundary"},
        {"seg": "hard", "sdf": "tanh", "boundary": "soft"},
    )
    labels = pseudo_labeler({}, heads, 0.5)
    assert torch.equal(labels["seg"].target, to_target(LOGITS, "hard"))
    assert torch.equal(labels["sdf"].target, to_target(LOGITS[:, :1], "tanh"))
    assert torch.equal(labels["boundary"].target, to_target(-LOGITS, "soft"))
    assert {label.weight for label in labels.values()} == {None}
    assert not any(label.target.requires_grad for label in labels.values())


def test_peers_teach_each_other() -> None:
    heads = {"seg": LOGITS, "peer": -LOGITS}
    labels = HeadPseudoLabeler({"seg": "peer", "peer": "seg"}, {"seg": "hard", "peer": "hard"})({}, heads, 0.0)
    assert labels["seg"].target.flatten().tolist() == [1, 0]
    assert labels["peer"].target.flatten().tolist() == [0, 1]


@pytest.mark.parametrize("form", ["hard", "soft"])
def test_pixels_below_the_confidence_get_no_weight(form: str) -> None:
    """Largest probabilities sigmoid(0.4) = 0.599, sigmoid(3) = 0.953, sigmoid(2.9) = 0.948, exactly one half."""
    first = torch.tensor([0.4, -3.0, 2.9, 0.0])
    logits = torch.stack([first, torch.zeros(4)])[None, :, None]
    label = HeadPseudoLabeler({"seg": "weak"}, {"seg": form}, confidence=0.95)({}, {"weak": logits}, 0.0)["seg"]
    assert label.weight is not None
    assert label.weight.shape == (1, 1, 1, 4)
    assert label.weight.flatten().tolist() == [0.0, 1.0, 0.0, 0.0]
    assert torch.equal(label.target, to_target(logits, form))


def test_pixels_where_another_head_disagrees_get_no_weight() -> None:
    logits = torch.tensor([[[[-1.0, -1.0, 3.0, 3.0]], [[1.0, 1.0, 0.0, 0.0]]]])  # foreground twice, background twice
    distance = torch.tensor([[[[0.3, -0.3, -0.3, 0.3]]]])
    heads = {"fused": logits, "sdf": distance, "peer": logits[..., [0, 1, 2, 0]]}

    def weight(*agreement: str, confidence: float = 0.0) -> list[float]:
        pseudo_labeler = HeadPseudoLabeler({"seg": "fused"}, {"seg": "hard"}, confidence, agreement)
        label = pseudo_labeler({}, heads, 0.0)["seg"].weight
        assert label is not None
        assert label.shape == (1, 1, 1, 4)
        return label.flatten().tolist()

    assert weight("fused") == [1, 1, 1, 1]
    assert weight("sdf") == [1, 0, 1, 0]
    assert weight("peer") == [1, 1, 1, 0]
    assert weight("sdf", "peer", confidence=0.9) == [0, 0, 1, 0]
    label = HeadPseudoLabeler({"sdf": "sdf"}, {"sdf": "tanh"}, agreement=("fused",))({}, heads, 0.0)["sdf"]
    assert label.weight is None


def test_confidence_is_no_matter_of_signed_distances() -> None:
    pseudo_labeler = HeadPseudoLabeler({"seg": "weak", "sdf": "far"}, {"seg": "hard", "sdf": "tanh"}, confidence=0.9)
    labels = pseudo_labeler({}, {"weak": LOGITS, "far": LOGITS[:, :1]}, 0.0)
    assert labels["seg"].weight is not None
    assert labels["sdf"].weight is None


def test_a_teacher_answers_in_evaluation_mode_and_stays_as_it_is() -> None:
    teacher = Teacher().train()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    pseudo_labeler = TeacherPseudoLabeler(teacher, {"seg": "seg"}, {"seg": "soft"})
    assert not pseudo_labeler.needs_heads
    image = torch.randn(2, 3, 4, 4, requires_grad=True) + 5
    label = pseudo_labeler({"image": image}, {}, 0.0)["seg"]
    assert teacher.modes == [False]
    assert not label.target.requires_grad
    torch.testing.assert_close(label.target, teacher.heads(image)["seg"].softmax(dim=1).detach())
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


def test_a_teacher_is_no_part_of_the_pseudo_labeler() -> None:
    """Neither the optimizer nor DistributedDataParallel nor train() reaches it."""
    teacher = Teacher().eval()
    pseudo_labeler = TeacherPseudoLabeler(teacher, {"seg": "seg"}, {"seg": "soft"}).train()
    assert list(pseudo_labeler.parameters()) == list(pseudo_labeler.buffers()) == []
    assert not teacher.training


def test_a_teacher_may_be_unsure_too() -> None:
    label = TeacherPseudoLabeler(Teacher(), {"seg": "seg"}, {"seg": "hard"}, confidence=0.999)(
        {"image": torch.zeros(1, 3, 2, 2)}, {}, 0.0
    )["seg"]
    assert label.weight is not None
    assert not label.weight.any()


def three_heads() -> dict[str, torch.Tensor]:
    """Three heads of one pixel, with probabilities 0.9, 0.2 and 0.5 of class 1."""
    chances = {"one": 0.9, "two": 0.2, "other": 0.5}
    return {
        name: torch.tensor([1 - chance, chance]).log().view(1, 2, 1, 1).add(3.0).requires_grad_()
        for name, chance in chances.items()
    }


def test_the_mean_of_probabilities_labels_its_sources() -> None:
    """And not of logits, which would give 0.6."""
    labels = MeanPseudoLabeler(["one", "two"])({}, three_heads(), 0.5)
    assert set(labels) == {"one", "two"}
    for label in labels.values():
        assert label.weight is None
        assert not label.target.requires_grad
        torch.testing.assert_close(label.target.flatten(), torch.tensor([0.45, 0.55]))


def test_a_mean_may_label_other_heads() -> None:
    labels = MeanPseudoLabeler(["one", "two"], heads=["other"])({}, three_heads(), 0.5)
    assert set(labels) == {"other"}
    torch.testing.assert_close(labels["other"].target.sum(dim=1), torch.ones(1, 1, 1))


def test_a_mean_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one source head"):
        MeanPseudoLabeler([])
