"""Uncertainty-aware Mean Teacher: the average teaches where its mean over noisy copies is sure."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from bundle.networks import UNet


def teacher_saying(made, logit: float) -> UNet:
    """The teacher, made to answer this logit of foreground everywhere."""
    teacher = made.parser.get_parsed_content("train#ema").average
    with torch.no_grad():
        teacher.head.weight.zero_()
        teacher.head.bias.copy_(torch.tensor([0.0, logit]))
    return teacher


def test_the_mask_follows_its_threshold(method):
    """Probabilities 0.8 and 0.75 have entropies of 0.722 ln 2 and 0.811 ln 2; the threshold rises from 0.75 ln 2."""
    made = method("uncertainty_mean_teacher")
    batches = made.batches()
    for share, expected in ((0.8, [1.0, 1.0, 1.0]), (0.75, [0.0, 0.0, 1.0]), (0.5, [0.0, 0.0, 0.0])):
        teacher_saying(made, math.log(share / (1 - share)))
        found = [made.step(*batches, progress) for progress in (0.0, 0.4, 1.0)]
        assert [result["counted/teacher/seg"].item() for result in found] == expected
        taught = [result["unlabeled/teacher/seg"].item() > 0 for result in found]
        assert taught == [value > 0 for value in expected]


def test_eight_passes_with_noise_of_their_own(method):
    made = method("uncertainty_mean_teacher", **{"train#step#labeled_view": None})
    teacher = made.parser.get_parsed_content("train#ema").average
    assert made.parser.get_parsed_content("validate#evaluator").network is teacher
    seen: list[Tensor] = []
    modes: list[bool] = []
    for network in (teacher, made.network):
        network.encoder.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    teacher.encoder.register_forward_pre_hook(lambda module, given: modes.append(module.training))
    labeled, unlabeled = made.batches()
    result = made.step.train()(labeled, unlabeled, 1.0)
    assert modes == [False] * 8
    noise = [image - unlabeled["image"] for image in seen if not torch.equal(image, labeled["image"])]
    assert len(noise) == 9
    assert all(one.abs().max().item() == pytest.approx(0.2, abs=1e-5) for one in noise)
    among = torch.corrcoef(torch.stack([one.flatten() for one in noise])) - torch.eye(9)
    assert among.abs().max() < 0.1
    ramps = [made.step(labeled, unlabeled, progress)["ramp/teacher"].item() for progress in (0.0, 1.0)]
    assert ramps == pytest.approx([0.05 + 0.05 * math.exp(-5), 0.1])
    taught = result["loss"].item() - result["labeled/seg"].item()
    assert taught == pytest.approx(0.1 * result["unlabeled/teacher/seg"].item(), abs=1e-6)
