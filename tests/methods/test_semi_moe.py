"""Semi-MoE: the gates teach the experts on unlabeled images."""

from __future__ import annotations

from torch import Tensor

from bundle.networks import SemiMoE
from bundle.types import Batch


def test_semi_moe_leaves_gates_and_fused_heads_to_the_labeled_images(method):
    """Only the experts learn from the gates' answers: what writes the labels gets exactly nothing back."""
    setup = method("semi_moe")
    assert isinstance(setup.network, SemiMoE)
    setup.open_up()
    labeled, unlabeled = setup.batches()
    setup.step.train()
    writers = [name for name, _ in setup.network.named_parameters() if name.startswith("tasks.")]
    assert len(writers) >= 6

    def gradients(unlabeled_batch: Batch | None) -> dict[str, Tensor]:
        setup.step.zero_grad()
        setup.step(labeled, unlabeled_batch, 0.5)["loss"].backward()
        return {name: value.grad for name, value in setup.network.named_parameters() if value.grad is not None}

    held = gradients(None)
    assert all(held[name].any() for name in writers if name.endswith("weight"))
    setup.only_taught()
    taught = gradients(unlabeled)
    assert all(name not in taught or not taught[name].any() for name in writers)
    assert all(taught[f"expert_heads.{task}.weight"].abs().max() > 0 for task in ("seg", "sdf", "boundary"))
