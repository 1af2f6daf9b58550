"""CCT: the main decoder teaches the auxiliary ones, whose features are perturbed in training."""

from __future__ import annotations

import torch
from torch import nn


def consistency(made, training: bool) -> list[float]:
    """What the consistency term costs each auxiliary decoder in a mode."""
    labeled, unlabeled = made.batches()
    numbers = made.step.train(training)(labeled, unlabeled, 0.5)
    return [float(numbers[f"unlabeled/main/aux_{index}"]) for index in (1, 2, 3)]


def test_the_main_decoder_learns_from_labels_and_the_auxiliary_ones_from_it(method):
    made = method("cct")
    made.open_up()
    labeled, unlabeled = made.batches()
    made.step.train()

    def reached(given) -> set[str]:
        made.step.zero_grad()
        made.step(labeled, given, 0.5)["loss"].backward()
        named = made.network.named_parameters()
        return {name.split(".")[0] for name, value in named if value.grad is not None and value.grad.any()}

    assert reached(None) == {"encoder", "decoder", "head"}
    made.only_taught()
    assert reached(unlabeled) == {"encoder", "auxiliary_decoders", "auxiliary_heads"}


def test_without_perturbation_equal_decoders_have_nothing_to_learn(method):
    """In evaluation mode, and in training mode once the perturbations are taken out."""
    made = method("cct")
    network = made.network
    for decoder, head in zip(network.auxiliary_decoders, network.auxiliary_heads, strict=True):
        decoder.load_state_dict(network.decoder.state_dict())
        head.load_state_dict(network.head.state_dict())
    assert consistency(made, training=False) == [0.0, 0.0, 0.0]
    assert all(loss > 0 for loss in consistency(made, training=True))
    network.perturbations = nn.ModuleList([nn.Identity() for _ in network.perturbations])
    assert consistency(made, training=True) == [0.0, 0.0, 0.0]


def test_the_consistency_term_is_the_mean_over_the_decoders(method):
    made = method("cct")
    made.open_up()
    labeled, unlabeled = made.batches()
    numbers = made.step.train()(labeled, unlabeled, 0.5)
    parts = torch.stack([numbers[f"unlabeled/main/aux_{index}"] for index in (1, 2, 3)])
    torch.testing.assert_close(numbers["loss"].detach(), numbers["labeled/seg"] + parts.mean())
