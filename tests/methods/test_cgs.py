"""CGS: a generalist and its specialists teach one another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bundle.networks import GeneralistUNet, SpecialistSemiMoE
from bundle.types import PseudoLabel

OVERLAYS = ["cgs", "cgs_mean_teacher", "cgs_semi_moe"]
SPECIALISTS = ("specialist_1", "specialist_2")


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_consistency_terms_reach_generalist_and_specialists_and_no_teacher(
    name: str, method: Callable[..., Any]
) -> None:
    setup = method(name)
    assert isinstance(setup.network, SpecialistSemiMoE if name == "cgs_semi_moe" else GeneralistUNet)
    setup.open_up()
    setup.only_taught()
    labeled, unlabeled = setup.batches()
    for source in ("own", "combined", "agreed"):
        assert set(setup.step.consistency[source].losses) == {"seg", *SPECIALISTS}
    setup.step.train()(labeled, unlabeled, 0.5)["loss"].backward()
    generalist = setup.network.expert_heads["seg"] if name == "cgs_semi_moe" else setup.network.head
    for head in (generalist, *setup.network.specialists.values()):
        assert head.weight.grad.abs().max() > 0
    average = setup.parser.get_parsed_content("train#ema").average
    assert all(value.grad is None and not value.requires_grad for value in average.parameters())
    assert not {id(value) for value in average.parameters()} & {id(value) for value in setup.step.parameters()}


def test_specialists_count_as_their_mean(method: Callable[..., Any]) -> None:
    """On labeled and on unlabeled images."""
    setup = method("cgs")
    setup.open_up()
    labeled, unlabeled = setup.batches()
    result = setup.step.train()(labeled, unlabeled, 0.5)
    parts = ["labeled", *(f"unlabeled/{source}" for source in ("own", "combined", "agreed"))]
    expected = sum(
        result[f"{part}/seg"] + (result[f"{part}/specialist_1"] + result[f"{part}/specialist_2"]) / 2 for part in parts
    )
    torch.testing.assert_close(result["loss"].detach(), expected)


def test_labeled_images_hold_each_specialist_to_its_own_class(method: Callable[..., Any]) -> None:
    setup = method("cgs", **{"train#step#labeled_view": None})
    labeled, _ = setup.batches()
    actual = labeled["label"].unique().tolist()
    assert 0 in actual
    assert len(actual) > 1
    for own, head in enumerate(SPECIALISTS, start=1):
        assert torch.equal(labeled[head] == 1, labeled["label"] == own)
        assert torch.equal(labeled[head] == 0, labeled["label"] == 0)
    result = setup.step.train()(labeled, None, 0.0)
    loss = setup.parser.get_parsed_content("loss_collaborative")
    heads = setup.network.heads(labeled["image"])
    for head in SPECIALISTS:
        torch.testing.assert_close(result[f"labeled/{head}"], loss(heads[head], labeled[head]).detach())


def test_the_student_sees_a_strong_view_of_what_the_teacher_sees_once(method: Callable[..., Any]) -> None:
    setup = method("cgs")
    labeled, unlabeled = setup.batches()
    average = setup.parser.get_parsed_content("train#ema").average
    shown: dict[str, list[Tensor]] = {"teacher": [], "student": []}

    def note(name: str, network: nn.Module) -> None:
        ask = network.heads

        def heads(image: Tensor) -> dict[str, Tensor]:
            shown[name].append(image)
            return ask(image)  # type: ignore[operator]

        network.heads = heads  # type: ignore[assignment]

    note("teacher", average)
    note("student", setup.network)
    setup.step.train()(labeled, unlabeled, 0.5)
    assert len(shown["teacher"]) == 1
    assert torch.equal(shown["teacher"][0], unlabeled["image"])
    assert len(shown["student"]) == 2
    assert not torch.equal(shown["student"][1], unlabeled["image"])


def test_what_the_specialists_contradict_teaches_the_generalist_nothing(method: Callable[..., Any]) -> None:
    """The mask of the consistency term `combined` reaches cross-entropy and Dice of the overlay's loss."""
    setup = method("cgs")
    setup.open_up()
    setup.only_taught()
    term = setup.step.consistency["combined"]
    term.student_view = None
    term.losses = {"seg": term.losses["seg"]}
    for source in ("own", "agreed"):
        del setup.step.consistency[source]
    written: list[dict[str, PseudoLabel]] = []
    term.pseudo_labeler.register_forward_hook(lambda pseudo_labeler, given, labels: written.append(labels))
    logits: list[Tensor] = []

    def keep(head: nn.Module, given: Any, output: Tensor) -> None:
        output.retain_grad()
        logits.append(output)

    setup.network.head.register_forward_hook(keep)
    labeled, unlabeled = setup.batches()
    setup.step.train()(labeled, unlabeled, 0.5)["loss"].backward()
    weight = written[0]["combined/seg"].weight
    assert weight is not None
    assert 0 < weight.mean() < 1
    gradient = logits[-1].grad
    assert gradient is not None
    assert not gradient[(weight == 0).expand_as(gradient)].any()
    assert gradient[(weight == 1).expand_as(gradient)].ne(0).any()


@pytest.mark.parametrize("name", OVERLAYS)
def test_one_foreground_class_is_refused(name: str, method: Callable[..., Any]) -> None:
    with pytest.raises(RuntimeError) as caught:
        method(name, classes=2)
    cause: BaseException = caught.value
    while cause.__cause__ is not None:
        cause = cause.__cause__
    assert isinstance(cause, ValueError)
    assert "at least two foreground classes" in str(cause)
