"""A view that changes colors, and the base class of its color changes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bundle.types import IMAGE, Batch, PseudoLabel, Viewed


class Constant:
    """A constant float32 tensor with a cached copy on each device, so that it is transferred only once.

    Args:
        values: nested sequences of numbers, as for ``torch.tensor``.
    """

    def __init__(self, values: Sequence) -> None:
        self._copies = {torch.device("cpu"): torch.tensor(values, dtype=torch.float32)}

    def on_device_of(self, tensor: Tensor) -> Tensor:
        """Return the constant on the device of ``tensor``."""
        if tensor.device not in self._copies:
            self._copies[tensor.device] = self._copies[torch.device("cpu")].to(tensor.device)
        return self._copies[tensor.device]


def uniform(image: Tensor, shape: Sequence[int], low: float, high: float) -> Tensor:
    """Return uniform random numbers in [low, high), drawn on the device of ``image``."""
    return torch.empty(tuple(shape), device=image.device).uniform_(low, high)


class ColorChange(ABC):
    """Base class of random color changes, drawn separately for each image of a batch.

    Args:
        probability: share of the images that are changed, in [0, 1]; the others are returned unchanged.

    Raises:
        ValueError: if ``probability`` is outside [0, 1].
    """

    def __init__(self, probability: float) -> None:
        check_probability(probability)
        self.probability = probability

    def __call__(self, image: Tensor) -> Tensor:
        """Change a random part of the images (B, 3, H, W), RGB, float32 in [0, 1]; shape and range are kept."""
        selected = uniform(image, (len(image), 1, 1, 1), 0.0, 1.0) < self.probability
        return torch.where(selected, self.apply(image).clamp(0.0, 1.0), image)

    @abstractmethod
    def apply(self, image: Tensor) -> Tensor:
        """Return all images (B, 3, H, W) changed; the caller clips them to [0, 1]."""


@dataclass
class RecoloredBatch:
    """A batch with changed colors and unchanged pixel positions."""

    batch: Batch

    def transform_label(self, label: PseudoLabel) -> PseudoLabel:
        """Return the label unchanged."""
        return label


class ColorView:
    """View with other colors: undoes the normalization, changes RGB in [0, 1] and normalizes again.

    Runs in float32, also under autocast, and without gradient. RGB values are clipped to [0, 1].

    Args:
        changes: name -> color change of RGB in [0, 1], applied in this order.
        subtrahend: mean of each channel that the normalization subtracts, for pixels in [0, 1].
        divisor: standard deviation of each channel that it divides by.

    Raises:
        ValueError: if a divisor is 0 or less.
    """

    def __init__(
        self, changes: Mapping[str, ColorChange], subtrahend: Sequence[float], divisor: Sequence[float]
    ) -> None:
        if min(divisor) <= 0.0:
            raise ValueError(f"the divisors of the normalization must be above 0, got {list(divisor)}")
        self.changes = dict(changes)
        self._mean = Constant([[[value]] for value in subtrahend])
        self._deviation = Constant([[[value]] for value in divisor])

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Viewed:
        """Return ``batch`` with changed colors of ``image`` (B, 3, H, W); other entries are unchanged."""
        image: Tensor = batch[IMAGE]
        mean, deviation = self._mean.on_device_of(image), self._deviation.on_device_of(image)
        with torch.autocast(image.device.type, enabled=False):  # would run matrix products in half precision
            colors = (image.float() * deviation + mean).clamp(0.0, 1.0)
            for change in self.changes.values():
                colors = change(colors)
            return RecoloredBatch(batch | {IMAGE: (colors - mean) / deviation})


def check_probability(probability: float) -> None:
    """Check that a probability is in [0, 1].

    Raises:
        ValueError: if it is not.
    """
    if not 0.0 <= probability <= 1.0:
        raise ValueError(f"a probability must be in [0, 1], got {probability}")
