"""Plans of data lists: how much is held out, how much is labeled, and with which seeds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from bundle.data.held_out import Amount, Entry, draw_held_out, patient_of
from bundle.data.sentences import counted
from bundle.data.splits import DataList, draw_split, heldout_lists, patient_folds

HELD_OUT_SEED = 0
"""Validation and test are the same for every seed of the labeled draws."""


@dataclass(frozen=True)
class Plan:
    """Which lists to draw; amounts are text such as ``20%`` or ``12``, of the images with a mask."""

    labeled: Sequence[str] = ("100%",)
    """Labeled of those that are not held out; one list each."""
    seeds: Sequence[int] = (0,)
    """One set of nested draws a seed."""
    validation: str = "20%"
    test: str = "20%"
    folds: int = 0
    """Lists that each hold another fold out for validation; 0 for none."""

    def check(self) -> None:
        """Refuse what no images could fulfil.

        Raises:
            ValueError: saying which value is wrong.
        """
        if not self.labeled or any(Amount.parse(text).value == 0 for text in self.labeled):
            raise ValueError("a list without a labeled image cannot train; give --labeled more than 0")
        if not self.seeds or min(self.seeds) < 0:
            raise ValueError("seeds are whole numbers from 0 on; give --seeds one or more of them")
        if self.folds not in (0, *range(2, 1000)):
            raise ValueError(f"--folds is {self.folds}; give 2 or more, or 0 for none")
        for text in (self.validation, self.test):
            Amount.parse(text)


def draw_lists(entries: Sequence[Entry], plan: Plan) -> dict[str, DataList]:
    """Draw all lists of a plan: ``heldout_...`` first, then ``fold0_...`` and so on.

    No patient is in two of the sides learned from, validation and test; an image without a patient is its own. The
    test part is the same in every list. Images without a label are unlabeled in every list, but for those of patients
    that are held out, which are left out.

    Args:
        entries: all images; those with ``label`` are split. The order matters, so sort them.
        plan: what to draw.

    Returns:
        File name -> data list.

    Raises:
        ValueError: where there are too few images or patients for the plan.
    """
    plan.check()
    labeled = [entry for entry in entries if "label" in entry]
    bare = [entry for entry in entries if "label" not in entry]
    wanted = _wanted(labeled, plan)
    test: list[Entry] = []
    if wanted["test"]:
        drawn = set(draw_held_out(labeled, wanted["test"], HELD_OUT_SEED, keep=2 if wanted["validation"] else 1))
        test = [entry for index, entry in enumerate(labeled) if index in drawn]
        labeled = [entry for index, entry in enumerate(labeled) if index not in drawn]
    held = draw_held_out(labeled, wanted["validation"], HELD_OUT_SEED) if wanted["validation"] else []
    lists = _lists(labeled, bare, test, held, plan, "heldout", plan.seeds)
    if plan.folds:
        alone = [{**entry, "patient": patient_of(entry)} for entry in labeled]
        for number, fold in enumerate(patient_folds(alone, plan.folds, HELD_OUT_SEED)):
            lists |= _lists(labeled, bare, test, fold, plan, f"fold{number}", plan.seeds[:1])
    return lists


def count_parts(lists: dict[str, DataList]) -> dict[str, dict[str, int]]:
    """File name -> part -> how many images."""
    return {name: {part: len(entries) for part, entries in parts.items()} for name, parts in lists.items()}


def patient_notes(entries: Iterable[Entry], lists: dict[str, DataList]) -> list[str]:
    """Sentences on what the lists say of patients, and on images that no list could take."""
    known = list(entries)
    nameless = sum("patient" not in entry for entry in known)
    notes = []
    if nameless == len(known):
        notes.append("no patients are known: where images are of one patient, give --table, or scores are too good")
    elif nameless:
        notes.append(f"{nameless} of {len(known)} images have no patient; each counts as a patient of its own")
    first = next(iter(lists.values()))
    left = len(known) - sum(map(len, first.values()))
    if left:
        notes.append(f"{counted(left, 'image')} without a mask left out: of patients in validation or test")
    return notes


def _wanted(labeled: Sequence[Entry], plan: Plan) -> dict[str, int]:
    """Images of validation and test; refuses what leaves none to train on."""
    total = len(labeled)
    amounts = {"validation": Amount.parse(plan.validation), "test": Amount.parse(plan.test)}
    wanted = {part: amount.of(total) for part, amount in amounts.items()}
    asked = " and ".join(f"{part} ({amounts[part]})" for part, count in wanted.items() if count)
    if sum(wanted.values()) >= total:
        raise ValueError(
            f"{asked} take all of the {counted(total, 'image')} with a mask and leave none to train on; "
            f"ask for less, or add masks"
        )
    patients = Counter(map(patient_of, labeled))
    parts = 1 + sum(count > 0 for count in wanted.values())
    if len(patients) < parts:
        raise ValueError(
            f"training, {asked.replace(' and ', ', ')} share no patient, so they need {parts} patients, and the "
            f"{counted(total, 'image')} with a mask are of {len(patients)}; ask for fewer parts, or add images"
        )
    return wanted


def _lists(
    labeled: Sequence[Entry],
    bare: Sequence[Entry],
    test: Sequence[Entry],
    held: Iterable[int],
    plan: Plan,
    protocol: str,
    seeds: Sequence[int],
) -> dict[str, DataList]:
    """Lists of one choice of validation images."""
    kept = list(held)
    amounts = [Amount.parse(text) for text in plan.labeled]
    rest = len(labeled) - len(kept)
    most = max((int(amount.value) for amount in amounts if not amount.percent), default=0)
    if most > rest:
        raise ValueError(
            f"--labeled {most} is more than the {counted(rest, 'image')} with a mask that {protocol} has left "
            f"to train on; give {rest} at most"
        )
    percents = [amount.value for amount in amounts if amount.percent]
    counts = [int(amount.value) for amount in amounts if not amount.percent]
    split: dict[str, Any] = draw_split(labeled, kept, percents, seeds, counts)
    out = {patient_of(entry) for entry in [*test, *(labeled[index] for index in kept)]}
    free = [entry for entry in bare if patient_of(entry) not in out]
    return heldout_lists(labeled, test, split, protocol, free)
