"""Auxiliary decoders on perturbed features, and outputs at each decoder scale."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from bundle.networks import AuxiliaryUNet, FeatureDrop, FeatureNoise, PyramidUNet

TINY = (4, 6, 8, 10, 12)


def perturbations() -> list[nn.Module]:
    """Return the perturbations of the overlay."""
    return [FeatureNoise(0.3), nn.Dropout2d(0.3), FeatureDrop(0.7, 0.9)]


@pytest.mark.parametrize("perturbation", perturbations(), ids=lambda item: type(item).__name__)
def test_features_are_perturbed_only_in_training(perturbation: nn.Module) -> None:
    features = torch.rand(3, 8, 6, 6)
    assert torch.equal(perturbation.eval()(features), features)
    perturbation.train()
    first, second = perturbation(features), perturbation(features)
    assert first.shape == features.shape
    assert not torch.equal(first, features)
    assert not torch.equal(first, second)


def test_noise_is_a_share_of_each_feature() -> None:
    """Relative noise is uniform in [-0.3, 0.3]: mean 0, variance 0.3 squared over 3; 0 stays 0."""
    features = torch.randn(4, 16, 32, 32)
    features[:, 0] = 0.0
    changed = FeatureNoise(0.3).train()(features)
    assert not changed[:, 0].any()
    share = (changed / features - 1.0)[:, 1:]
    assert share.abs().max() <= 0.3 + 1e-5
    assert share.abs().max() > 0.299
    assert share.mean().item() == pytest.approx(0.0, abs=0.005)
    assert share.var().item() == pytest.approx(0.03, rel=0.03)
    assert not torch.equal(share[0], share[1])


def test_drop_by_hand() -> None:
    """Mean activities are 0.1, 0.79, 0.81 and 1.0 of the maximum; with t = 0.8 the last two positions are dropped."""
    activity = torch.tensor([[1.0, 7.9], [8.1, 10.0]])
    image = torch.stack([0.5 * activity, 1.5 * activity])
    quarter = 0.25 * image  # another scale, the same positions
    changed = FeatureDrop(0.8, 0.8).train()(torch.stack([image, quarter]))
    saved = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    assert torch.equal(changed, torch.stack([image * saved, quarter * saved]))


def test_drop_draws_its_share_for_each_image() -> None:
    """With activities 0 to 1 in steps of 1 / 1000, the share of remaining positions is t."""
    features = torch.linspace(0.0, 1.0, 1001).expand(500, 1, 1, 1001)
    saved = (FeatureDrop(0.7, 0.9).train()(features) > 0).float().mean(dim=(1, 2, 3))
    assert saved.min() >= 0.69
    assert saved.max() <= 0.91
    assert saved.mean().item() == pytest.approx(0.8, abs=0.01)
    assert saved.std().item() == pytest.approx(0.2 / 12**0.5, rel=0.1)


def test_auxiliary_decoders_are_perturbed_only_in_training() -> None:
    """With the weights of the main decoder, they have the same output in evaluation mode."""
    network = AuxiliaryUNet(perturbations(), widths=TINY).eval()
    for decoder, head in zip(network.auxiliary_decoders, network.auxiliary_heads, strict=True):
        decoder.load_state_dict(network.decoder.state_dict())
        head.load_state_dict(network.head.state_dict())
    image = torch.randn(2, 3, 32, 48)
    answers = network.heads(image)
    assert list(answers) == ["seg", "aux_1", "aux_2", "aux_3"]
    assert torch.equal(answers["seg"], network(image))
    assert all(torch.equal(output, answers["seg"]) for output in answers.values())
    network.train()
    main = network.heads(image)
    assert torch.equal(main["seg"], network.heads(image)["seg"])
    assert all(not torch.allclose(main[name], main["seg"]) for name in ("aux_1", "aux_2", "aux_3"))


def test_each_perturbation_reaches_all_levels_of_its_own_decoder() -> None:
    class Zero(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shapes: list[tuple[int, ...]] = []

        def forward(self, features: Tensor) -> Tensor:
            self.shapes.append(tuple(features.shape[1:]))
            return 0.0 * features

    zero = Zero()
    network = AuxiliaryUNet([nn.Identity(), zero], widths=TINY).eval()
    first, second = (network.heads(torch.randn(1, 3, 32, 32)) for _ in range(2))
    assert not torch.allclose(first["aux_1"], second["aux_1"])
    assert torch.equal(first["aux_2"], second["aux_2"])
    assert zero.shapes[:5] == [(width, 32 // 2**level, 32 // 2**level) for level, width in enumerate(TINY)]


def test_no_perturbation_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one perturbation"):
        AuxiliaryUNet([], widths=TINY)


def test_scales_are_named_by_their_block_size() -> None:
    """The output of scale 8 is constant on blocks of 8 pixels, and not on larger blocks."""
    network = PyramidUNet(out_channels=3, widths=TINY).eval()
    image = torch.randn(2, 3, 64, 32)
    answers = network.heads(image)
    assert list(answers) == ["seg", "scale_2", "scale_4", "scale_8"]
    assert torch.equal(answers["seg"], network(image))
    for grain in (2, 4, 8):
        output = answers[f"scale_{grain}"]
        assert output.shape == (2, 3, 64, 32)
        blocks = output[:, :, ::grain, ::grain]
        assert torch.equal(blocks.repeat_interleave(grain, 2).repeat_interleave(grain, 3), output)
        assert not torch.equal(blocks[:, :, ::2], blocks[:, :, 1::2])


@pytest.mark.parametrize("kind", [AuxiliaryUNet, PyramidUNet])
def test_all_heads_have_the_sides_of_the_image_and_script(kind: type[nn.Module]) -> None:
    settings = {"perturbations": perturbations()} if kind is AuxiliaryUNet else {}
    network = kind(widths=TINY, **settings).eval()
    image = torch.randn(2, 3, 33, 47)
    answers = network.heads(image)
    assert {tuple(output.shape) for output in answers.values()} == {(2, 2, 33, 47)}
    scripted = torch.jit.script(network)
    torch.testing.assert_close(scripted(image), network(image))
    torch.testing.assert_close(scripted.heads(image), answers)
    assert set(scripted.train().heads(image)) == set(answers)
