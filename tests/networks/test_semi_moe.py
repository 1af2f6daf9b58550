"""The network of Semi-MoE: parameters, heads, subsets of experts, shared encoder, TorchScript."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bundle.networks import SemiMoE
from bundle.types import EXPERTS

FULL = (64, 128, 256, 512, 1024)
TINY = (4, 6, 8, 10, 12)


def tiny(**arguments: Any) -> SemiMoE:
    """A small network in evaluation mode."""
    return SemiMoE(widths=TINY, **arguments).eval()


def images(height: int = 32, width: int = 32) -> Tensor:
    """Two random images."""
    return torch.randn(2, 3, height, width)


def parameters(*modules: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def test_each_expert_is_a_u_net() -> None:
    """The head of the signed distance has one channel: 64 weights and 1 bias fewer than a head of two."""
    with torch.device("meta"):
        network = SemiMoE(widths=FULL)
    sizes = {
        name: parameters(network.encoders[index], network.decoders[index], network.expert_heads[name])
        for index, name in enumerate(EXPERTS)
    }
    assert sizes == {"seg": 34_527_106, "sdf": 34_527_106 - 65, "boundary": 34_527_106}


@pytest.mark.parametrize(("shared_encoder", "millions"), [(False, 103.65), (True, 65.95)])
def test_parameters_of_the_full_size(shared_encoder: bool, millions: float) -> None:
    with torch.device("meta"):
        network = SemiMoE(widths=FULL, shared_encoder=shared_encoder)
    assert parameters(network) / 1e6 == pytest.approx(millions, abs=0.005)


def test_heads_by_name() -> None:
    network = tiny(out_channels=3)
    answers = network.heads(images())
    channels = {"seg": 3, "sdf": 1, "boundary": 2}
    maps = {f"{prefix}{name}": (2, count, 32, 32) for prefix in ("", "fused_") for name, count in channels.items()}
    gates = {f"gate_{name}": (2, 3) for name in channels}
    assert {name: tuple(output.shape) for name, output in answers.items()} == maps | gates
    for name in gates:
        torch.testing.assert_close(answers[name].sum(dim=1), torch.ones(2))


@pytest.mark.parametrize("gate", ["paper", "as_released", "equal"])
def test_forward_returns_the_gated_segmentation(gate: str) -> None:
    network = tiny(gate=gate)
    image = images()
    answers = network.heads(image)
    assert torch.equal(network(image), answers["fused_seg"])
    assert not torch.equal(answers["seg"], answers["fused_seg"])


def test_equal_gates_give_the_mean_of_the_experts() -> None:
    """Compared with the fused head on the mean of the feature maps."""
    network = tiny(gate="equal")
    image = images()
    features = [decoder(encoder(image)) for encoder, decoder in zip(network.encoders, network.decoders, strict=True)]
    expected = network.tasks["seg"].head(torch.stack(features).mean(dim=0))
    torch.testing.assert_close(network(image), expected)


@pytest.mark.parametrize(
    ("experts", "tasks"),
    [(("seg",), None), (("seg", "sdf"), None), (("boundary", "seg"), None), (EXPERTS, ("seg",)), (EXPERTS, EXPERTS)],
)
@pytest.mark.parametrize("shared_encoder", [False, True])
def test_any_experts_and_tasks(experts: Sequence[str], tasks: Sequence[str] | None, shared_encoder: bool) -> None:
    network = tiny(experts=experts, tasks=tasks, shared_encoder=shared_encoder)
    image = images()
    answers = network.heads(image)
    gated = experts if tasks is None else tasks
    assert set(answers) == {*experts, *(f"fused_{task}" for task in gated), *(f"gate_{task}" for task in gated)}
    assert answers["gate_seg"].shape == (2, len(experts))
    assert torch.equal(network(image), answers["fused_seg"])


def test_gate_weights_have_the_order_of_the_experts() -> None:
    """With all weight on one expert, the output depends only on its features."""
    network = tiny(experts=("boundary", "seg"))
    last = network.tasks["seg"].gate.rest[-1]
    nn.init.zeros_(last.weight)
    image = images()
    for index in range(2):
        last.bias.data = 100.0 * torch.eye(2)[index]
        features = network.decoders[index](network.encoders[index](image))
        torch.testing.assert_close(network(image), network.tasks["seg"].head(features))
        torch.testing.assert_close(network.heads(image)["gate_seg"], torch.eye(2)[index].expand(2, 2))


@pytest.mark.parametrize(("shared_encoder", "passes"), [(False, 3), (True, 1)])
def test_a_shared_encoder_runs_once(shared_encoder: bool, passes: int) -> None:
    network = tiny(shared_encoder=shared_encoder)
    calls: list[nn.Module] = []
    for encoder in network.encoders:
        encoder.register_forward_hook(lambda module, *_: calls.append(module))
    network.heads(images())
    assert len(calls) == len(set(calls)) == len(network.encoders) == passes


@pytest.mark.parametrize(("height", "width"), [(16, 16), (17, 31), (33, 47)])
def test_the_output_has_the_size_of_the_image(height: int, width: int) -> None:
    answers = tiny().heads(images(height, width))
    assert {tuple(output.shape[2:]) for output in answers.values() if output.ndim == 4} == {(height, width)}
    assert all(output.isfinite().all() for output in answers.values())


@pytest.mark.parametrize(
    "arguments",
    [{}, {"shared_encoder": True, "gate": "equal"}, {"experts": ("seg", "sdf"), "gate": "as_released"}],
)
def test_a_script_gives_the_same_output(arguments: dict[str, Any]) -> None:
    network = tiny(**arguments)
    scripted = torch.jit.script(network)
    image = images(33, 32)
    torch.testing.assert_close(scripted(image), network(image))
    torch.testing.assert_close(scripted.heads(image), network.heads(image))


def test_channels_last_gives_the_same_output_each_time() -> None:
    network = tiny()
    image = images()
    output = network(image)
    network.to(memory_format=torch.channels_last)
    assert network.expert_heads["seg"].weight.is_contiguous(memory_format=torch.channels_last)
    first, second = network(image), network(image)
    assert torch.equal(first, second)
    torch.testing.assert_close(first, output, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("experts", [(), ("sdf", "boundary"), ("seg", "seg"), ("seg", "contour")])
def test_wrong_experts_are_refused(experts: Sequence[str]) -> None:
    with pytest.raises(
        ValueError, match=r"experts are .*; choose from \['seg', 'sdf', 'boundary'\], each once, including 'seg'"
    ):
        tiny(experts=experts)


@pytest.mark.parametrize("tasks", [(), ("sdf",), ("seg", "boundary")])
def test_wrong_tasks_are_refused(tasks: Sequence[str]) -> None:
    with pytest.raises(ValueError, match=r"tasks are .*; choose from the experts \['seg', 'sdf'\], including 'seg'"):
        tiny(experts=("seg", "sdf"), tasks=tasks)


def test_wrong_gates_and_widths_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown gate 'sigmoid'"):
        tiny(gate="sigmoid")
    with pytest.raises(ValueError, match="five levels"):
        SemiMoE(widths=(4, 4))
