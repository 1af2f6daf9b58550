"""Equal experts and a gate on the image: probabilities are mixed, the output are log-probabilities."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from bundle.networks import KExperts

TINY = (4, 6, 8, 10, 12)
NAMES = ("expert_1", "expert_2", "expert_3")


def network(**settings) -> KExperts:
    return KExperts(widths=TINY, **settings).eval()


def mixed(answers: dict[str, Tensor], names: tuple[str, ...]) -> Tensor:
    """sum_k g_k softmax(E_k), term by term."""
    weights = answers["gate_seg"]
    return sum(weights[:, k, None, None, None] * answers[name].softmax(dim=1) for k, name in enumerate(names))


@pytest.mark.parametrize("names", [NAMES, ("one", "two")])
def test_the_output_is_the_logarithm_of_the_mixed_probabilities(names: tuple[str, ...]) -> None:
    model = network(experts=names, out_channels=3)
    image = torch.randn(2, 3, 33, 47)
    answers = model.heads(image)
    assert list(answers) == [*names, "seg", "gate_seg"]
    assert answers["gate_seg"].shape == (2, len(names))
    assert answers["seg"].shape == (2, 3, 33, 47)
    torch.testing.assert_close(answers["gate_seg"].sum(dim=1), torch.ones(2))
    torch.testing.assert_close(answers["seg"].exp(), mixed(answers, names))
    torch.testing.assert_close(answers["seg"].exp().sum(dim=1), torch.ones(2, 33, 47))
    torch.testing.assert_close(answers["seg"].softmax(dim=1), mixed(answers, names))
    assert torch.equal(model(image), answers["seg"])


def test_the_gate_depends_on_the_image() -> None:
    model = network()
    with torch.no_grad():
        for part in model.gate.gate.modules():
            if isinstance(part, nn.Linear):
                part.weight.mul_(20.0)  # small at first, so that all experts start with equal weights
    weights = model.heads(torch.randn(8, 3, 32, 32) * torch.arange(1, 9).view(8, 1, 1, 1))["gate_seg"]
    assert weights.std(dim=0).max() > 0.01


def test_experts_start_with_nearly_equal_weights() -> None:
    weights = network().heads(torch.randn(4, 3, 32, 32))["gate_seg"]
    torch.testing.assert_close(weights, torch.full((4, 3), 1 / 3), atol=0.15, rtol=0.0)


def test_equal_gates_give_the_mean() -> None:
    answers = network(gate="equal").heads(torch.randn(2, 3, 32, 32))
    values = torch.stack([answers[name].softmax(dim=1) for name in NAMES])
    torch.testing.assert_close(answers["seg"].exp(), values.mean(dim=0))


def test_probabilities_of_0_and_1_stay_finite() -> None:
    model = network()
    with torch.no_grad():
        for index, expert in enumerate(model.experts.values()):
            expert.head.bias.copy_(torch.tensor([300.0, -300.0]) * (-1.0) ** index)
        last = [part for part in model.gate.gate.modules() if isinstance(part, nn.Linear)][-1]
        last.bias.copy_(torch.tensor([500.0, 0.0, -500.0]))
    answers = model.heads(torch.randn(1, 3, 32, 32))
    assert answers["gate_seg"].min() == 0.0
    assert answers["seg"].isfinite().all()
    answers["seg"].sum().backward()
    assert all(value.grad.isfinite().all() for value in model.parameters() if value.grad is not None)


def test_experts_have_separate_weights() -> None:
    model = network()
    states = [expert.state_dict() for expert in model.experts.values()]
    for name, value in states[0].items():
        if "conv.weight" in name:
            assert not torch.equal(value, states[1][name])
            assert not torch.equal(value, states[2][name])


def test_a_script_gives_the_same_output() -> None:
    model = network()
    scripted = torch.jit.script(model)
    image = torch.randn(2, 3, 32, 40)
    torch.testing.assert_close(scripted(image), model(image))
    torch.testing.assert_close(scripted.heads(image), model.heads(image))


@pytest.mark.parametrize("names", [(), ("one",), ("one", "two", "one")])
def test_too_few_or_equal_names_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="at least two different names"):
        network(experts=names)
