"""Gates: weights and gradients of each kind, and mixing after the head."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bundle.networks import Gate, GatedTask
from bundle.networks.gate import KINDS

FEATURES, EXPERTS = 192, 3
"""As in the paper: three experts of 64 channels."""


def pooled(batch: int = 6) -> Tensor:
    """Return means of features after ReLU, different for each image."""
    return torch.rand(batch, FEATURES) * torch.linspace(0.2, 3.0, batch)[:, None]


def first_gradient(gate: Gate, features: Tensor) -> float:
    """Return the gradient norm of an expert's weight, summed over images, in the first layer."""
    gate.zero_grad()
    gate(features)[:, 0].sum().backward()
    assert gate.first.weight.grad is not None
    return gate.first.weight.grad.norm().item()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("experts", [1, 2, 3, 5])
def test_weights_sum_to_one(kind: str, experts: int) -> None:
    gate = Gate(FEATURES, experts, kind)
    weights = gate(pooled())
    assert weights.shape == (6, experts)
    assert (weights > 0).all()
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(6))


@pytest.mark.parametrize("kind", KINDS)
def test_each_image_has_its_own_weights(kind: str) -> None:
    """The weights of an image do not depend on the other images of the batch."""
    gate = Gate(FEATURES, EXPERTS, kind).eval()
    features = pooled()
    torch.testing.assert_close(gate(features)[2:3], gate(features[2:3]))


def test_equal_is_a_mean_without_parameters() -> None:
    gate = Gate(FEATURES, EXPERTS, "equal")
    assert list(gate.parameters()) == []
    assert torch.equal(gate(pooled()), torch.full((6, EXPERTS), 1 / 3))


def test_as_released_has_the_layers_of_the_review_code() -> None:
    gate = Gate(FEATURES, EXPERTS, "as_released")
    shapes = [tuple(layer.weight.shape) for layer in gate.modules() if isinstance(layer, torch.nn.Linear)]
    assert shapes == [(96, 192), (96, 96), (3, 96)]
    features = pooled()
    gate.eval()
    hidden = torch.relu(gate.first(features))
    expected = gate.rest(hidden * gate.attention(hidden).softmax(dim=1)).softmax(dim=1)
    torch.testing.assert_close(gate(features), expected)


def test_as_released_starts_with_equal_weights_and_little_gradient() -> None:
    """The hidden features are multiplied by about 1 / 96, so the image has almost no effect."""
    torch.manual_seed(0)
    features = 0.8 * torch.rand(6, FEATURES)  # means after batch normalization and ReLU are about 0.4
    gates = {kind: Gate(FEATURES, EXPERTS, kind, dropout=0.0) for kind in ("paper", "as_released")}
    weights = {kind: gate(features) for kind, gate in gates.items()}
    torch.testing.assert_close(weights["as_released"], torch.full((6, EXPERTS), 1 / 3), atol=0.01, rtol=0)
    spread = {kind: value.std(dim=0).max() for kind, value in weights.items()}
    assert spread["as_released"] < 0.15 * spread["paper"]
    norms = {kind: first_gradient(gate, features) for kind, gate in gates.items()}
    assert 0 < norms["as_released"] < 0.1 * norms["paper"]


def test_paper_differs_between_images_and_gets_gradient() -> None:
    gate = Gate(FEATURES, EXPERTS, "paper")
    features = pooled()
    gate.eval()
    assert gate(features).std(dim=0).max() > 1e-3
    assert first_gradient(gate, features) > 1e-2
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in gate.parameters())


def test_dropout_is_used_only_in_training() -> None:
    gate = Gate(FEATURES, EXPERTS, "paper", dropout=0.5)
    features = pooled()
    assert not torch.equal(gate(features), gate(features))
    gate.eval()
    assert torch.equal(gate(features), gate(features))


@pytest.mark.parametrize("kind", KINDS)
def test_mixing_outputs_equals_mixing_features(kind: str) -> None:
    """Computed with einsum: b image, k expert, c channel, h row, w column."""
    task = GatedTask(channels=4, experts=EXPERTS, out_channels=2, kind=kind, dropout=0.0)
    features = [torch.randn(2, 4, 5, 6) for _ in range(EXPERTS)]
    stacked = torch.stack(features, dim=1)
    averages = stacked.mean(dim=(3, 4)).flatten(1)
    output, weights = task(features, averages)
    assert torch.equal(weights, task.gate(averages))
    mixture = torch.einsum("bkchw,bk->bchw", stacked, weights)
    torch.testing.assert_close(output, task.head(mixture))


def test_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown gate 'softmax'; choose one of paper, as_released, equal"):
        Gate(FEATURES, EXPERTS, "softmax")
