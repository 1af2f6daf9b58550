"""Running sums over one epoch, which stay on the device until the epoch is over."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import ignite.distributed as idist
import torch
from torch import Tensor


class EpochSums:
    """Mean of every scalar, and mean and spread of every gate weight, over the steps of one epoch.

    Adding a step queues a few small operations on the device and never waits for it.

    Args:
        experts: names of the K experts, in the order of the columns of the gate weights.
    """

    def __init__(self, experts: Sequence[str]) -> None:
        self.experts = tuple(experts)
        self.reset()

    def reset(self) -> None:
        """Forget every step."""
        # Names that come together on one device share a vector: one addition a step, not one a name.
        self._scalars: dict[tuple[torch.device, tuple[str, ...]], tuple[int, Tensor]] = {}
        self._gates: dict[str, tuple[int, Tensor]] = {}

    def add(self, step: Mapping[str, Tensor]) -> None:
        """Count one step.

        Args:
            step: by name, tensors without dimensions (scalars) and gate weights (B, K) whose rows sum to 1.

        Raises:
            ValueError: for any other shape, or gate weights of another number of experts.
        """
        together: dict[torch.device, dict[str, Tensor]] = {}
        for name, value in step.items():
            if value.dim() == 2:
                self._add_gate(name, value)
            elif value.dim() == 0:
                together.setdefault(value.device, {})[name] = value
            else:
                raise ValueError(f"step[{name!r}] has the shape {tuple(value.shape)}; expected () or (B, K)")
        for device, values in together.items():
            key = (device, tuple(values))
            total = torch.stack([value.detach().to(_precise(device)) for value in values.values()])
            count, before = self._scalars.get(key, (0, torch.zeros_like(total)))
            self._scalars[key] = (count + 1, before + total)

    def _add_gate(self, name: str, weights: Tensor) -> None:
        """Add gate weights (B, K) to their sum and sum of squares (2, K), both as distances from 1 / K."""
        if weights.shape[1] != len(self.experts):
            raise ValueError(
                f"step[{name!r}] weighs {weights.shape[1]} experts, but `experts` names {list(self.experts)}"
            )
        # Weights stay near 1 / K; the distance from it loses no digits when squares are subtracted.
        apart = weights.detach().to(_precise(weights.device)) - 1.0 / len(self.experts)
        total = torch.stack([apart.sum(dim=0), apart.square().sum(dim=0)])
        count, before = self._gates.get(name, (0, torch.zeros_like(total)))
        self._gates[name] = (count + weights.shape[0], before + total)

    def means(self) -> dict[str, float]:
        """Mean of every scalar over the steps that had it, and of every gate weight over all images, of all ranks.

        Returns:
            A scalar under its own name; gate weights as ``NAME/EXPERT/mean`` and ``NAME/EXPERT/spread`` (standard
            deviation over all images of the epoch, divided by their number). Every rank gets the same.
        """
        answer: dict[str, float] = {}
        for name, (count, total, *square) in self._over_ranks().items():
            mean = total / max(count, 1.0)
            if not square:
                answer[name] = mean
                continue
            answer[f"{name}/mean"] = mean + 1.0 / len(self.experts)
            variance = square[0] / max(count, 1.0) - mean**2
            answer[f"{name}/spread"] = variance if math.isnan(variance) else math.sqrt(max(variance, 0.0))
        return answer

    def _over_ranks(self) -> dict[str, list[float]]:
        """Count, sum and (for gates) sum of squares by name, added over ranks; a rank may lack a name."""
        mine = self._numbers()
        if idist.get_world_size() == 1:
            return mine
        answer: dict[str, list[float]] = {}
        for numbers in idist.all_gather(mine):  # type: ignore[union-attr]
            for name, values in numbers.items():  # type: ignore[union-attr]
                before = answer.get(name, [0.0] * len(values))
                answer[name] = [one + other for one, other in zip(before, values, strict=True)]
        return answer

    def _numbers(self) -> dict[str, list[float]]:
        """This rank's count, sum and (for gates) sum of squares by name; waits for the device."""
        answer: dict[str, list[float]] = {}
        for (_, names), (count, total) in self._scalars.items():
            for name, value in zip(names, total.tolist(), strict=True):
                before = answer.get(name, [0.0, 0.0])
                answer[name] = [before[0] + count, before[1] + value]
        for name, (count, total) in self._gates.items():
            for expert, one, square in zip(self.experts, *total.tolist(), strict=True):
                answer[f"{name}/{expert}"] = [float(count), one, square]
        return answer


def _precise(device: torch.device) -> torch.dtype:
    """The most precise float type that the device has."""
    return torch.float32 if device.type == "mps" else torch.float64
