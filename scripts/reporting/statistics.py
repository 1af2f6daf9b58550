"""Statistics of a report: mean and spread over seeds, and paired comparisons over the test images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

RESAMPLES = 5000
"""Number of bootstrap resamples."""


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation (n - 1); ``deviation`` is ``None`` for a single value."""

    mean: float
    deviation: float | None
    values: tuple[float, ...]


@dataclass(frozen=True)
class Comparison:
    """Comparison of two methods on the same images: first minus second.

    Attributes:
        images: number of images with both scores.
        difference: mean difference.
        low: lower end of the bootstrap interval of the mean difference; ``None`` for fewer than 2 images.
        high: upper end of it.
        level: confidence level of the interval, for example 0.95.
        p: p-value of the two-sided Wilcoxon signed-rank test; 1 if no image differs.
        better: number of images where the first method has the larger value.
        worse: number of images where it has the smaller value.
    """

    images: int
    difference: float
    low: float | None
    high: float | None
    level: float
    p: float
    better: int
    worse: int


def spread(values: Sequence[float]) -> Spread:
    """Return the mean and standard deviation of the finite values.

    Raises:
        ValueError: if there are none.
    """
    finite = tuple(float(value) for value in values if value is not None and math.isfinite(value))
    if not finite:
        raise ValueError("there is no value to average")
    return Spread(float(np.mean(finite)), float(np.std(finite, ddof=1)) if len(finite) > 1 else None, finite)


def mean_per_image(tables: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean over seeds of the score of each image, for images in all tables."""
    shared = set.intersection(*(set(table) for table in tables)) if tables else set()
    return {name: float(np.mean([table[name] for table in tables])) for name in sorted(shared)}


def seed_interval(differences: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Return Student's t interval of the mean difference over seeds, one difference per seed.

    Raises:
        ValueError: if there are fewer than 2 seeds.
    """
    if len(differences) < 2:
        raise ValueError("an interval over seeds needs at least 2 seeds")
    if np.ptp(differences) == 0:
        return float(differences[0]), float(differences[0])
    low, high = stats.ttest_1samp(differences, 0.0).confidence_interval(level)
    return float(low), float(high)


def compare(first: Mapping[str, float], second: Mapping[str, float], level: float = 0.95, seed: int = 0) -> Comparison:
    """Compare two methods image by image.

    The interval is the percentile bootstrap of the mean difference over images. The test is Wilcoxon's signed-rank
    test, two-sided, without images that do not differ. Both assume independent images. Images of the same patient are
    not independent, so the interval is then too narrow.

    Args:
        first: score by image name.
        second: score by image name; only images in both are used.
        level: confidence level of the interval, in (0, 1).
        seed: seed of the bootstrap.

    Raises:
        ValueError: if the methods have no image in common.
    """
    names = sorted(set(first) & set(second))
    if not names:
        raise ValueError("the two methods have no image in common")
    differences = np.array([first[name] - second[name] for name in names])
    low = high = None
    if len(names) > 1:
        low = high = float(differences[0])
        if np.ptp(differences) > 0:
            generator = np.random.default_rng(seed)
            result = stats.bootstrap(
                (differences,),
                np.mean,
                n_resamples=RESAMPLES,
                confidence_level=level,
                method="percentile",
                rng=generator,
            )
            low, high = (float(end) for end in result.confidence_interval)
    p = float(stats.wilcoxon(differences).pvalue) if np.any(differences != 0) else 1.0
    better, worse = int((differences > 0).sum()), int((differences < 0).sum())
    return Comparison(len(names), float(differences.mean()), low, high, level, p, better, worse)
