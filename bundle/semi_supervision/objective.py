"""Objectives: combine the losses of a step into one number, with fixed or learned weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from bundle.types import Ramp, Scalars


def head_of(part: str) -> str:
    """Return the head of a loss name: ``seg`` for ``gates/seg``."""
    return part.rsplit("/", 1)[-1]


class WeightedSum(nn.Module):
    """Sum of all losses with fixed weights. Each consistency term also has its own ramp.

    Args:
        weights: name of a loss (``seg`` on labeled images, ``TERM/seg`` in a consistency term) or of a head (all its
            losses) -> weight. The name of the loss takes precedence. The default weight is 1.

    Example::

        >>> total, _ = WeightedSum({"sdf": 0.5})({"seg": torch.tensor(1.0), "sdf": torch.tensor(2.0)}, {}, progress=0.0)
        >>> total
        tensor(2.)
    """

    def __init__(self, weights: Mapping[str, float] | None = None) -> None:
        super().__init__()
        self.weights = dict(weights or {})

    def forward(self, labeled: Scalars, unlabeled: Scalars, progress: float) -> tuple[Tensor, Scalars]:
        """Return the sum, a 0-d tensor, and nothing to log."""
        parts = [*labeled.items(), *unlabeled.items()]
        total = torch.stack([self._weight(name) * part for name, part in parts]).sum()
        return total, {}

    def _weight(self, part: str) -> float:
        return self.weights.get(part, self.weights.get(head_of(part), 1.0))


class AdaptiveObjective(nn.Module):
    """Adaptive multi-objective loss of Semi-MoE (BMVC 2025, eq. 7 and 11).

    A(l) = sum_j exp(-s_j) c_j l_j + gamma sum_j exp(s_j) over the tasks j. The s_j are learned and shared by both
    streams. The total is A(labeled) + lambda(progress) A(unlabeled). Its minimum over s is 2 sqrt(gamma c l) per task.

    Differs from the paper: c is a setting (the paper "absorbs" the 1/2 of the signed distance).

    Args:
        tasks: task -> heads that belong to it.
        ramp: lambda, the weight of the unlabeled losses over training.
        gamma: weight of the term that keeps s small. It scales the whole gradient, not the balance between tasks.
        factors: task -> c, 1 by default.
        initial: initial value of every s.

    Raises:
        ValueError: if called with the loss of a head that belongs to no task.
    """

    def __init__(
        self,
        tasks: Mapping[str, Sequence[str]],
        ramp: Ramp,
        gamma: float = 0.4,
        factors: Mapping[str, float] | None = None,
        initial: float = 1.0,
    ) -> None:
        super().__init__()
        self.task_of = {head: task for task, heads in tasks.items() for head in heads}
        self.factors = {task: float((factors or {}).get(task, 1.0)) for task in tasks}
        self.gamma = gamma
        self.ramp = ramp
        self.s = nn.ParameterDict({task: nn.Parameter(torch.tensor(float(initial))) for task in tasks})

    def adaptive(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Return A(l) for one loss per task; tasks without a loss are left out."""
        terms = [
            torch.exp(-self.s[task]) * self.factors[task] * loss + self.gamma * torch.exp(self.s[task])
            for task, loss in losses.items()
        ]
        return torch.stack(terms).sum() if terms else next(self.parameters()).new_zeros(())

    def forward(self, labeled: Scalars, unlabeled: Scalars, progress: float) -> tuple[Tensor, Scalars]:
        """Return the total, a 0-d tensor, and the numbers to log: task weights exp(-s) and lambda."""
        total = self.adaptive(self._by_task(labeled))
        weight = float(self.ramp(progress))
        if unlabeled:
            total = total + weight * self.adaptive(self._by_task(unlabeled))
        log = {f"weight/{task}": torch.exp(-value.detach()) for task, value in self.s.items()}
        log["ramp/unlabeled"] = total.new_full((), weight)
        return total, log

    def _by_task(self, parts: Scalars) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = {}
        for name, part in parts.items():
            task = self.task_of.get(head_of(name))
            if task is None:
                raise ValueError(f"the loss {name!r} belongs to no task of the objective: {sorted(self.task_of)}")
            losses[task] = losses[task] + part if task in losses else part
        return losses
