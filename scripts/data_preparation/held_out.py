"""Held-out parts: number of images, and a random selection of whole patients."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.data.message_text import pluralize
from bundle.data.splits import nested_draws, share_count

Entry = Mapping[str, Any]
MANY_PATIENTS = 1000
"""Number of patients above which fewer random orders are tried, to save time."""
UNREACHABLE = np.iinfo(np.int32).max // 2
"""Number of patients that stands for an impossible number of images."""


@dataclass(frozen=True)
class Amount:
    """A number of images, or a share of them."""

    value: float
    percent: bool

    @classmethod
    def parse(cls, text: str) -> Amount:
        """Read ``20%`` as a share and ``12`` as a number of images.

        Raises:
            ValueError: if the text is neither, or above 100 %.
        """
        if not re.fullmatch(r"\d+(\.\d+)?\s*%|\d+", text.strip()):
            raise ValueError(f"{text!r} is not an amount; write 20% for a share, 12 for a number of images")
        amount = cls(float(text.strip().rstrip("% ")), "%" in text)
        if amount.percent and amount.value > 100:
            raise ValueError(f"{text} is above 100%; give 100% at most")
        return amount

    def of(self, total: int) -> int:
        """Return the number of images of ``total``: shares are rounded half up, to at least 1 unless they are 0."""
        if not self.percent:
            return int(self.value)
        return share_count(self.value, total) if self.value else 0

    def __str__(self) -> str:
        return f"{self.value:g}%" if self.percent else pluralize(int(self.value), "image")


def patient_of(entry: Entry) -> str:
    """Return the patient of an image; an image without patient is its own patient."""
    return f"patient {entry['patient']}" if "patient" in entry else f"image {PurePath(entry['image']).stem}"


def draw_held_out(entries: Sequence[Entry], count: int, seed: int, keep: int = 1) -> list[int]:
    """Draw whole patients with ``count`` images in total, or as near to it as whole patients allow.

    Of many random draws with the right number of images, the one whose grades are nearest to their shares is used. If
    every image is its own patient, the draw is that of ``nested_draws``.

    Args:
        entries: the images to draw from, with ``grade`` and ``patient`` if known.
        count: number of images, at least 1.
        seed: seed of ``numpy.random.default_rng``; the same seed and entries give the same draw.
        keep: number of patients that must not be drawn.

    Returns:
        Indices into ``entries``, sorted; at least one.

    Raises:
        ValueError: if there are not more than ``keep`` patients.
    """
    names = [patient_of(entry) for entry in entries]
    patients = sorted(set(names))
    if len(patients) <= keep:
        raise ValueError(
            f"cannot hold out images of {pluralize(len(patients), 'patient')} and keep {keep}; "
            f"hold fewer parts out, or add images (an image without a patient is its own patient)"
        )
    if len(patients) == len(entries):
        return nested_draws(entries, [min(count, len(entries) - keep)], seed)[min(count, len(entries) - keep)]
    grades = sorted({str(entry.get("grade", "")) for entry in entries})
    counts = np.zeros((len(patients), len(grades)), dtype=np.int64)
    for name, entry in zip(names, entries, strict=True):
        counts[patients.index(name), grades.index(str(entry.get("grade", "")))] += 1
    chosen = _choose_patients(counts, count, len(patients) - keep, np.random.default_rng(seed))
    held = {patients[row] for row in chosen}
    return [index for index, name in enumerate(names) if name in held]


def _choose_patients(counts: NDArray[np.int64], count: int, most: int, generator: np.random.Generator) -> list[int]:
    """Return rows of ``counts`` (patients, grades) with a sum of ``count`` or nearest to it; at most ``most`` rows."""
    target = count * counts.sum(axis=0) / counts.sum()
    best: list[int] = []
    best_cost = np.inf
    for _ in range(100 if len(counts) <= MANY_PATIENTS else 5):
        order = generator.permutation(len(counts))
        chosen = _select_rows(counts[order], count, most, target)
        cost = float(((counts[order][chosen].sum(axis=0) - target) ** 2).sum())
        if cost < best_cost:
            best, best_cost = order[chosen].tolist(), cost
    return best


def _select_rows(counts: NDArray[np.int64], count: int, most: int, target: NDArray[np.float64]) -> list[int]:
    """Go through the rows once and select each that brings the grades nearer, if the sum can still be reached."""
    needed = _fewest_rows(counts.sum(axis=1))
    reachable = np.flatnonzero(needed[0] <= most)
    reachable = reachable[reachable > 0]
    remaining = int(reachable[np.abs(reachable - count).argmin()])
    chosen: list[int] = []
    filled = np.zeros_like(target)
    for row, images in enumerate(counts):
        size = int(images.sum())
        rows_left = most - len(chosen)
        may_take = size <= remaining and needed[row + 1][remaining - size] < rows_left
        may_leave = needed[row + 1][remaining] <= rows_left
        nearer = ((filled + images - target) ** 2).sum() < ((filled - target) ** 2).sum()
        if may_take and (nearer or not may_leave):
            chosen.append(row)
            filled = filled + images
            remaining -= size
    return chosen


def _fewest_rows(sizes: NDArray[np.int64]) -> NDArray[np.int32]:
    """Return (rows + 1, sum + 1): the fewest rows from i on with a given sum; ``UNREACHABLE`` if there are none."""
    total = int(sizes.sum())
    needed = np.full((len(sizes) + 1, total + 1), UNREACHABLE, dtype=np.int32)
    needed[-1, 0] = 0
    for row in range(len(sizes) - 1, -1, -1):
        size = sizes[row]
        needed[row] = needed[row + 1]
        needed[row, size:] = np.minimum(needed[row, size:], needed[row + 1, : total + 1 - size] + 1)
    return needed
