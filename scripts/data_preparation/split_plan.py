"""Plans of data lists: amounts of held-out and labeled images, and seeds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from bundle.data.message_text import pluralize
from bundle.data.splits import DataList, draw_split, heldout_lists, patient_folds
from scripts.data_preparation.held_out import Amount, Entry, draw_held_out, patient_of

HELD_OUT_SEED = 0
"""Seed of validation and test, which are the same for every seed of the labeled draws."""


@dataclass(frozen=True)
class Plan:
    """Which lists to draw; amounts are text such as ``20%`` or ``12``, of the images with a mask."""

    labeled: Sequence[str] = ("100%",)
    """Amounts of labeled images among those that are not held out; one list for each."""
    seeds: Sequence[int] = (0,)
    """Seeds; one set of nested draws for each."""
    validation: str = "20%"
    test: str = "20%"
    folds: int = 0
    """Number of cross-validation folds, each with a list; 0 for none."""

    def check(self) -> None:
        """Check the values of the plan.

        Raises:
            ValueError: if a value is invalid.
        """
        if not self.labeled or any(Amount.parse(text).value == 0 for text in self.labeled):
            raise ValueError("a list needs labeled images for training; give --labeled more than 0")
        if not self.seeds or min(self.seeds) < 0:
            raise ValueError("seeds must be integers of 0 or more; give --seeds one or more of them")
        if self.folds not in (0, *range(2, 1000)):
            raise ValueError(f"--folds is {self.folds}; give 2 or more, or 0 for none")
        for text in (self.validation, self.test):
            Amount.parse(text)


def draw_lists(entries: Sequence[Entry], plan: Plan) -> dict[str, DataList]:
    """Draw all lists of a plan: ``heldout_...`` first, then ``fold0_...`` and so on.

    No patient is in more than one of training (with unlabeled), validation and test; an image without a patient is its
    own patient. The test part is the same in every list. Images without a label are unlabeled in every list; those of
    held-out patients are left out.

    Args:
        entries: all images; those with ``label`` are split. The result depends on their order, so sort them.
        plan: which lists to draw.

    Returns:
        File name -> data list.

    Raises:
        ValueError: if there are too few images or patients for the plan.
    """
    plan.check()
    labeled = [entry for entry in entries if "label" in entry]
    without_mask = [entry for entry in entries if "label" not in entry]
    counts = _part_counts(labeled, plan)
    test: list[Entry] = []
    if counts["test"]:
        drawn = set(draw_held_out(labeled, counts["test"], HELD_OUT_SEED, keep=2 if counts["validation"] else 1))
        test = [entry for index, entry in enumerate(labeled) if index in drawn]
        labeled = [entry for index, entry in enumerate(labeled) if index not in drawn]
    held = draw_held_out(labeled, counts["validation"], HELD_OUT_SEED) if counts["validation"] else []
    lists = _lists(labeled, without_mask, test, held, plan, "heldout", plan.seeds)
    if plan.folds:
        with_patient = [{**entry, "patient": patient_of(entry)} for entry in labeled]
        for number, fold in enumerate(patient_folds(with_patient, plan.folds, HELD_OUT_SEED)):
            lists |= _lists(labeled, without_mask, test, fold, plan, f"fold{number}", plan.seeds[:1])
    return lists


def count_parts(lists: dict[str, DataList]) -> dict[str, dict[str, int]]:
    """Return the number of images: file name -> part -> number."""
    return {name: {part: len(entries) for part, entries in parts.items()} for name, parts in lists.items()}


def patient_notes(entries: Iterable[Entry], lists: dict[str, DataList]) -> list[str]:
    """Return notes on missing patients, and on images that are in no list."""
    known = list(entries)
    without_patient = sum("patient" not in entry for entry in known)
    notes = []
    if without_patient == len(known):
        notes.append("no patients are known; if patients have several images, give --table, or scores are optimistic")
    elif without_patient:
        notes.append(f"{without_patient} of {len(known)} images have no patient; each counts as a separate patient")
    first = next(iter(lists.values()))
    left_out = len(known) - sum(map(len, first.values()))
    if left_out:
        notes.append(
            f"{pluralize(left_out, 'image')} without a mask not used: their patients are in validation or test"
        )
    return notes


def _part_counts(labeled: Sequence[Entry], plan: Plan) -> dict[str, int]:
    """Return the number of images of validation and test, and check that images for training remain."""
    total = len(labeled)
    amounts = {"validation": Amount.parse(plan.validation), "test": Amount.parse(plan.test)}
    counts = {part: amount.of(total) for part, amount in amounts.items()}
    part_names = " and ".join(f"{part} ({amounts[part]})" for part, count in counts.items() if count)
    if sum(counts.values()) >= total:
        raise ValueError(
            f"{part_names} take all of the {pluralize(total, 'image')} with a mask and leave none for training; "
            f"reduce them, or add masks"
        )
    patients = Counter(map(patient_of, labeled))
    parts = 1 + sum(count > 0 for count in counts.values())
    if len(patients) < parts:
        raise ValueError(
            f"training, {part_names.replace(' and ', ', ')} share no patient, so they need {parts} patients, and the "
            f"{pluralize(total, 'image')} with a mask are of {len(patients)}; hold fewer parts out, or add images"
        )
    return counts


def _lists(
    labeled: Sequence[Entry],
    without_mask: Sequence[Entry],
    test: Sequence[Entry],
    held: Iterable[int],
    plan: Plan,
    protocol: str,
    seeds: Sequence[int],
) -> dict[str, DataList]:
    """Return the lists of one selection of validation images."""
    validation = list(held)
    amounts = [Amount.parse(text) for text in plan.labeled]
    rest = len(labeled) - len(validation)
    most = max((int(amount.value) for amount in amounts if not amount.percent), default=0)
    if most > rest:
        raise ValueError(
            f"--labeled {most} is more than the {pluralize(rest, 'image')} with a mask that {protocol} leaves "
            f"for training; give {rest} at most"
        )
    percents = [amount.value for amount in amounts if amount.percent]
    counts = [int(amount.value) for amount in amounts if not amount.percent]
    split: dict[str, Any] = draw_split(labeled, validation, percents, seeds, counts)
    held_out_patients = {patient_of(entry) for entry in [*test, *(labeled[index] for index in validation)]}
    available = [entry for entry in without_mask if patient_of(entry) not in held_out_patients]
    return heldout_lists(labeled, test, split, protocol, available)
