"""FixMatch: sure answers to images as they are teach the answers to strong views."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from bundle.types import Batch


def asked(pseudo_labeler: Any) -> list[tuple[Batch, dict]]:
    """What a pseudo-labeler is asked from now on, and what it writes."""
    kept: list[tuple[Batch, dict]] = []
    pseudo_labeler.register_forward_hook(lambda module, given, labels: kept.append((given[0], labels)))
    return kept


def passes(network: Any, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, Tensor]]:
    """Images and `seg` of each pass of a network from now on."""
    kept: list[tuple[Tensor, Tensor]] = []
    plain = network.heads

    def heads(image: Tensor) -> dict[str, Tensor]:
        answer = plain(image)
        kept.append((image, answer["seg"]))
        return answer

    monkeypatch.setattr(network, "heads", heads, raising=False)
    return kept


def test_the_label_is_of_the_image_as_it_is_and_the_student_sees_another(method, monkeypatch):
    made = method("fixmatch", **{"train#step#labeled_view": None})
    labeled, unlabeled = made.batches()
    written, seen = asked(made.step.consistency["strong"].pseudo_labeler), passes(made.network, monkeypatch)
    made.step.train()(labeled, unlabeled, 0.5)["loss"].backward()
    assert len(seen) == 3
    assert len(written) == 1
    given, labels = written[0]
    assert torch.equal(given["image"], unlabeled["image"])
    assert torch.equal(seen[0][0], labeled["image"])
    weak = next(answer for image, answer in seen[1:] if torch.equal(image, unlabeled["image"]))
    strong = next(answer for image, answer in seen[1:] if not torch.equal(image, unlabeled["image"]))
    assert not weak.requires_grad
    assert strong.requires_grad
    assert torch.equal(labels["seg"].target, weak.argmax(dim=1, keepdim=True))


def test_pixels_below_the_confidence_do_not_count(method):
    made = method("fixmatch")
    labeled, unlabeled = made.batches()
    pseudo_labeler = made.step.consistency["strong"].pseudo_labeler
    assert pseudo_labeler.confidence == 0.95
    written, shares = asked(pseudo_labeler), []
    with torch.no_grad():
        sure = made.network.train().heads(unlabeled["image"])["seg"].softmax(dim=1).amax(dim=1, keepdim=True)
    middle = sure.median().item()
    for confidence in (middle, 0.999999):
        pseudo_labeler.confidence = confidence
        made.step.train()(labeled, unlabeled, 0.5)
        weight = written[-1][1]["seg"].weight
        torch.testing.assert_close(weight, (sure >= confidence).float())
        shares.append(weight.mean().item())
    assert shares[0] == pytest.approx(0.5, abs=0.02)
    assert shares[1] < 0.1


def test_where_nothing_is_sure_nothing_is_learned(method):
    made = method("fixmatch")
    made.only_taught()
    labeled, unlabeled = made.batches()
    made.step.consistency["strong"].pseudo_labeler.confidence = 1.1
    result = made.step.train()(labeled, unlabeled, 0.5)
    result["loss"].backward()
    assert result["loss"].item() == 0.0
    assert result["counted/strong/seg"].item() == 0.0
    assert all(value.grad is None or not value.grad.any() for value in made.network.parameters())
