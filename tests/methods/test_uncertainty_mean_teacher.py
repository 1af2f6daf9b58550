"""Uncertainty-aware Mean Teacher: the average teaches where its mean over noisy copies is sure."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from bundle.networks import UNet


def teacher_saying(setup, logit: float) -> UNet:
    """The teacher, made to answer this logit of foreground everywhere."""
    teacher = setup.parser.get_parsed_content("train#ema").average
    with torch.no_grad():
        teacher.head.weight.zero_()
        teacher.head.bias.copy_(torch.tensor([0.0, logit]))
    return teacher


def test_the_mask_follows_its_threshold(method):
    """Probabilities 0.8 and 0.75 have entropies of 0.722 ln 2 and 0.811 ln 2; the threshold rises from 0.75 ln 2."""
    setup = method("uncertainty_mean_teacher")
    batches = setup.batches()
    for share, expected in ((0.8, [1.0, 1.0, 1.0]), (0.75, [0.0, 0.0, 1.0]), (0.5, [0.0, 0.0, 0.0])):
        teacher_saying(setup, math.log(share / (1 - share)))
        actual = [setup.step(*batches, progress) for progress in (0.0, 0.4, 1.0)]
        assert [result["counted/teacher/seg"].item() for result in actual] == expected
        taught = [result["unlabeled/teacher/seg"].item() > 0 for result in actual]
        assert taught == [value > 0 for value in expected]


def test_eight_passes_with_noise_of_their_own(method):
    setup = method("uncertainty_mean_teacher", **{"train#step#labeled_view": None})
    teacher = setup.parser.get_parsed_content("train#ema").average
    assert setup.parser.get_parsed_content("validate#evaluator").network is teacher
    recorded: list[Tensor] = []
    modes: list[bool] = []
    for network in (teacher, setup.network):
        network.encoder.register_forward_pre_hook(lambda module, given: recorded.append(given[0]))
    teacher.encoder.register_forward_pre_hook(lambda module, given: modes.append(module.training))
    labeled, unlabeled = setup.batches()
    result = setup.step.train()(labeled, unlabeled, 1.0)
    assert modes == [False] * 8
    noise = [image - unlabeled["image"] for image in recorded if not torch.equal(image, labeled["image"])]
    assert len(noise) == 9
    assert all(item.abs().max().item() == pytest.approx(0.2, abs=1e-5) for item in noise)
    among = torch.corrcoef(torch.stack([item.flatten() for item in noise])) - torch.eye(9)
    assert among.abs().max() < 0.1
    ramps = [setup.step(labeled, unlabeled, progress)["ramp/teacher"].item() for progress in (0.0, 1.0)]
    assert ramps == pytest.approx([0.05 + 0.05 * math.exp(-5), 0.1])
    taught = result["loss"].item() - result["labeled/seg"].item()
    assert taught == pytest.approx(0.1 * result["unlabeled/teacher/seg"].item(), abs=1e-6)
