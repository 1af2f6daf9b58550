"""Peers: each learns from the other's answer, and not from its own (CPS, cross teaching, XNet)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bundle.types import PseudoLabel

PEERS = ("cps", "cross_teaching", "xnet")


def gradients(setup, loss: Tensor) -> dict[str, Tensor]:
    """Of a loss by every parameter of the network."""
    setup.network.zero_grad()
    loss.backward()
    return {name: value.grad.clone() for name, value in setup.network.named_parameters() if value.grad is not None}


def alike(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    largest = max(value.abs().max() for value in first.values())
    return all(torch.allclose(value, second[name], atol=1e-4 * largest) for name, value in first.items())


def nothing_in(label: PseudoLabel) -> PseudoLabel:
    return PseudoLabel(torch.zeros_like(label.target))


@pytest.mark.parametrize("name", PEERS)
def test_each_peer_learns_what_the_other_answers(name, method):
    setup = method(name)
    setup.open_up()
    setup.only_taught()
    labeled, unlabeled = setup.batches()
    term = next(iter(setup.step.consistency.values()))
    loss, heads = term.losses["seg"], setup.network.train().heads(unlabeled["image"])
    answers = {head: heads[head].argmax(dim=1, keepdim=True) for head in ("seg", "peer")}
    assert not torch.equal(answers["seg"], answers["peer"])
    crosswise = gradients(setup, loss(heads["seg"], answers["peer"]) + loss(heads["peer"], answers["seg"]))
    heads = setup.network.heads(unlabeled["image"])
    by_itself = gradients(setup, loss(heads["seg"], answers["seg"]) + loss(heads["peer"], answers["peer"]))
    result = gradients(setup, setup.step.train()(labeled, unlabeled, 0.5)["loss"])
    assert alike(result, crosswise)
    assert not alike(result, by_itself)


@pytest.mark.parametrize("name", ["cps", "cross_teaching"])
def test_another_label_for_one_peer_changes_that_one_alone(name, method):
    setup = method(name)
    setup.open_up()
    setup.only_taught()
    labeled, unlabeled = setup.batches()
    setup.step.train()
    before = gradients(setup, setup.step(labeled, unlabeled, 0.5)["loss"])
    term = next(iter(setup.step.consistency.values()))
    term.pseudo_labeler.register_forward_hook(lambda module, given, labels: labels | {"seg": nothing_in(labels["seg"])})
    after = gradients(setup, setup.step(labeled, unlabeled, 0.5)["loss"])
    mine, theirs = ({key for key in before if key.startswith(part)} for part in ("network.", "peer."))
    assert all(torch.equal(before[key], after[key]) for key in theirs)
    assert not alike({key: before[key] for key in mine}, after)


def test_a_label_costs_no_pass(method):
    setup = method("cps")
    passes: list[str] = []
    for part in ("network", "peer"):
        getattr(setup.network, part).register_forward_hook(lambda module, given, output, part=part: passes.append(part))
    labeled, unlabeled = setup.batches()
    setup.step.train()(labeled, unlabeled, 0.5)
    assert sorted(passes) == ["network", "network", "peer", "peer"]
