"""Annotations and a teacher, fused: no annotated pixel is changed, and the others count where the teacher is sure."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bundle.losses import CrossEntropy, CrossEntropyDice, Dice
from bundle.semi_supervision import ConsistencyTerm, CosineRamp, FusionPseudoLabeler, Step, WeightedSum
from bundle.types import IGNORE, Batch, Heads, PseudoLabel


class Says(nn.Module):
    """A teacher whose probability of class 1 is the image's first channel."""

    def heads(self, image: Tensor) -> Heads:
        return {"seg": torch.stack([1.0 - image[:, 0], image[:, 0]], dim=1).log()}


PROBABILITY = torch.tensor([[0.02, 0.3, 0.55, 0.9], [0.02, 0.3, 0.55, 0.9]]).reshape(1, 1, 2, 4)
BATCH: Batch = {
    "image": PROBABILITY.expand(-1, 3, -1, -1),
    "label": torch.tensor([[IGNORE] * 4, [1, 1, 0, 0]], dtype=torch.uint8).reshape(1, 1, 2, 4),
}
"""In the first row nothing is known; in the second the annotation says the contrary of the teacher."""


def fused(confidence: Any, progress: float = 0.0, batch: Batch = BATCH) -> PseudoLabel:
    return FusionPseudoLabeler(Says(), {"seg": "seg"}, confidence)(batch, {}, progress)["seg"]


@pytest.mark.parametrize(
    ("confidence", "counted"),
    [(0.0, [1, 1, 1, 1]), (0.65, [1, 1, 0, 1]), (0.8, [1, 0, 0, 1]), (0.95, [1, 0, 0, 0]), (1.0, [0, 0, 0, 0])],
)
def test_annotated_pixels_are_kept_and_the_others_count_where_the_teacher_is_sure(
    confidence: float, counted: list[int]
) -> None:
    label = fused(confidence)
    assert label.weight is not None
    assert label.target.shape == label.weight.shape == (1, 1, 2, 4)
    assert label.target.flatten().tolist() == [0, 0, 1, 1, 1, 1, 0, 0]
    assert label.weight.flatten().tolist() == [*counted, 1, 1, 1, 1]


def test_the_threshold_follows_its_curriculum() -> None:
    """0.95 at first, (0.95 + 0.25) / 2 = 0.6 in the middle, 0.25 at the end."""
    ramp = CosineRamp(initial=0.95, final=0.25)
    counted = {progress: fused(ramp, progress).weight for progress in (0.0, 0.5, 1.0)}
    rows = {progress: weight[0, 0, 0].tolist() for progress, weight in counted.items() if weight is not None}
    assert rows == {0.0: [1, 0, 0, 0], 0.5: [1, 1, 0, 1], 1.0: [1, 1, 1, 1]}


def test_the_annotations_teach_alone_while_the_teacher_is_untrained() -> None:
    pseudo_labeler = FusionPseudoLabeler(Says(), {"seg": "seg"}, 0.0, warm_up=0.2)
    counted = [pseudo_labeler(BATCH, {}, progress)["seg"].weight for progress in (0.0, 0.19, 0.2, 1.0)]
    assert [weight.mean().item() for weight in counted if weight is not None] == [0.5, 0.5, 1.0, 1.0]


def test_three_classes_and_annotations_by_name() -> None:
    teacher = nn.Module()
    teacher.heads = lambda image: {"all": torch.tensor([0.0, 0.0, 9.0]).reshape(1, 3, 1, 1).expand(2, 3, 4, 4)}  # type: ignore[assignment]
    pseudo_labeler = FusionPseudoLabeler(teacher, {"seg": "all"}, 0.9, annotations={"seg": "drawn"})  # type: ignore[arg-type]
    drawn = torch.full((2, 1, 4, 4), IGNORE, dtype=torch.uint8)
    drawn[0, 0, 0] = 1
    label = pseudo_labeler({"image": torch.zeros(2, 3, 4, 4), "drawn": drawn}, {}, 0.0)["seg"]
    assert (label.target[0, 0, 0] == 1).all()
    assert (label.target == 2).sum() == 28
    with pytest.raises(
        ValueError, match="no annotation 'drawn' of head 'seg'; give the consistency term stream: labeled"
    ):
        pseudo_labeler({"image": torch.zeros(2, 3, 4, 4)}, {}, 0.0)


def test_the_teacher_is_no_part_of_the_pseudo_labeler() -> None:
    pseudo_labeler = FusionPseudoLabeler(nn.Conv2d(3, 2, 1), {"seg": "seg"}, 0.5)  # type: ignore[arg-type]
    assert list(pseudo_labeler.parameters()) == []
    assert not pseudo_labeler.needs_heads


@pytest.mark.parametrize("loss", [CrossEntropyDice(), Dice(), Dice(squared=False), CrossEntropy()])
def test_pixels_that_nobody_knows_reach_no_term_of_the_loss(loss: nn.Module) -> None:
    """With a teacher who is never sure enough only annotated pixels have gradient, and the loss is theirs alone."""
    label = fused(1.0)
    prediction = torch.randn(1, 2, 2, 4, requires_grad=True)
    value = loss(prediction, label.target, label.weight)
    (gradient,) = torch.autograd.grad(value, prediction)
    assert gradient[..., 1, :].all()
    assert not gradient[..., 0, :].any()
    assert value.item() == pytest.approx(loss(prediction[..., 1:, :], label.target[..., 1:, :]).item())


def test_a_consistency_term_on_the_labeled_images_is_all_that_is_learned() -> None:
    """One part, weighted by nothing else; what is counted is logged."""
    network = nn.Module()
    network.conv = nn.Conv2d(3, 2, 1)
    network.heads = lambda image: {"seg": network.conv(image)}  # type: ignore[assignment]
    term = ConsistencyTerm(
        FusionPseudoLabeler(Says(), {"seg": "seg"}, 0.8), {"seg": CrossEntropyDice()}, stream="labeled"
    )
    step = Step(network, {}, {}, WeightedSum(), {"fused": term})
    assert not step.needs_unlabeled
    result = step(BATCH, None, 0.0)
    label = fused(0.8)
    expected = CrossEntropyDice()(network.heads(BATCH["image"])["seg"], label.target, label.weight)  # type: ignore[operator]
    assert result["loss"].item() == pytest.approx(expected.item())
    assert result["counted/fused/seg"].item() == pytest.approx(6 / 8)
    assert result["foreground/fused/seg"].item() == pytest.approx(3 / 6)
