"""Ablations of Semi-MoE: each differs from `semi_moe` in what its name says, and in nothing else."""

from __future__ import annotations

import pytest
import torch

from bundle.semi_supervision import AdaptiveObjective, MaskPseudoLabeler, WeightedSum
from bundle.transforms import boundary_band, signed_distance


def sizes(network) -> dict[str, int]:
    """Parameters of each part of the network."""
    return {name: sum(value.numel() for value in part.parameters()) for name, part in network.named_children()}


@pytest.mark.parametrize(
    ("name", "experts"),
    [
        ("semi_moe_seg_sdf", ["seg", "sdf"]),
        ("semi_moe_seg_boundary", ["seg", "boundary"]),
        ("semi_moe_seg", ["seg"]),
    ],
)
def test_experts_are_left_out_of_network_losses_and_consistency_terms(name, experts, method):
    setup = method(name)
    labeled, unlabeled = setup.batches()
    heads = setup.network.heads(labeled["image"])
    assert set(heads) == {f"{prefix}{expert}" for expert in experts for prefix in ("", "fused_", "gate_")}
    assert heads["gate_seg"].shape[1] == len(experts)
    result = setup.step(labeled, unlabeled, 1.0)
    taught = {key.removeprefix("unlabeled/gates/") for key in result if key.startswith("unlabeled/gates/")}
    assert taught == set(experts)


def test_the_single_gate_teaches_all_experts_from_one_mask(method):
    setup = method("semi_moe_single_gate")
    labeled, unlabeled = setup.batches()
    pseudo_labeler = setup.step.consistency["gates"].pseudo_labeler
    assert isinstance(pseudo_labeler, MaskPseudoLabeler)
    heads = setup.network.heads(unlabeled["image"])
    assert {name for name in heads if name.startswith(("fused_", "gate_"))} == {"fused_seg", "gate_seg"}
    written = pseudo_labeler(unlabeled, heads, 0.0)
    mask = heads["fused_seg"].argmax(dim=1, keepdim=True)
    assert torch.equal(written["seg"].target.long(), mask)
    for name in ("sdf", "boundary"):
        held = labeled[name]
        assert (held.dtype, held.shape[1:]) == (written[name].target.dtype, written[name].target.shape[1:])


def test_a_mask_pseudo_labeler_writes_the_targets_of_its_mask():
    mask = torch.zeros(2, 1, 9, 9, dtype=torch.uint8)
    mask[0, :, 2:6, 3:8] = 1
    logits = torch.cat([1.0 - mask.float(), mask.float()], dim=1).requires_grad_()
    pseudo_labeler = MaskPseudoLabeler("fused_seg", {"sdf": signed_distance, "boundary": boundary_band})
    written = pseudo_labeler({}, {"fused_seg": logits}, 0.0)
    assert torch.equal(written["sdf"].target, signed_distance(mask))
    assert torch.equal(written["sdf"].target[1], torch.full((1, 9, 9), -1.0))
    assert torch.equal(written["boundary"].target, boundary_band(mask))
    assert not any(label.target.requires_grad for label in written.values())


def test_the_linear_loss_has_fixed_weights_and_the_same_lambda(method):
    setup, whole = method("semi_moe_linear_loss"), method("semi_moe")
    assert isinstance(setup.step.objective, WeightedSum)
    assert isinstance(whole.step.objective, AdaptiveObjective)
    labeled, unlabeled = setup.batches()
    setup.network.eval()  # no dropout in the gates, so that two passes agree
    result = setup.step(labeled, unlabeled, 0.5)
    assert setup.step.consistency["gates"].ramp(0.5) == whole.step.objective.ramp(0.5) == 2.5
    expected = sum(
        (0.5 if name.endswith("sdf") else 1.0) * (2.5 if name.startswith("unlabeled/") else 1.0) * float(value.detach())
        for name, value in result.items()
        if name.startswith(("labeled/", "unlabeled/gates/")) and "gate_" not in name
    )
    assert float(result["loss"].detach()) == pytest.approx(expected, rel=1e-5)


def test_equal_gates_weigh_all_experts_alike(method):
    setup = method("semi_moe_equal_gates")
    heads = setup.network.heads(torch.randn(2, 3, 32, 32))
    assert all(torch.allclose(heads[f"gate_{task}"], torch.full((2, 3), 1 / 3)) for task in ("seg", "sdf", "boundary"))
    assert not [name for name, _ in setup.network.named_parameters() if ".gate." in name]


def test_the_shared_encoder_is_one_for_all(method):
    setup, whole = sizes(method("semi_moe_shared_encoder").network), sizes(method("semi_moe").network)
    assert whole.pop("encoders") == 3 * setup.pop("encoders")
    assert setup == whole


def test_as_released_takes_the_choices_of_the_review_code(method):
    setup = method("semi_moe_as_released")
    assert setup.step.objective.ramp(1.0) == 0.5
    assert [group["lr"] for group in setup.trainer.optimizer.param_groups] == [0.001, 0.05]
    assert setup.trainer.optimizer.param_groups[1]["weight_decay"] == 5e-5
    labeled, _ = setup.batches()
    assert float(labeled["sdf"].amax()) == pytest.approx(1.0)
    assert (labeled["sdf"] == 0).any(), "inner boundary pixels are 0 in the authors' distance"
    assert not ((labeled["boundary"] > 0) & (labeled["label"] > 0)).any(), "the boundary lies outside of glands"
