"""FixMatch: sure answers to images as they are teach the answers to strong views."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from bundle.types import Batch


def recorded_batches(pseudo_labeler: Any) -> list[tuple[Batch, dict]]:
    """What a pseudo-labeler is asked from now on, and what it writes."""
    saved: list[tuple[Batch, dict]] = []
    pseudo_labeler.register_forward_hook(lambda module, given, labels: saved.append((given[0], labels)))
    return saved


def passes(network: Any, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, Tensor]]:
    """Images and `seg` of each pass of a network from now on."""
    saved: list[tuple[Tensor, Tensor]] = []
    plain = network.heads

    def heads(image: Tensor) -> dict[str, Tensor]:
        output = plain(image)
        saved.append((image, output["seg"]))
        return output

    monkeypatch.setattr(network, "heads", heads, raising=False)
    return saved


def test_the_label_is_of_the_image_as_it_is_and_the_student_sees_another(method, monkeypatch):
    setup = method("fixmatch", **{"train#step#labeled_view": None})
    labeled, unlabeled = setup.batches()
    written, recorded = (
        recorded_batches(setup.step.consistency["strong"].pseudo_labeler),
        passes(setup.network, monkeypatch),
    )
    setup.step.train()(labeled, unlabeled, 0.5)["loss"].backward()
    assert len(recorded) == 3
    assert len(written) == 1
    given, labels = written[0]
    assert torch.equal(given["image"], unlabeled["image"])
    assert torch.equal(recorded[0][0], labeled["image"])
    weak = next(output for image, output in recorded[1:] if torch.equal(image, unlabeled["image"]))
    strong = next(output for image, output in recorded[1:] if not torch.equal(image, unlabeled["image"]))
    assert not weak.requires_grad
    assert strong.requires_grad
    assert torch.equal(labels["seg"].target, weak.argmax(dim=1, keepdim=True))


def test_pixels_below_the_confidence_do_not_count(method):
    setup = method("fixmatch")
    labeled, unlabeled = setup.batches()
    pseudo_labeler = setup.step.consistency["strong"].pseudo_labeler
    assert pseudo_labeler.confidence == 0.95
    written, shares = recorded_batches(pseudo_labeler), []
    with torch.no_grad():
        sure = setup.network.train().heads(unlabeled["image"])["seg"].softmax(dim=1).amax(dim=1, keepdim=True)
    middle = sure.median().item()
    for confidence in (middle, 0.999999):
        pseudo_labeler.confidence = confidence
        setup.step.train()(labeled, unlabeled, 0.5)
        weight = written[-1][1]["seg"].weight
        torch.testing.assert_close(weight, (sure >= confidence).float())
        shares.append(weight.mean().item())
    assert shares[0] == pytest.approx(0.5, abs=0.02)
    assert shares[1] < 0.1


def test_where_nothing_is_sure_nothing_is_learned(method):
    setup = method("fixmatch")
    setup.only_taught()
    labeled, unlabeled = setup.batches()
    setup.step.consistency["strong"].pseudo_labeler.confidence = 1.1
    result = setup.step.train()(labeled, unlabeled, 0.5)
    result["loss"].backward()
    assert result["loss"].item() == 0.0
    assert result["counted/strong/seg"].item() == 0.0
    assert all(value.grad is None or not value.grad.any() for value in setup.network.parameters())
