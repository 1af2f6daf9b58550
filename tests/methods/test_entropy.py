"""Entropy minimization: nobody teaches; the network is asked to be sure."""

from __future__ import annotations

import pytest
import torch


def test_the_entropy_of_the_unlabeled_images_reaches_the_student(method):
    setup = method("entropy")
    assert len(setup.step.consistency) == 0
    setup.open_up()
    setup.only_taught()
    labeled, unlabeled = setup.batches()
    setup.step.train()(labeled, unlabeled, 0.5)["loss"].backward()
    gradients = {name: value.grad for name, value in setup.network.named_parameters() if value.ndim > 1}
    assert all(gradient is not None and gradient.any() for gradient in gradients.values())


@pytest.mark.parametrize(("output", "expected"), [((0.0, 0.0), 1.0), ((300.0, 0.0), 0.0)])
def test_one_without_a_clue_and_nothing_when_sure(output, expected, method):
    """The last layer made to say the same everywhere; its weight rises to 1."""
    setup = method("entropy")
    with torch.no_grad():
        setup.network.head.weight.zero_()
        setup.network.head.bias.copy_(torch.tensor(output))
    labeled, unlabeled = setup.batches()
    for progress, ramp in ((0.0, torch.tensor(-5.0).exp().item()), (1.0, 1.0)):
        result = setup.step.train()(labeled, unlabeled, progress)
        assert result["regularizer/entropy"].item() == pytest.approx(expected, abs=1e-6)
        taught = result["loss"].item() - result["labeled/seg"].item()
        assert taught == pytest.approx(ramp * expected, abs=1e-6)
