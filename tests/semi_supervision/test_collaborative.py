"""Generalist and specialists: how the heads check one another, are combined, and what each of them is taught."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from bundle.losses import CrossEntropyDice
from bundle.semi_supervision import CollaborativePseudoLabeler, ConstantRamp, LinearRamp
from bundle.semi_supervision.collaborative import combined_class, consistent
from bundle.types import Heads, PseudoLabel

BATCH = {"image": torch.zeros(1, 3, 1, 4)}


def said(*pixels: tuple[int, ...], sure: float = 0.8) -> Tensor:
    """Probabilities (K, 1, 3, 1, pixels) of specialists of which each finds one of its three classes probable."""
    answers = nn.functional.one_hot(torch.tensor(pixels).T, 3).float()  # (K, pixels, 3)
    return (answers * (1.5 * sure - 0.5) + 0.5 * (1 - sure)).permute(0, 2, 1)[:, None, :, None]


class Teacher(nn.Module):
    """Answers with given probabilities of the generalist (1, C, 1, W) and of the specialists (K, 1, 3, 1, W)."""

    def __init__(self, generalist: Tensor, specialists: Tensor) -> None:
        super().__init__()
        self.answers: Heads = {"seg": generalist.log()}
        self.answers |= {f"specialist_{own}": item.log() for own, item in enumerate(specialists, start=1)}
        self.asked = 0

    def heads(self, image: Tensor) -> Heads:
        assert not self.training
        self.asked += 1
        return self.answers


def sure_of(classes: list[int], sure: list[float], count: int = 3) -> Tensor:
    """Probabilities (1, count, 1, W): ``sure`` for one class, the rest shared."""
    picked = nn.functional.one_hot(torch.tensor(classes), count).T
    certain = torch.tensor(sure)
    return torch.where(picked == 1, certain, (1 - certain) / (count - 1))[None, :, None]


def row(label: PseudoLabel) -> list[int]:
    return label.target.flatten().tolist()


def kept(label: PseudoLabel) -> list[float]:
    assert label.weight is not None
    assert label.weight.shape == label.target.shape
    return label.weight.flatten().tolist()


@pytest.mark.parametrize(
    ("pixels", "valid"),
    [
        ([(0, 0), (1, 2), (2, 1), (1, 1)], [True, True, True, False]),
        ([(2, 2), (0, 2), (1, 0), (0, 1)], [False, False, False, False]),
        ([(0, 0, 0), (2, 1, 2), (2, 2, 2), (1, 2, 1)], [True, True, False, False]),
        ([(1, 2, 0), (0, 0, 2), (2, 2, 1), (1, 0, 0)], [False, False, True, False]),
    ],
)
def test_a_pixel_is_valid_where_the_heads_are_consistent(pixels: list[tuple[int, ...]], valid: list[bool]) -> None:
    """All say background, or one says "mine" and every other "other"."""
    assert consistent(said(*pixels)).shape == (1, 1, 1, 4)
    assert consistent(said(*pixels)).flatten().tolist() == valid


@pytest.mark.parametrize("specialists", [2, 3, 4])
def test_of_all_answers_only_those_of_one_class_are_consistent(specialists: int) -> None:
    """Background, or one class: as many as there are classes."""
    every = list(itertools.product(range(3), repeat=specialists))
    valid = consistent(said(*every)).flatten().tolist()
    good = [answers for answers, is_valid in zip(every, valid, strict=True) if is_valid]
    one_class = [tuple(1 if own == claimed else 2 for own in range(specialists)) for claimed in range(specialists)]
    assert sorted(good) == sorted([(0,) * specialists, *one_class])


def test_the_combination_takes_the_mean_background_and_each_heads_own_class() -> None:
    first = torch.tensor([[0.5, 0.3, 0.2], [0.6, 0.4, 0.0], [0.7, 0.2, 0.1], [0.1, 0.1, 0.8]])
    second = torch.tensor([[0.3, 0.6, 0.1], [0.1, 0.35, 0.55], [0.2, 0.4, 0.4], [0.4, 0.2, 0.4]])
    specialists = torch.stack([first, second]).permute(0, 2, 1)[:, None, :, None]
    # means of the background: 0.4, 0.35, 0.45, 0.25; own: (0.3, 0.6), (0.4, 0.35), (0.2, 0.4), (0.1, 0.2)
    assert combined_class(specialists).flatten().tolist() == [2, 1, 0, 0]
    assert combined_class(specialists).shape == (1, 1, 1, 4)


def test_three_sources_for_each_head_and_one_question() -> None:
    generalist = sure_of([0, 1, 2, 1], [0.99, 0.97, 0.6, 0.96])
    teacher = Teacher(generalist, said((0, 0), (1, 2), (2, 1), (1, 1), sure=0.96)).train()
    labels = CollaborativePseudoLabeler(teacher, confidence=0.95)(BATCH, {}, 0.0)
    heads = ("seg", "specialist_1", "specialist_2")
    assert list(labels) == [
        *(f"{source}/seg" for source in ("own", "combined", "agreed")),
        *(f"{source}/{head}" for head in heads[1:] for source in ("own", "combined", "agreed")),
    ]
    assert teacher.asked == 1
    assert (row(labels["own/seg"]), kept(labels["own/seg"])) == ([0, 1, 2, 1], [1, 1, 0, 1])
    # both specialists claim the last pixel with the same right: class 1 comes first, and nothing is learned from it
    assert (row(labels["combined/seg"]), kept(labels["combined/seg"])) == ([0, 1, 2, 1], [1, 1, 1, 0])
    assert kept(labels["agreed/seg"]) == [1, 1, 1, 1]
    assert (row(labels["own/specialist_1"]), kept(labels["own/specialist_1"])) == ([0, 1, 2, 1], [1, 1, 1, 1])
    assert (row(labels["combined/specialist_1"]), kept(labels["combined/specialist_1"])) == ([0, 1, 2, 1], [1, 1, 0, 1])
    assert row(labels["own/specialist_2"]) == [0, 2, 1, 1]
    assert row(labels["combined/specialist_2"]) == [0, 2, 1, 2]
    assert kept(labels["agreed/specialist_2"]) == [1, 1, 1, 0]
    assert all(not label.target.requires_grad for label in labels.values())


def test_where_the_two_sides_disagree_nothing_is_agreed() -> None:
    generalist = sure_of([2, 1, 0, 0], [0.9] * 4)
    labels = CollaborativePseudoLabeler(Teacher(generalist, said((1, 2), (1, 2), (0, 0), (2, 1))))(BATCH, {}, 0.0)
    assert row(labels["combined/seg"]) == [1, 1, 0, 2]
    assert kept(labels["agreed/seg"]) == [0, 1, 1, 0]


@pytest.mark.parametrize("specialists", [2, 3, 5])
def test_any_number_of_specialists(specialists: int) -> None:
    said_by_all = said((0,) * specialists, (1, *(2,) * (specialists - 1)))
    generalist = sure_of([0, 1], [0.99, 0.99], specialists + 1)
    labels = CollaborativePseudoLabeler(Teacher(generalist, said_by_all))({"image": torch.zeros(1, 3, 1, 2)}, {}, 0.0)
    assert len(labels) == 3 * (specialists + 1)
    assert row(labels[f"combined/specialist_{specialists}"]) == [0, 2]
    assert row(labels["combined/seg"]) == [0, 1]


@pytest.mark.parametrize(("confidence", "counted"), [(0.0, 4), (0.65, 3), (ConstantRamp(0.97), 2)])
def test_the_confidence_is_a_number_or_a_ramp(confidence: float | ConstantRamp, counted: int) -> None:
    teacher = Teacher(sure_of([0, 1, 2, 1], [0.99, 0.98, 0.6, 0.7]), said((0, 0), (0, 0), (0, 0), (0, 0)))
    labels = CollaborativePseudoLabeler(teacher, confidence)(BATCH, {}, 0.5)
    assert sum(kept(labels["own/seg"])) == sum(kept(labels["combined/specialist_1"])) == counted


def test_a_ramp_follows_progress() -> None:
    teacher = Teacher(sure_of([0] * 4, [0.8] * 4), said(*[(0, 0)] * 4))
    pseudo_labeler = CollaborativePseudoLabeler(teacher, LinearRamp(initial=0.7, maximum=0.9))
    assert [sum(kept(pseudo_labeler(BATCH, {}, progress)["own/seg"])) for progress in (0.0, 0.4, 1.0)] == [4, 4, 0]


def test_the_mask_reaches_the_dice_term() -> None:
    """Neither cross-entropy nor Dice learns from a pixel that the specialists contradict one another about."""
    teacher = Teacher(sure_of([0, 1, 2, 1], [0.99] * 4), said((0, 0), (1, 2), (2, 1), (1, 1)))
    label = CollaborativePseudoLabeler(teacher)(BATCH, {}, 0.0)["combined/seg"]
    loss = CrossEntropyDice()
    for term in (loss, loss.cross_entropy, loss.dice):
        logits = torch.randn(1, 3, 1, 4, requires_grad=True)
        term(logits, label.target, label.weight).backward()
        assert logits.grad is not None
        assert logits.grad[..., :3].ne(0).all()
        assert not logits.grad[..., 3].any()


def test_a_teacher_without_specialists_is_refused() -> None:
    teacher = Teacher(sure_of([0], [0.9]), torch.empty(0, 1, 3, 1, 1))
    with pytest.raises(ValueError, match=r"no specialists, only \['seg'\]"):
        CollaborativePseudoLabeler(teacher)(BATCH, {}, 0.0)
