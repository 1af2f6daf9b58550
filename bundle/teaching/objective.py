"""One number of the parts: a fixed weighting, or weights that are learnt with the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from bundle.types import Ramp, Scalars


def head_of(part: str) -> str:
    """The head that a part speaks of: ``seg`` of ``gates/seg``."""
    return part.rsplit("/", 1)[-1]


class WeightedSum(nn.Module):
    """The sum of all parts, each with a fixed weight; lessons carry ramps of their own.

    Args:
        weights: name of a part (``seg`` on labeled images, ``LESSON/seg`` in a lesson) or of a head (all its parts)
            -> weight; the part's own name wins, and what is not named weighs 1.
    """

    def __init__(self, weights: Mapping[str, float] | None = None) -> None:
        super().__init__()
        self.weights = dict(weights or {})

    def forward(self, labeled: Scalars, unlabeled: Scalars, progress: float) -> tuple[Tensor, Scalars]:
        """The sum, a tensor without dimensions, and nothing to log."""
        parts = [*labeled.items(), *unlabeled.items()]
        total = torch.stack([self._weight(name) * part for name, part in parts]).sum()
        return total, {}

    def _weight(self, part: str) -> float:
        return self.weights.get(part, self.weights.get(head_of(part), 1.0))


class AdaptiveObjective(nn.Module):
    """Adaptive multi-objective loss of Semi-MoE (BMVC 2025, eq. 7 and 11).

    A(l) = sum_j exp(-s_j) c_j l_j + gamma sum_j exp(s_j) over the tasks j, with learnt s, the same for both streams;
    the total is A(labeled) + lambda(progress) A(unlabeled). Minimised over s it is 2 sqrt(gamma c l) a task.

    Differs from the paper: c is a setting (the paper "absorbs" the 1/2 of the signed distance).

    Args:
        tasks: task -> heads whose parts belong to it.
        gamma: weight of the term that keeps s small; it scales the whole gradient, not the balance.
        factors: task -> c; 1 where not named.
        initial: s of every task at the start.
        ramp: lambda, the weight of the unlabeled parts over training.

    Raises:
        ValueError: when called with a part that belongs to no task.
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
        """A(l) of one loss a task; a task without loss takes no part."""
        terms = [
            torch.exp(-self.s[task]) * self.factors[task] * loss + self.gamma * torch.exp(self.s[task])
            for task, loss in losses.items()
        ]
        return torch.stack(terms).sum() if terms else next(self.parameters()).new_zeros(())

    def forward(self, labeled: Scalars, unlabeled: Scalars, progress: float) -> tuple[Tensor, Scalars]:
        """The total, a tensor without dimensions, and the numbers to log: task weights exp(-s) and lambda."""
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
