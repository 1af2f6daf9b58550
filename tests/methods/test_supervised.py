"""Supervised: a U-Net on the labeled images alone."""

from __future__ import annotations

import torch

from bundle.networks import UNet


def test_supervised_is_a_u_net_on_the_labeled_images_alone(method):
    setup = method("supervised", **{"train#step#labeled_view": None})
    assert type(setup.network) is UNet
    assert len(setup.step.consistency) == len(setup.step.regularizers) == 0
    assert list(setup.step.objective.parameters()) == []
    labeled, unlabeled = setup.batches()
    assert unlabeled is None
    result = setup.step.train()(labeled, None, 0.5)
    expected = setup.parser.get_parsed_content("train#loss_seg")(setup.network(labeled["image"]), labeled["label"])
    assert torch.allclose(result["loss"].detach(), expected.detach(), atol=1e-6)
