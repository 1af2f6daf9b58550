"""Ramps: weights that change over training, as functions of progress in [0, 1]."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class ConstantRamp:
    """Constant weight."""

    value: float = 1.0

    def __call__(self, progress: float) -> float:
        """Return the weight, whatever ``progress`` is."""
        return self.value


@dataclass(frozen=True)
class LinearRamp:
    """Linear ramp from ``initial`` at progress ``start`` to ``maximum`` at ``end``, constant before and after.

    Example::

        >>> LinearRamp(maximum=5.0)(0.5)
        2.5
    """

    maximum: float = 1.0
    initial: float = 0.0
    start: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        """Check the order of ``start`` and ``end``."""
        if not 0.0 <= self.start < self.end <= 1.0:
            raise ValueError(f"a ramp needs 0 <= start < end <= 1, got start {self.start}, end {self.end}")

    def __call__(self, progress: float) -> float:
        """Return the weight at ``progress``."""
        share = min(max((progress - self.start) / (self.end - self.start), 0.0), 1.0)
        return self.initial + (self.maximum - self.initial) * share


@dataclass(frozen=True)
class SigmoidRamp:
    """Sigmoid-shaped ramp to ``maximum``, constant after ``end`` (Laine, Aila 2017, arXiv 1610.02242).

    With t = progress / end, the weight is initial + (maximum - initial) exp(-5 (1 - t)^2).
    """

    maximum: float = 1.0
    end: float = 1.0
    initial: float = 0.0

    def __post_init__(self) -> None:
        """Check that ``end`` is in (0, 1]."""
        if not 0.0 < self.end <= 1.0:
            raise ValueError(f"a ramp needs 0 < end <= 1, got {self.end}")

    def __call__(self, progress: float) -> float:
        """Return the weight at ``progress``."""
        share = min(max(progress / self.end, 0.0), 1.0)
        return self.initial + (self.maximum - self.initial) * math.exp(-5.0 * (1.0 - share) ** 2)


@dataclass(frozen=True)
class CosineRamp:
    """Cosine ramp from ``initial`` at progress ``start`` to ``final`` at ``end``, constant before and after.

    The weight is final + (initial - final) (1 + cos(pi t)) / 2. Either value may be the larger one.
    """

    initial: float
    final: float
    start: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        """Check the order of ``start`` and ``end``."""
        if not 0.0 <= self.start < self.end <= 1.0:
            raise ValueError(f"a ramp needs 0 <= start < end <= 1, got start {self.start}, end {self.end}")

    def __call__(self, progress: float) -> float:
        """Return the weight at ``progress``."""
        share = min(max((progress - self.start) / (self.end - self.start), 0.0), 1.0)
        return self.final + (self.initial - self.final) * (1.0 + math.cos(math.pi * share)) / 2.0
