"""Splits into labeled, unlabeled and held-out images: random, nested, and by patient."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import PurePath
from typing import Any

import numpy as np

PERCENTS = (5, 10, 20, 50, 100)
"""Shares of labeled training images, in percent."""

Entry = Mapping[str, Any]
"""One image: ``image``, ``label``, and optionally ``patient``, ``grade``, ``domain`` and ``mpp``."""
DataList = dict[str, list[dict[str, Any]]]
"""A data list: ``training``, ``unlabeled``, ``validation`` (optional) and ``test``."""


def nested_draws(entries: Sequence[Entry], counts: Sequence[int], seed: int, by: str = "grade") -> dict[int, list[int]]:
    """Draw stratified random subsets of several sizes, each contained in all larger ones.

    The order of the strata is Tijdeman's chairman assignment (Discrete Mathematics 32, 1980), so that at every size the
    count of each stratum is less than one image away from its exact share; images within a stratum are drawn randomly.

    Args:
        entries: the images to draw from.
        counts: sizes of the draws, each in [1, len(entries)].
        seed: seed of ``numpy.random.default_rng``; the same seed gives the same draws.
        by: key of the strata; entries without it form one stratum.

    Returns:
        Indices into ``entries``, sorted, for each count.

    Raises:
        ValueError: if a count is outside the range.
    """
    for count in counts:
        if not 1 <= count <= len(entries):
            raise ValueError(f"cannot draw {count} of {len(entries)} images; give a count from 1 to {len(entries)}")
    strata: dict[str, list[int]] = {}
    for index, entry in enumerate(entries):
        strata.setdefault(str(entry.get(by, "")), []).append(index)
    names = sorted(strata)
    generator = np.random.default_rng(seed)
    shuffled = [iter(generator.permutation(strata[name]).tolist()) for name in names]
    order = [next(shuffled[next_stratum]) for next_stratum in _stratum_order([len(strata[name]) for name in names])]
    return {count: sorted(order[:count]) for count in counts}


def _stratum_order(sizes: Sequence[int]) -> list[int]:
    """Return the stratum at each step, so that the counts of every prefix are within one of the exact shares."""
    total = sum(sizes)
    if len(sizes) < 2:
        return [0] * total
    slack = Fraction(1, 2 * len(sizes) - 2)
    taken = [0] * len(sizes)
    order = []
    for step in range(1, total + 1):
        owed = [Fraction(step * size, total) - count for size, count in zip(sizes, taken, strict=True)]
        ready = [stratum for stratum, debt in enumerate(owed) if debt >= slack]
        next_stratum = min(ready, key=lambda stratum: ((1 - slack - owed[stratum]) / sizes[stratum], stratum))
        taken[next_stratum] += 1
        order.append(next_stratum)
    return order


def share_count(percent: float, total: int) -> int:
    """Return the number of images that ``percent`` of ``total`` is: rounded half up, at least 1."""
    return max(1, int(Fraction(percent) * total / 100 + Fraction(1, 2)))


def patient_folds(entries: Sequence[Entry], folds: int = 3, seed: int = 0) -> list[list[int]]:
    """Split images into folds by patient, balanced in images and grades.

    Patients are assigned from the largest to the smallest, each to the fold that brings the counts nearest to equal
    shares; the best result of many random orders among patients of equal size is used.

    Args:
        entries: the images; each needs ``patient``, and those without ``grade`` count as one grade.
        folds: number of folds, at least 2 and at most the number of patients.
        seed: seed of ``numpy.random.default_rng``; the same seed gives the same folds.

    Returns:
        Indices into ``entries``, sorted, of each fold; folds are in the order of their first index.

    Raises:
        ValueError: if an entry has no patient, or there are fewer patients than folds.
    """
    if any("patient" not in entry for entry in entries):
        raise ValueError("an entry has no patient; folds by patient need the key patient in every entry")
    patients = sorted({str(entry["patient"]) for entry in entries})
    if not 2 <= folds <= len(patients):
        raise ValueError(f"cannot make {folds} folds of {len(patients)} patients; give 2 to {len(patients)}")
    grades = sorted({str(entry.get("grade", "")) for entry in entries})
    counts = np.zeros((len(patients), len(grades) + 1), dtype=np.int64)
    for entry in entries:
        row = patients.index(str(entry["patient"]))
        counts[row, grades.index(str(entry.get("grade", "")))] += 1
        counts[row, -1] += 1
    fold_of = _assign_folds(counts, folds, np.random.default_rng(seed))
    parts: list[list[int]] = [[] for _ in range(folds)]
    for index, entry in enumerate(entries):
        parts[fold_of[patients.index(str(entry["patient"]))]].append(index)
    return sorted(parts)


def _assign_folds(counts: np.ndarray, folds: int, generator: np.random.Generator, tries: int = 100) -> np.ndarray:
    """Return the fold of each patient; ``counts`` (patients, grades + 1) are images of each grade and in total."""
    target = counts.sum(axis=0) / folds
    best, best_cost = np.zeros(len(counts), dtype=np.int64), np.inf
    for _ in range(tries):
        order = generator.permutation(len(counts))
        order = order[np.argsort(-counts[order, -1], kind="stable")]
        filled = np.zeros((folds, counts.shape[1]))
        chosen = np.zeros(len(counts), dtype=np.int64)
        for patient in order:
            rise = ((filled + counts[patient] - target) ** 2 - (filled - target) ** 2).sum(axis=1)
            chosen[patient] = rise.argmin()
            filled[chosen[patient]] += counts[patient]
        cost = ((filled - target) ** 2).sum()
        if cost < best_cost:
            best, best_cost = chosen, cost
    return best


def draw_split(
    entries: Sequence[Entry],
    validation: Iterable[int],
    percents: Sequence[float],
    seeds: Sequence[int],
    counts: Sequence[int] = (),
) -> dict[str, Any]:
    """Draw a split of image names, for a JSON file: a validation part, and labeled draws from the rest.

    Args:
        entries: all images except test images.
        validation: indices of the validation images; may be empty.
        percents: shares of labeled images among the rest.
        seeds: seeds; for each, one set of nested draws, stratified by ``grade``.
        counts: numbers of labeled images, drawn together with the shares, so that all draws of a seed are nested.

    Returns:
        ``{"validation": [name, ...], "labeled": {seed: {percent: [name, ...]}}}``, with names of ``image_name``, and
        seeds and percents as text; a count of 7 has the key ``7images``.

    Raises:
        ValueError: if two entries have the same name, validation takes every image, or a count is out of range.
    """
    names = [image_name(entry) for entry in entries]
    if len(set(names)) < len(names):
        raise ValueError("two images have the same name; a split by name needs different names")
    held = set(validation)
    rest = [index for index in range(len(entries)) if index not in held]
    if not rest:
        raise ValueError("validation takes every image; leave some for training")
    sizes = {f"{percent:g}": share_count(percent, len(rest)) for percent in percents}
    sizes |= {f"{count}images": count for count in counts}
    labeled: dict[str, dict[str, list[str]]] = {}
    for seed in seeds:
        draws = nested_draws([entries[index] for index in rest], sorted(set(sizes.values())), seed)
        labeled[str(seed)] = {key: [names[rest[index]] for index in draws[size]] for key, size in sizes.items()}
    return {"validation": [names[index] for index in sorted(held)], "labeled": labeled}


def heldout_lists(
    entries: Sequence[Entry],
    test: Sequence[Entry],
    split: Mapping[str, Any],
    protocol: str = "heldout",
    unlabeled: Sequence[Entry] = (),
) -> dict[str, DataList]:
    """Make the data lists of one split.

    Args:
        entries: all images except test images, with labels.
        test: the test images, the same in every list.
        split: names of the validation part and of the labeled draws, as returned by ``draw_split``.
        protocol: prefix of the file names.
        unlabeled: images without label, unlabeled in every list.

    Returns:
        ``{protocol}_{percent}_seed{seed}.json`` -> data list, with ``{count}images`` for ``{percent}`` if a count was
        drawn. Images that are neither validation nor labeled are unlabeled, without ``label``; lists of a split without
        validation lack that key.

    Raises:
        ValueError: if the split names an image that is not in ``entries``.
    """
    known = {image_name(entry) for entry in entries}
    held = set(split["validation"])
    lists = {}
    for seed, draws in split["labeled"].items():
        for percent, names in draws.items():
            labeled = set(names)
            unknown = sorted((labeled | held) - known)
            if unknown:
                raise ValueError(f"the split names {unknown[0]}, which is not among the images; draw the split again")
            parts: DataList = {"training": [], "unlabeled": []}
            parts |= {"validation": []} if held else {}
            for entry in entries:
                name = image_name(entry)
                part = "validation" if name in held else "training" if name in labeled else "unlabeled"
                parts[part].append({key: entry[key] for key in entry if part != "unlabeled" or key != "label"})
            parts["unlabeled"] += [dict(entry) for entry in unlabeled]
            parts["test"] = [dict(entry) for entry in test]
            lists[f"{protocol}_{percent}_seed{seed}.json"] = parts
    return lists


def image_name(entry: Entry) -> str:
    """Return the name of an image in a split: its file name without folder and suffix."""
    return PurePath(entry["image"]).stem
