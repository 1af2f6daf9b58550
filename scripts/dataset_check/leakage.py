"""Overlap between the parts of a checked data list: files, decoded content, patients."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from bundle.data.leakage import LEARNED, PATIENT
from bundle.data.lists import PARTS
from bundle.data.message_text import join_names, pluralize
from scripts.dataset_check.checked_list import CheckedEntry, CheckedList, Finding

ADVICE = "remove them from one of the two"


def find_overlaps(checked: CheckedList) -> list[Finding]:
    """Find images and patients that occur twice.

    Only ``training`` and ``unlabeled`` may share images: a few methods use labeled images as unlabeled ones too. Test
    images of training patients are a warning, because published data sets have them. Images of one color, such as
    background, are not compared.
    """
    parts = {part: [entry for entry in checked.part(part) if entry.image is not None] for part in PARTS}
    findings = []
    for first_part, second_part in combinations(PARTS, 2):
        findings += _shared_between(first_part, parts[first_part], second_part, parts[second_part])
    for part, entries in parts.items():
        findings += _duplicates_within(part, entries)
    return findings + _shared_patients(checked)


def _shared_between(
    first_part: str, firsts: Sequence[CheckedEntry], second_part: str, seconds: Sequence[CheckedEntry]
) -> list[Finding]:
    """Find images that two parts share."""
    allowed = (first_part, second_part) == LEARNED
    files = {entry.source for entry in seconds}
    same = [entry.image_path for entry in firsts if entry.source in files]
    digests = {entry.digest: entry for entry in reversed(seconds) if entry.digest}
    copies = [
        f"{entry.image_path} is {digests[entry.digest].image_path}"
        for entry in firsts
        if entry.digest in digests and entry.source not in files
    ]
    findings = []
    if same:
        advice = "a few methods need that" if allowed else ADVICE
        sentence = (
            f"{pluralize(len(same), 'image')} both in {first_part} and in {second_part} ({join_names(same)}); {advice}"
        )
        findings.append(Finding("labeled_and_unlabeled" if allowed else "shared_image", not allowed, sentence, same))
    if copies:
        sentence = (
            f"{pluralize(len(copies), 'image')} of {first_part} under another name in {second_part} "
            f"({join_names(copies)}); {ADVICE}"
        )
        findings.append(Finding("duplicate_content" if allowed else "shared_content", not allowed, sentence, copies))
    return findings


def _duplicates_within(part: str, entries: Sequence[CheckedEntry]) -> list[Finding]:
    """Find images that occur twice in one part."""
    files: dict[str, CheckedEntry] = {}
    digests: dict[str, CheckedEntry] = {}
    same, copies = [], []
    for entry in entries:
        if entry.source in files:
            same.append(entry.image_path)
        elif entry.digest and entry.digest in digests:
            copies.append(f"{entry.image_path} is {digests[entry.digest].image_path}")
        files.setdefault(entry.source, entry)
        digests.setdefault(entry.digest, entry)
    findings = []
    if same:
        sentence = f"{pluralize(len(same), 'image')} twice in {part} ({join_names(same)}); remove one of each"
        findings.append(Finding("duplicate_image", False, sentence, same))
    if copies:
        sentence = (
            f"{pluralize(len(copies), 'image')} of {part} under another name in it ({join_names(copies)}); remove one "
            "of each"
        )
        findings.append(Finding("duplicate_content", False, sentence, copies))
    return findings


def _shared_patients(checked: CheckedList) -> list[Finding]:
    """Find patients of validation and test images that are in other parts too."""
    known = {part: [entry.known[PATIENT] for entry in checked.part(part) if PATIENT in entry.known] for part in PARTS}
    learned = {patient for part in LEARNED for patient in known[part]}
    validation = set(known["validation"])
    leaks = list(dict.fromkeys(patient for patient in known["validation"] if patient in learned))
    seen = [patient for patient in known["test"] if patient in learned]
    validated = [patient for patient in known["test"] if patient in validation - learned]
    total = len(checked.part("test"))
    findings = []
    if leaks:
        sentence = (
            f"{pluralize(len(leaks), 'patient')} both in validation and in training or unlabeled "
            f"({join_names(leaks)}), so the checkpoint would be chosen on tissue seen in training; keep all images of "
            "a patient in one part"
        )
        findings.append(Finding("shared_patient", True, sentence, leaks))
    if seen:
        sentence = (
            f"{len(seen)} of {pluralize(total, 'test image')} of patients that are also in training or unlabeled "
            f"({join_names(dict.fromkeys(seen))}); scores on them do not show performance on new patients"
        )
        findings.append(Finding("test_patient_learned", False, sentence, list(dict.fromkeys(seen))))
    if validated:
        sentence = (
            f"{len(validated)} of {pluralize(total, 'test image')} of patients that are also in validation "
            f"({join_names(dict.fromkeys(validated))}); the checkpoint is chosen on these patients"
        )
        findings.append(Finding("test_patient_validated", False, sentence, list(dict.fromkeys(validated))))
    return findings
