"""Held-out parts: how many images are asked for, and which whole patients give them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.data.sentences import counted
from bundle.data.splits import nested_draws, share_count

Entry = Mapping[str, Any]
MANY = 1000
"""Patients from which on fewer random orders are tried, for the sake of time."""
NEVER = np.iinfo(np.int32).max // 2
"""Patients that a number of images needs where no patients give it."""


@dataclass(frozen=True)
class Amount:
    """So many images, or such a share of them."""

    value: float
    percent: bool

    @classmethod
    def parse(cls, text: str) -> Amount:
        """Read ``20%`` as a share and ``12`` as a number of images.

        Raises:
            ValueError: for other text, or more than 100 %.
        """
        if not re.fullmatch(r"\d+(\.\d+)?\s*%|\d+", text.strip()):
            raise ValueError(f"{text!r} is no amount; write 20% for a share, 12 for a number of images")
        amount = cls(float(text.strip().rstrip("% ")), "%" in text)
        if amount.percent and amount.value > 100:
            raise ValueError(f"{text} is more than there is; give 100% at most")
        return amount

    def of(self, total: int) -> int:
        """Images that this is of ``total``: shares are rounded, halves up, to at least 1 unless the share is 0."""
        if not self.percent:
            return int(self.value)
        return share_count(self.value, total) if self.value else 0

    def __str__(self) -> str:
        return f"{self.value:g}%" if self.percent else counted(int(self.value), "image")


def patient_of(entry: Entry) -> str:
    """Patient of an image; one without is its own."""
    return f"patient {entry['patient']}" if "patient" in entry else f"image {PurePath(entry['image']).stem}"


def draw_held_out(entries: Sequence[Entry], count: int, seed: int, keep: int = 1) -> list[int]:
    """Draw whole patients whose images are ``count`` in number, or as near to it as whole patients come.

    Grades keep their shares as far as whole patients allow: of many random draws with the right number of images the
    one with the best grades is taken. Where every image is its own patient, the draw is ``nested_draws``.

    Args:
        entries: the images to draw from, with ``grade`` and ``patient`` where they are known.
        count: images wanted, at least 1.
        seed: of ``numpy.random.default_rng``; the same seed and entries give the same draw.
        keep: patients that must be left.

    Returns:
        Indices into ``entries``, sorted; at least one.

    Raises:
        ValueError: where the patients are not more than ``keep``.
    """
    names = [patient_of(entry) for entry in entries]
    patients = sorted(set(names))
    if len(patients) <= keep:
        raise ValueError(
            f"cannot hold out images of {counted(len(patients), 'patient')} and keep {keep}; "
            f"an image without a patient is its own; hold fewer parts out, or add images"
        )
    if len(patients) == len(entries):
        return nested_draws(entries, [min(count, len(entries) - keep)], seed)[min(count, len(entries) - keep)]
    grades = sorted({str(entry.get("grade", "")) for entry in entries})
    counts = np.zeros((len(patients), len(grades)), dtype=np.int64)
    for name, entry in zip(names, entries, strict=True):
        counts[patients.index(name), grades.index(str(entry.get("grade", "")))] += 1
    chosen = _choose(counts, count, len(patients) - keep, np.random.default_rng(seed))
    held = {patients[row] for row in chosen}
    return [index for index, name in enumerate(names) if name in held]


def _choose(counts: NDArray[np.int64], count: int, most: int, generator: np.random.Generator) -> list[int]:
    """Rows of ``counts`` (patients, grades) that sum to ``count`` or what is nearest; ``most`` rows at most."""
    wanted = count * counts.sum(axis=0) / counts.sum()
    best: list[int] = []
    best_cost = np.inf
    for _ in range(100 if len(counts) <= MANY else 5):
        order = generator.permutation(len(counts))
        chosen = _walk(counts[order], count, most, wanted)
        cost = float(((counts[order][chosen].sum(axis=0) - wanted) ** 2).sum())
        if cost < best_cost:
            best, best_cost = order[chosen].tolist(), cost
    return best


def _walk(counts: NDArray[np.int64], count: int, most: int, wanted: NDArray[np.float64]) -> list[int]:
    """Go through the rows once and take each that brings the grades nearer, as long as the sum can still be met."""
    needed = _fewest_rows(counts.sum(axis=1))
    reachable = np.flatnonzero(needed[0] <= most)
    reachable = reachable[reachable > 0]
    left = int(reachable[np.abs(reachable - count).argmin()])
    chosen: list[int] = []
    filled = np.zeros_like(wanted)
    for row, images in enumerate(counts):
        size = int(images.sum())
        rows_left = most - len(chosen)
        may_take = size <= left and needed[row + 1][left - size] < rows_left
        may_leave = needed[row + 1][left] <= rows_left
        nearer = ((filled + images - wanted) ** 2).sum() < ((filled - wanted) ** 2).sum()
        if may_take and (nearer or not may_leave):
            chosen.append(row)
            filled = filled + images
            left -= size
    return chosen


def _fewest_rows(sizes: NDArray[np.int64]) -> NDArray[np.int32]:
    """(rows + 1, sum + 1): how few of the rows from i on sum to a number; ``NEVER`` where none do."""
    total = int(sizes.sum())
    needed = np.full((len(sizes) + 1, total + 1), NEVER, dtype=np.int32)
    needed[-1, 0] = 0
    for row in range(len(sizes) - 1, -1, -1):
        size = sizes[row]
        needed[row] = needed[row + 1]
        needed[row, size:] = np.minimum(needed[row, size:], needed[row + 1, : total + 1 - size] + 1)
    return needed
