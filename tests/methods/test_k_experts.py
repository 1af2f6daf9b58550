"""K experts: their mean teaches each, labels teach the mixture, and the balance term keeps all of them in use."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

NAMES = ("expert_1", "expert_2", "expert_3")


def test_the_loss_is_the_specified_sum(method):
    """y + 1/2 mean experts + ramp consistency + 0.01 balance, half-way through training."""
    setup = method("k_experts")
    labeled, unlabeled = setup.batches()
    numbers = setup.step.train()(labeled, unlabeled, 0.5)
    experts = torch.stack([numbers[f"labeled/{name}"] for name in NAMES]).mean()
    consistency = torch.stack([numbers[f"unlabeled/consistency/{name}"] for name in NAMES]).mean()
    balance = numbers["regularizer/balance"]
    assert min(experts, consistency, balance) > 0
    expected = numbers["labeled/seg"] + 0.5 * experts + 0.5 * consistency + 0.01 * balance
    torch.testing.assert_close(numbers["loss"].detach(), expected)


def test_the_mean_teaches_the_experts_and_labels_teach_the_gate(method):
    setup = method("k_experts")
    setup.step.regularizers = nn.ModuleDict()
    labeled, unlabeled = setup.batches()
    setup.step.train()

    def reached(given) -> set[str]:
        setup.step.zero_grad()
        setup.step(labeled, given, 1.0)["loss"].backward()
        named = setup.network.named_parameters()
        return {name.split(".")[0] for name, value in named if value.grad is not None and value.grad.any()}

    assert reached(None) == {"experts", "gate"}
    setup.only_taught()
    assert reached(unlabeled) == {"experts"}


def test_balance_turns_a_collapsing_gate_back(method):
    """The entropy, which the project page prints as the loss, would push it on."""
    setup = method("k_experts")
    image = setup.batches()[0]["image"]
    last = [part for part in setup.network.gate.modules() if isinstance(part, nn.Linear)][-1]
    with torch.no_grad():
        last.bias.copy_(torch.tensor([2.0, 0.0, 0.0]))
    term = setup.step.regularizers["balance"]
    value = term(setup.network.heads(image), 0.5)
    assert 0 < value < math.log(3)
    value.backward()
    assert last.bias.grad[0] > 0 > max(last.bias.grad[1:])
    with torch.no_grad():
        last.bias.copy_(torch.tensor([50.0, 0.0, 0.0]))
        assert term(setup.network.heads(image), 0.5).item() == pytest.approx(math.log(3), abs=1e-4)


def test_another_number_of_experts_is_another_list(method):
    setup = method("k_experts", **{"train#experts": ["one", "two"]})
    assert list(setup.network.experts) == ["one", "two"]
    labeled, unlabeled = setup.batches()
    numbers = setup.step.train()(labeled, unlabeled, 0.5)
    assert numbers["unlabeled/gate_seg"].shape == (2, 2)
    assert {name for name in numbers if name.startswith("unlabeled/consistency/")} == {
        "unlabeled/consistency/one",
        "unlabeled/consistency/two",
    }
