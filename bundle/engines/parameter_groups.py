"""Parameter groups of the optimizer."""

from __future__ import annotations

from typing import Any

from torch import nn


def parameter_groups(
    network: nn.Module,
    objective: nn.Module,
    objective_learning_rate: float,
    objective_weight_decay: float = 0.0,
    encoder_learning_rate: float | None = None,
) -> list[dict[str, Any]]:
    """Return the parameter groups of the optimizer: network, objective and, if it has its own rate, the encoder.

    Args:
        network: with ``encoder_parameters`` and ``other_parameters`` if ``encoder_learning_rate`` is given.
        objective: its learned weights of the losses.
        objective_learning_rate: learning rate of the objective.
        objective_weight_decay: weight decay of the objective.
        encoder_learning_rate: learning rate of pretrained encoders; ``None`` trains all of the network alike, in one
            group.
    """
    weights = {"lr": objective_learning_rate, "weight_decay": objective_weight_decay}
    objective_group: dict[str, Any] = {"params": list(objective.parameters()), **weights}
    if encoder_learning_rate is None:
        return [{"params": list(network.parameters())}, objective_group]
    encoder_group = {"params": network.encoder_parameters(), "lr": encoder_learning_rate}  # type: ignore[operator]
    return [{"params": network.other_parameters()}, objective_group, encoder_group]  # type: ignore[operator]
