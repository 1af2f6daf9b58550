"""CCT: the main decoder teaches the auxiliary ones, whose features are perturbed in training."""

from __future__ import annotations

import torch
from torch import nn


def consistency(setup, training: bool) -> list[float]:
    """What the consistency term costs each auxiliary decoder in a mode."""
    labeled, unlabeled = setup.batches()
    numbers = setup.step.train(training)(labeled, unlabeled, 0.5)
    return [float(numbers[f"unlabeled/main/aux_{index}"]) for index in (1, 2, 3)]


def test_the_main_decoder_learns_from_labels_and_the_auxiliary_ones_from_it(method):
    setup = method("cct")
    setup.open_up()
    labeled, unlabeled = setup.batches()
    setup.step.train()

    def reached(given) -> set[str]:
        setup.step.zero_grad()
        setup.step(labeled, given, 0.5)["loss"].backward()
        named = setup.network.named_parameters()
        return {name.split(".")[0] for name, value in named if value.grad is not None and value.grad.any()}

    assert reached(None) == {"encoder", "decoder", "head"}
    setup.only_taught()
    assert reached(unlabeled) == {"encoder", "auxiliary_decoders", "auxiliary_heads"}


def test_without_perturbation_equal_decoders_have_nothing_to_learn(method):
    """In evaluation mode, and in training mode once the perturbations are taken out."""
    setup = method("cct")
    network = setup.network
    for decoder, head in zip(network.auxiliary_decoders, network.auxiliary_heads, strict=True):
        decoder.load_state_dict(network.decoder.state_dict())
        head.load_state_dict(network.head.state_dict())
    assert consistency(setup, training=False) == [0.0, 0.0, 0.0]
    assert all(loss > 0 for loss in consistency(setup, training=True))
    network.perturbations = nn.ModuleList([nn.Identity() for _ in network.perturbations])
    assert consistency(setup, training=True) == [0.0, 0.0, 0.0]


def test_the_consistency_term_is_the_mean_over_the_decoders(method):
    setup = method("cct")
    setup.open_up()
    labeled, unlabeled = setup.batches()
    numbers = setup.step.train()(labeled, unlabeled, 0.5)
    parts = torch.stack([numbers[f"unlabeled/main/aux_{index}"] for index in (1, 2, 3)])
    torch.testing.assert_close(numbers["loss"].detach(), numbers["labeled/seg"] + parts.mean())
