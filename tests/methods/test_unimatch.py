"""UniMatch and its second version: two strong views, and features with channels dropped."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from bundle.types import PseudoLabel


def passes(network: Any, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, dict[str, Tensor]]]:
    """Images and answers of each pass of a network from now on."""
    saved: list[tuple[Tensor, dict[str, Tensor]]] = []
    plain = network.heads

    def heads(image: Tensor) -> dict[str, Tensor]:
        saved.append((image, plain(image)))
        return saved[-1][1]

    monkeypatch.setattr(network, "heads", heads, raising=False)
    return saved


def labels_of(setup: Any, *consistency: str) -> list[dict[str, PseudoLabel]]:
    """What the pseudo-labelers of some consistency terms write from now on."""
    saved: list[dict[str, PseudoLabel]] = []
    for pseudo_labeler in {
        id(item): item for item in (setup.step.consistency[name].pseudo_labeler for name in consistency)
    }.values():
        pseudo_labeler.register_forward_hook(lambda module, given, labels: saved.append(labels))
    return saved


def test_unimatch_asks_once_and_shows_two_draws(method, monkeypatch):
    setup = method("unimatch")
    labeled, unlabeled = setup.batches()
    views = [setup.step.consistency[name].student_view for name in ("strong_1", "strong_2")]
    assert views[0] is not views[1]
    written, recorded = labels_of(setup, "strong_1", "strong_2", "dropout"), passes(setup.network, monkeypatch)
    setup.step.train()(labeled, unlabeled, 0.5)
    assert len(written) == 1
    assert len(recorded) == 4
    strong = [
        image for image, _ in recorded if not torch.equal(image, unlabeled["image"]) and image is not recorded[0][0]
    ]
    assert len(strong) == 2
    assert not torch.equal(strong[0], strong[1])
    weak = next(output for image, output in recorded if torch.equal(image, unlabeled["image"]))
    assert torch.equal(written[0]["dropped"].target, weak["seg"].argmax(dim=1, keepdim=True))


def test_unimatch_holds_dropped_features_to_the_label_of_whole_ones(method, monkeypatch):
    """The gradient of its consistency term reaches `dropped` of the image as it is, and no other answer."""
    setup = method("unimatch")
    setup.open_up()
    labeled, unlabeled = setup.batches()
    recorded = passes(setup.network, monkeypatch)
    for name in ("strong_1", "strong_2"):
        del setup.step.consistency[name]
    setup.only_taught()
    loss = setup.step.train()(labeled, unlabeled, 0.5)["loss"]
    weak = next(output for image, output in recorded if torch.equal(image, unlabeled["image"]))
    gradients = torch.autograd.grad(loss, [weak["dropped"], weak["seg"]], allow_unused=True)
    assert gradients[0].any()
    assert gradients[1] is None


def test_unimatch_weighs_its_consistency_terms_to_one(method):
    setup = method("unimatch")
    setup.open_up()
    result = setup.step.train()(*setup.batches(), 0.5)
    parts = {name: result[f"unlabeled/{name}"] for name in ("strong_1/seg", "strong_2/seg", "dropout/dropped")}
    assert all(part > 0 for part in parts.values())
    taught = 0.25 * parts["strong_1/seg"] + 0.25 * parts["strong_2/seg"] + 0.5 * parts["dropout/dropped"]
    torch.testing.assert_close(result["loss"].detach(), result["labeled/seg"] + taught)


def test_unimatch_v2_shows_both_views_in_one_pass_with_complementary_features(method, monkeypatch):
    setup = method("unimatch_v2", **{"network_def#dropout#kept": 0.0})
    labeled, unlabeled = setup.batches()
    images = len(unlabeled["image"])
    recorded = passes(setup.network, monkeypatch)
    features: list[tuple[Tensor, Tensor]] = []
    setup.network.dropout.register_forward_hook(
        lambda module, given, left: features.extend(zip(given[0], left, strict=True))
    )
    setup.step.train()(labeled, unlabeled, 0.5)
    assert len(recorded) == 2  # the labeled images, and the two views
    shown = recorded[1][0]
    assert len(shown) == 2 * images
    assert not torch.equal(shown[:images], shown[images:])
    whole, left = features[5]  # the finest level of the second pass
    alive = whole.abs().amax(dim=(2, 3)) > 0
    first, second = (half.abs().amax(dim=(2, 3)) > 0 for half in (left[:images], left[images:]))
    assert not (first & second).any()
    assert torch.equal((first | second) | ~(alive[:images] & alive[images:]), torch.ones_like(first))


def test_unimatch_v2_is_taught_and_evaluated_by_the_average(method):
    setup = method("unimatch_v2")
    setup.open_up()
    labeled, unlabeled = setup.batches()
    teacher = setup.parser.get_parsed_content("train#ema")
    assert setup.parser.get_parsed_content("validate#network") is teacher.average
    assert teacher.decay == 0.996
    written = labels_of(setup, "strong")
    with torch.no_grad():
        for parameter in teacher.average.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    result = setup.step.train()(labeled, unlabeled, 0.5)
    with torch.no_grad():
        expected = teacher.average(unlabeled["image"]).argmax(dim=1, keepdim=True)
    assert torch.equal(written[0]["dropped"].target, expected)
    assert result["unlabeled/strong/dropped"] > 0


def test_two_copies_of_the_strong_view_are_two_draws_and_one_object_is_one(method):
    shared = {
        "consistency#strong_1#student_view": "@train#strong_view",
        "consistency#strong_2#student_view": "@train#strong_view",
    }
    setup = method("unimatch", **shared)
    setup.open_up()
    result = setup.step.train()(*setup.batches(), 0.5)
    assert torch.equal(result["unlabeled/strong_1/seg"], result["unlabeled/strong_2/seg"])
    setup = method("unimatch")
    setup.open_up()
    result = setup.step.train()(*setup.batches(), 0.5)
    assert not torch.equal(result["unlabeled/strong_1/seg"], result["unlabeled/strong_2/seg"])
