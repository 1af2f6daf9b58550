"""Entropy minimization: nobody teaches; the network is asked to be sure."""

from __future__ import annotations

import pytest
import torch


def test_the_entropy_of_the_unlabeled_images_reaches_the_student(method):
    made = method("entropy")
    assert len(made.step.consistency) == 0
    made.open_up()
    made.only_taught()
    labeled, unlabeled = made.batches()
    made.step.train()(labeled, unlabeled, 0.5)["loss"].backward()
    gradients = {name: value.grad for name, value in made.network.named_parameters() if value.ndim > 1}
    assert all(gradient is not None and gradient.any() for gradient in gradients.values())


@pytest.mark.parametrize(("answer", "expected"), [((0.0, 0.0), 1.0), ((300.0, 0.0), 0.0)])
def test_one_without_a_clue_and_nothing_when_sure(answer, expected, method):
    """The last layer made to say the same everywhere; its weight rises to 1."""
    made = method("entropy")
    with torch.no_grad():
        made.network.head.weight.zero_()
        made.network.head.bias.copy_(torch.tensor(answer))
    labeled, unlabeled = made.batches()
    for progress, ramp in ((0.0, torch.tensor(-5.0).exp().item()), (1.0, 1.0)):
        result = made.step.train()(labeled, unlabeled, progress)
        assert result["regularizer/entropy"].item() == pytest.approx(expected, abs=1e-6)
        taught = result["loss"].item() - result["labeled/seg"].item()
        assert taught == pytest.approx(ramp * expected, abs=1e-6)
