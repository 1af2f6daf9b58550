"""Weights over training: progress in [0, 1] -> weight."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class ConstantRamp:
    """The same weight all the time."""

    value: float = 1.0

    def __call__(self, progress: float) -> float:
        """The weight; ``progress`` changes nothing."""
        return self.value


@dataclass(frozen=True)
class LinearRamp:
    """A straight line from ``initial`` at progress ``start`` to ``maximum`` at progress ``end``, flat on both sides."""

    maximum: float = 1.0
    initial: float = 0.0
    start: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        """Refuse a line that runs backwards."""
        if not 0.0 <= self.start < self.end <= 1.0:
            raise ValueError(f"a ramp needs 0 <= start < end <= 1, got start {self.start}, end {self.end}")

    def __call__(self, progress: float) -> float:
        """The weight at ``progress``."""
        share = min(max((progress - self.start) / (self.end - self.start), 0.0), 1.0)
        return self.initial + (self.maximum - self.initial) * share


@dataclass(frozen=True)
class SigmoidRamp:
    """The S-shaped rise exp(-5 (1 - t)^2) to ``maximum``, flat after ``end`` (Laine, Aila 2017, arXiv 1610.02242).

    The weight is initial + (maximum - initial) exp(-5 (1 - t)^2).
    """

    maximum: float = 1.0
    end: float = 1.0
    initial: float = 0.0

    def __post_init__(self) -> None:
        """Refuse an end outside of training."""
        if not 0.0 < self.end <= 1.0:
            raise ValueError(f"a ramp needs 0 < end <= 1, got {self.end}")

    def __call__(self, progress: float) -> float:
        """The weight at ``progress``."""
        share = min(max(progress / self.end, 0.0), 1.0)
        return self.initial + (self.maximum - self.initial) * math.exp(-5.0 * (1.0 - share) ** 2)


@dataclass(frozen=True)
class CosineRamp:
    """Half a cosine from ``initial`` at progress ``start`` to ``final`` at ``end``, flat on both sides.

    The weight is final + (initial - final) (1 + cos(pi t)) / 2. Either may be the larger.
    """

    initial: float
    final: float
    start: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        """Refuse a ramp that runs backwards."""
        if not 0.0 <= self.start < self.end <= 1.0:
            raise ValueError(f"a ramp needs 0 <= start < end <= 1, got start {self.start}, end {self.end}")

    def __call__(self, progress: float) -> float:
        """The weight at ``progress``."""
        share = min(max((progress - self.start) / (self.end - self.start), 0.0), 1.0)
        return self.final + (self.initial - self.final) * (1.0 + math.cos(math.pi * share)) / 2.0
