"""Object scores, compared with a slow implementation of the definitions."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from bundle.metrics import ObjectScoresMetric

Pixels = set[tuple[int, int]]
Objects = dict[int, Pixels]
Plane = NDArray[np.int64]


def objects(plane: Plane) -> Objects:
    """Return the pixels of each object by its number."""
    return {int(n): {(int(y), int(x)) for y, x in np.argwhere(plane == n)} for n in np.unique(plane) if n > 0}


def partner(pixels: Pixels, others: Objects) -> int | None:
    """Return the number of the object with the largest overlap, the lowest of several."""
    best = max(others, key=lambda number: (len(pixels & others[number]), -number), default=None)
    return best if best is not None and pixels & others[best] else None


def f1(predicted: Objects, truth: Objects) -> float:
    if not predicted and not truth:
        return 1.0
    detected = set()
    for pixels in predicted.values():
        number = partner(pixels, truth)
        if number is not None and len(pixels & truth[number]) >= len(truth[number]) / 2:
            detected.add(number)
    return 2 * len(detected) / (len(predicted) + len(truth))


def hausdorff(first: Pixels, second: Pixels) -> float:
    return max(
        max(min(math.dist(a, b) for b in second) for a in first),
        max(min(math.dist(a, b) for a in first) for b in second),
    )


def weighted(side: Objects, value: Callable[[Pixels], float]) -> float:
    return sum(len(item) * value(item) for item in side.values()) / sum(len(item) for item in side.values())


def dice(predicted: Objects, truth: Objects) -> float:
    def of_partner(pixels: Pixels, others: Objects) -> float:
        number = partner(pixels, others)
        return 0.0 if number is None else 2 * len(pixels & others[number]) / (len(pixels) + len(others[number]))

    if not predicted and not truth:
        return 1.0
    if not predicted or not truth:
        return 0.0
    sides = ((predicted, truth), (truth, predicted))
    return sum(weighted(side, lambda item, others=others: of_partner(item, others)) for side, others in sides) / 2


def distance(predicted: Objects, truth: Objects, diagonal: float) -> float:
    def of_partner(pixels: Pixels, others: Objects) -> float:
        number = partner(pixels, others)
        if number is not None:
            return hausdorff(pixels, others[number])
        return min((hausdorff(pixels, other) for other in others.values()), default=diagonal)

    sides = [(side, others) for side, others in ((predicted, truth), (truth, predicted)) if side]
    values = [weighted(side, lambda item, others=others: of_partner(item, others)) for side, others in sides]
    return sum(values) / len(values) if values else 0.0


def random_plane(rng: np.random.Generator, shape: tuple[int, int]) -> Plane:
    """Return a label map with up to five overlapping boxes and rings and a few single pixels, with random numbers."""
    plane = np.zeros(shape, np.int64)
    for number in rng.choice(40, int(rng.integers(0, 6)), replace=False) + 1:
        top, left = rng.integers(0, shape[0] - 1), rng.integers(0, shape[1] - 1)
        height, width = rng.integers(1, 8, 2)
        plane[top : top + height, left : left + width] = number
        if rng.random() < 0.3:
            plane[top + 1 : top + height - 1, left + 1 : left + width - 1] = 0
    plane[rng.random(shape) < 0.02] = int(rng.integers(0, 42))
    return plane


@pytest.mark.parametrize("seed", range(10))
def test_a_hundred_random_label_maps(seed: int) -> None:
    """Ten maps per seed; every second prediction is the label, shifted and changed, so that most objects overlap."""
    rng = np.random.default_rng(seed)
    partly = 0
    for turn in range(10):
        shape = (int(rng.integers(4, 13)), int(rng.integers(4, 15)))
        truth = random_plane(rng, shape)
        predicted = random_plane(rng, shape)
        if turn % 2:
            predicted = np.where(rng.random(shape) < 0.1, predicted, np.roll(truth, rng.integers(0, 3, 2), (0, 1)))
        there, here = objects(truth), objects(predicted)
        expected = (f1(here, there), dice(here, there), distance(here, there, math.dist((1, 1), shape)))
        for score, value in zip(("f1", "dice", "hausdorff"), expected, strict=True):
            metric = ObjectScoresMetric(score)  # type: ignore[arg-type]
            metric(torch.from_numpy(predicted)[None, None], torch.from_numpy(truth)[None, None])
            assert metric.aggregate().item() == pytest.approx(value, abs=1e-9), (score, predicted, truth)
        partly += 0 < expected[1] < 1
    assert partly >= 5, "the maps must agree in part"
