"""Numbers of a report: mean and spread over seeds, and the comparison of two methods image by image."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

RESAMPLES = 5000
"""Draws of the bootstrap."""


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation (n - 1 in the denominator) of some values; no deviation of a single one."""

    mean: float
    deviation: float | None
    values: tuple[float, ...]


@dataclass(frozen=True)
class Comparison:
    """Two methods on the same images: first minus second.

    Attributes:
        images: images that both have.
        difference: mean difference.
        low: lower end of the bootstrap interval of the mean difference; ``None`` for fewer than 2 images.
        high: upper end of it.
        level: of the interval, for instance 0.95.
        p: of the two-sided Wilcoxon signed-rank test; 1 where no image differs.
        better: images on which the first has the larger value.
        worse: images on which it has the smaller one.
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
    """Mean and standard deviation of the values that are numbers.

    Raises:
        ValueError: where there is none.
    """
    known = tuple(float(value) for value in values if value is not None and math.isfinite(value))
    if not known:
        raise ValueError("there is no value to take the mean of")
    return Spread(float(np.mean(known)), float(np.std(known, ddof=1)) if len(known) > 1 else None, known)


def mean_per_image(tables: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean over seeds of each image's score, for the images that all seeds have."""
    shared = set.intersection(*(set(table) for table in tables)) if tables else set()
    return {name: float(np.mean([table[name] for table in tables])) for name in sorted(shared)}


def seed_interval(differences: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Student's t interval of the mean of differences, one a seed: what other draws of labels and starts would change.

    Raises:
        ValueError: for fewer than 2 seeds, of which nobody knows the spread.
    """
    if len(differences) < 2:
        raise ValueError("an interval over seeds needs at least 2 of them")
    if np.ptp(differences) == 0:
        return float(differences[0]), float(differences[0])
    low, high = stats.ttest_1samp(differences, 0.0).confidence_interval(level)
    return float(low), float(high)


def compare(first: Mapping[str, float], second: Mapping[str, float], level: float = 0.95, seed: int = 0) -> Comparison:
    """Compare two methods image by image.

    The interval is the percentile bootstrap of the mean difference over images, drawn from ``seed``; the test is
    Wilcoxon's, two-sided, images without difference left out. Both take images for independent of each other; images
    of one patient are not, so the interval is rather too narrow.

    Args:
        first: score by name of the image.
        second: likewise; only names in both count.
        level: of the interval, in (0, 1).
        seed: of the bootstrap.

    Raises:
        ValueError: where the two share no image.
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
            drawn = stats.bootstrap(
                (differences,),
                np.mean,
                n_resamples=RESAMPLES,
                confidence_level=level,
                method="percentile",
                rng=generator,
            )
            low, high = (float(end) for end in drawn.confidence_interval)
    p = float(stats.wilcoxon(differences).pvalue) if np.any(differences != 0) else 1.0
    better, worse = int((differences > 0).sum()), int((differences < 0).sum())
    return Comparison(len(names), float(differences.mean()), low, high, level, p, better, worse)
