"""What parts of a checked data list have in common: files, decoded content, patients."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from bundle.data.check import Checked, CheckedList, Finding
from bundle.data.leakage import LEARNED, PATIENT
from bundle.data.lists import PARTS
from bundle.data.sentences import counted, some

ADVICE = "take them out of one of the two"


def find_overlaps(checked: CheckedList) -> list[Finding]:
    """Findings on images and patients that stand twice.

    Only ``training`` and ``unlabeled`` may share an image: a few methods want a labeled image as an unlabeled one too.
    Test images of patients that are learned from are a warning, as published sets have them. Images of one color are
    not compared: empty glass looks alike without being the same.
    """
    parts = {part: [entry for entry in checked.part(part) if entry.image is not None] for part in PARTS}
    found = []
    for one, other in combinations(PARTS, 2):
        found += _between(one, parts[one], other, parts[other])
    for part, entries in parts.items():
        found += _within(part, entries)
    return found + _on_patients(checked)


def _between(one: str, firsts: Sequence[Checked], other: str, seconds: Sequence[Checked]) -> list[Finding]:
    """What two parts share."""
    may = (one, other) == LEARNED
    files = {entry.source for entry in seconds}
    same = [entry.image_path for entry in firsts if entry.source in files]
    digests = {entry.digest: entry for entry in reversed(seconds) if entry.digest}
    alike = [
        f"{entry.image_path} is {digests[entry.digest].image_path}"
        for entry in firsts
        if entry.digest in digests and entry.source not in files
    ]
    found = []
    if same:
        advice = "a few methods want that" if may else ADVICE
        sentence = f"{counted(len(same), 'image')} both in {one} and in {other} ({some(same)}); {advice}"
        found.append(Finding("labeled_and_unlabeled" if may else "shared_image", not may, sentence, same))
    if alike:
        sentence = f"{counted(len(alike), 'image')} of {one} under another name in {other} ({some(alike)}); {ADVICE}"
        found.append(Finding("duplicate_content" if may else "shared_content", not may, sentence, alike))
    return found


def _within(part: str, entries: Sequence[Checked]) -> list[Finding]:
    """What stands twice in one part."""
    files: dict[str, Checked] = {}
    digests: dict[str, Checked] = {}
    same, alike = [], []
    for entry in entries:
        if entry.source in files:
            same.append(entry.image_path)
        elif entry.digest and entry.digest in digests:
            alike.append(f"{entry.image_path} is {digests[entry.digest].image_path}")
        files.setdefault(entry.source, entry)
        digests.setdefault(entry.digest, entry)
    found = []
    if same:
        sentence = f"{counted(len(same), 'image')} twice in {part} ({some(same)}); take one of each away"
        found.append(Finding("duplicate_image", False, sentence, same))
    if alike:
        sentence = (
            f"{counted(len(alike), 'image')} of {part} under another name in it ({some(alike)}); take one of each away"
        )
        found.append(Finding("duplicate_content", False, sentence, alike))
    return found


def _on_patients(checked: CheckedList) -> list[Finding]:
    known = {part: [entry.known[PATIENT] for entry in checked.part(part) if PATIENT in entry.known] for part in PARTS}
    learned = {patient for part in LEARNED for patient in known[part]}
    chosen = set(known["validation"])
    leaks = list(dict.fromkeys(patient for patient in known["validation"] if patient in learned))
    seen = [patient for patient in known["test"] if patient in learned]
    only_chosen = [patient for patient in known["test"] if patient in chosen - learned]
    total = len(checked.part("test"))
    found = []
    if leaks:
        sentence = (
            f"{counted(len(leaks), 'patient')} both in validation and in training or unlabeled ({some(leaks)}), so the "
            f"checkpoint would be chosen on known tissue; keep all images of a patient in one part"
        )
        found.append(Finding("shared_patient", True, sentence, leaks))
    if seen:
        sentence = (
            f"{len(seen)} of {counted(total, 'test image')} of patients that training or unlabeled holds too "
            f"({some(dict.fromkeys(seen))}); no score on them shows how a method does on new patients"
        )
        found.append(Finding("test_patient_learned", False, sentence, list(dict.fromkeys(seen))))
    if only_chosen:
        sentence = (
            f"{len(only_chosen)} of {counted(total, 'test image')} of patients that validation holds too "
            f"({some(dict.fromkeys(only_chosen))}); the checkpoint is chosen on these patients"
        )
        found.append(Finding("test_patient_validated", False, sentence, list(dict.fromkeys(only_chosen))))
    return found
