"""Running sums over one epoch, kept on the device until the epoch ends."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import ignite.distributed as idist
import torch
from torch import Tensor


class EpochAverages:
    """Mean of all scalars, and mean and standard deviation of all gate weights, over the steps of one epoch.

    Adding a step queues a few small operations on the device without synchronization.

    Args:
        experts: names of the K experts, in the order of the columns of the gate weights.
    """

    def __init__(self, experts: Sequence[str]) -> None:
        self.experts = tuple(experts)
        self.reset()

    def reset(self) -> None:
        """Remove all steps."""
        # scalars of one step and device share a vector, so that a step needs one addition, not one per name
        self._scalars: dict[tuple[torch.device, tuple[str, ...]], tuple[int, Tensor]] = {}
        self._gates: dict[str, tuple[int, Tensor]] = {}

    def add(self, step: Mapping[str, Tensor]) -> None:
        """Add one step.

        Args:
            step: name -> 0-d tensor (scalar) or gate weights (B, K) whose rows sum to 1.

        Raises:
            ValueError: for another shape, or gate weights for another number of experts.
        """
        by_device: dict[torch.device, dict[str, Tensor]] = {}
        for name, value in step.items():
            if value.dim() == 2:
                self._add_gate(name, value)
            elif value.dim() == 0:
                by_device.setdefault(value.device, {})[name] = value
            else:
                raise ValueError(f"step[{name!r}] has shape {tuple(value.shape)}; expected () or (B, K)")
        for device, values in by_device.items():
            key = (device, tuple(values))
            total = torch.stack([value.detach().to(_precise(device)) for value in values.values()])
            count, previous = self._scalars.get(key, (0, torch.zeros_like(total)))
            self._scalars[key] = (count + 1, previous + total)

    def _add_gate(self, name: str, weights: Tensor) -> None:
        """Add gate weights (B, K) to their sum and sum of squares (2, K), both of the differences from 1 / K."""
        if weights.shape[1] != len(self.experts):
            raise ValueError(
                f"step[{name!r}] has weights of {weights.shape[1]} experts, but `experts` names {list(self.experts)}"
            )
        # weights are near 1 / K; differences from it keep their precision when squares are subtracted
        difference = weights.detach().to(_precise(weights.device)) - 1.0 / len(self.experts)
        total = torch.stack([difference.sum(dim=0), difference.square().sum(dim=0)])
        count, previous = self._gates.get(name, (0, torch.zeros_like(total)))
        self._gates[name] = (count + weights.shape[0], previous + total)

    def means(self) -> dict[str, float]:
        """Return the means of scalars over their steps, and of gate weights over all images, of all ranks.

        Returns:
            Scalars by name; gate weights as ``NAME/EXPERT/mean`` and ``NAME/EXPERT/spread`` (population standard
            deviation over all images of the epoch). All ranks get the same values.
        """
        means: dict[str, float] = {}
        for name, (count, total, *square) in self._over_ranks().items():
            mean = total / max(count, 1.0)
            if not square:
                means[name] = mean
                continue
            means[f"{name}/mean"] = mean + 1.0 / len(self.experts)
            variance = square[0] / max(count, 1.0) - mean**2
            means[f"{name}/spread"] = variance if math.isnan(variance) else math.sqrt(max(variance, 0.0))
        return means

    def _over_ranks(self) -> dict[str, list[float]]:
        """Return count, sum and (for gates) sum of squares by name, added over ranks; a rank may lack a name."""
        local = self._local_sums()
        if idist.get_world_size() == 1:
            return local
        sums: dict[str, list[float]] = {}
        for rank_sums in idist.all_gather(local):  # type: ignore[union-attr]
            for name, values in rank_sums.items():  # type: ignore[union-attr]
                previous = sums.get(name, [0.0] * len(values))
                sums[name] = [total + value for total, value in zip(previous, values, strict=True)]
        return sums

    def _local_sums(self) -> dict[str, list[float]]:
        """Return count, sum and (for gates) sum of squares of this rank by name; synchronizes with the device."""
        sums: dict[str, list[float]] = {}
        for (_, names), (count, total) in self._scalars.items():
            for name, value in zip(names, total.tolist(), strict=True):
                previous = sums.get(name, [0.0, 0.0])
                sums[name] = [previous[0] + count, previous[1] + value]
        for name, (count, total) in self._gates.items():
            for expert, value, square in zip(self.experts, *total.tolist(), strict=True):
                sums[f"{name}/{expert}"] = [float(count), value, square]
        return sums


def _precise(device: torch.device) -> torch.dtype:
    """Return the most precise float type of a device."""
    return torch.float32 if device.type == "mps" else torch.float64
