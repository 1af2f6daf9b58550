"""A view that changes the colors of pixels and moves none, and what its changes have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bundle.types import IMAGE, Batch, PseudoLabel, Viewed


class Constant:
    """Numbers that go to each device once, so that no step waits for their copy.

    Args:
        values: the numbers, nested as the tensor's dimensions; held in float32.
    """

    def __init__(self, values: Sequence) -> None:
        self._copies = {torch.device("cpu"): torch.tensor(values, dtype=torch.float32)}

    def beside(self, tensor: Tensor) -> Tensor:
        """The numbers on the device of ``tensor``."""
        if tensor.device not in self._copies:
            self._copies[tensor.device] = self._copies[torch.device("cpu")].to(tensor.device)
        return self._copies[tensor.device]


def uniform(image: Tensor, shape: Sequence[int], low: float, high: float) -> Tensor:
    """Random numbers in [low, high), drawn on the device of ``image``."""
    return torch.empty(tuple(shape), device=image.device).uniform_(low, high)


class Change(ABC):
    """A change of the colors of some images of a batch, drawn anew for each image.

    Args:
        probability: share of the images that are changed, in [0, 1]; the others stay exactly as they are.

    Raises:
        ValueError: for a probability outside of [0, 1].
    """

    def __init__(self, probability: float) -> None:
        refuse_probability(probability)
        self.probability = probability

    def __call__(self, image: Tensor) -> Tensor:
        """Images (B, 3, H, W), RGB, float32 in [0, 1], some of them changed; the same shape and range."""
        drawn = uniform(image, (len(image), 1, 1, 1), 0.0, 1.0) < self.probability
        return torch.where(drawn, self.changed(image).clamp(0.0, 1.0), image)

    @abstractmethod
    def changed(self, image: Tensor) -> Tensor:
        """All images (B, 3, H, W) changed; what leaves [0, 1] is cut by the caller."""


@dataclass
class Recolored:
    """A batch in other colors; every pixel is where it was."""

    batch: Batch

    def carry(self, label: PseudoLabel) -> PseudoLabel:
        """The label as it is."""
        return label


class ColorView:
    """Images in other colors: back to RGB in [0, 1], changed, and normalized again.

    It works in float32 whatever the training does, without gradient. What a normalized image has outside of [0, 1] is
    cut; a picture has nothing there.

    Args:
        changes: name -> change of RGB in [0, 1], applied in this order.
        subtrahend: mean of each channel that normalization took off, for pixels in [0, 1].
        divisor: what it divided by.

    Raises:
        ValueError: for a divisor of 0 or less.
    """

    def __init__(self, changes: Mapping[str, Change], subtrahend: Sequence[float], divisor: Sequence[float]) -> None:
        if min(divisor) <= 0.0:
            raise ValueError(f"normalization divides by numbers above 0, got {list(divisor)}")
        self.changes = dict(changes)
        self._mean = Constant([[[value]] for value in subtrahend])
        self._deviation = Constant([[[value]] for value in divisor])

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Viewed:
        """Show ``batch`` with ``image`` (B, 3, H, W) in other colors; its other entries are the same."""
        image: Tensor = batch[IMAGE]
        mean, deviation = self._mean.beside(image), self._deviation.beside(image)
        with torch.autocast(image.device.type, enabled=False):  # matrices would be taken for half precision
            colors = (image.float() * deviation + mean).clamp(0.0, 1.0)
            for change in self.changes.values():
                colors = change(colors)
            return Recolored(batch | {IMAGE: (colors - mean) / deviation})


def refuse_probability(probability: float) -> None:
    """Raise a ValueError for a probability outside of [0, 1]."""
    if not 0.0 <= probability <= 1.0:
        raise ValueError(f"a probability lies in [0, 1], got {probability}")
