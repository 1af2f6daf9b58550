"""Supervised: a U-Net on the labeled images alone."""

from __future__ import annotations

import torch

from bundle.networks import UNet


def test_supervised_is_a_u_net_on_the_labeled_images_alone(method):
    made = method("supervised", **{"train#step#labeled_view": None})
    assert type(made.network) is UNet
    assert len(made.step.consistency) == len(made.step.regularizers) == 0
    assert list(made.step.objective.parameters()) == []
    labeled, unlabeled = made.batches()
    assert unlabeled is None
    result = made.step.train()(labeled, None, 0.5)
    expected = made.parser.get_parsed_content("train#loss_seg")(made.network(labeled["image"]), labeled["label"])
    assert torch.allclose(result["loss"].detach(), expected.detach(), atol=1e-6)
