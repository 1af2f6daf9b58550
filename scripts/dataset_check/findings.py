"""Findings on a checked data list: problems, which must be fixed before it is used, and warnings."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from bundle.data.image_io.raw_pixels import UPRIGHT
from bundle.data.lists import MPP, PARTS
from bundle.data.message_text import join_names, pluralize
from scripts.dataset_check.checked_list import BAD_ENTRY, BAD_VALUE, OUTSIDE, CheckedEntry, CheckedList, Finding
from scripts.dataset_check.files import MISSING, SPECK, UNREADABLE, WRONG_VALUES, FileFacts, LabelFacts
from scripts.dataset_check.leakage import find_overlaps

USUAL_MPP = (0.05, 20.0)
"""Usual range of um/px: from the finest scans to overviews of slides."""
FILE_FAULTS = {
    MISSING: ("missing_file", "missing", "add them, or remove their entries"),
    UNREADABLE: ("unreadable_file", "that cannot be decoded", ""),
    WRONG_VALUES: ("wrong_values", "with invalid values", ""),
}
"""Fault of a file -> kind of finding, description, and advice if the messages of the files have none."""


def find_faults(checked: CheckedList, crop: Sequence[int], pixel_size: float) -> list[Finding]:
    """Return all findings on a list, problems first.

    Args:
        checked: the checked list.
        crop: height and width of training crops, px.
        pixel_size: um/px of training crops; images without ``mpp`` are not resampled.
    """
    findings = [
        *_entry_findings(checked),
        *_file_findings(checked),
        *_label_findings(checked.entries),
        *find_overlaps(checked),
        *_mask_findings(checked.entries),
        *_image_findings(checked.entries, crop, pixel_size),
        *_scale_findings(checked.entries, pixel_size),
        *_part_findings(checked),
    ]
    return sorted(findings, key=lambda finding: not finding.problem)


def is_numbered(entries: Iterable[CheckedEntry]) -> bool:
    """Return whether masks have instance numbers: any of them has several values that are not classes."""
    return any(entry.label is not None and entry.label.reading == "instances" for entry in entries)


def _problem(kind: str, cases: Sequence[str], sentence: str) -> list[Finding]:
    return [Finding(kind, True, sentence, list(cases))] if cases else []


def _warning(kind: str, cases: Sequence[str], sentence: str) -> list[Finding]:
    return [Finding(kind, False, sentence, list(cases))] if cases else []


def _entry_findings(checked: CheckedList) -> list[Finding]:
    """Return findings that need no file to be opened."""
    entries, values, outside = (
        [sentence for kind, sentence in checked.faults if kind == fault_kind]
        for fault_kind in (BAD_ENTRY, BAD_VALUE, OUTSIDE)
    )
    return [
        *_problem(
            BAD_ENTRY,
            entries,
            f"{pluralize(len(entries), 'invalid entry', 'invalid entries')} ({join_names(entries)}); write a list of "
            "objects "
            f'such as {{"image": ..., "label": ...}}',
        ),
        *_problem(BAD_VALUE, values, f"{pluralize(len(values), 'wrong value')}: {join_names(values, between='; ')}"),
        *_problem(
            OUTSIDE,
            outside,
            f"{pluralize(len(outside), 'path')} outside the data folder ({join_names(outside)}); put the files into "
            f"it, or links to them",
        ),
    ]


def _files(checked: CheckedList) -> dict[tuple[type[FileFacts], str], FileFacts]:
    """Return the properties of all images and masks, each once."""
    both = (facts for entry in checked.entries for facts in (entry.image, entry.label) if facts is not None)
    return {(type(facts), facts.path): facts for facts in both}


def _file_findings(checked: CheckedList) -> list[Finding]:
    """Return files with a fault or an orientation tag."""
    files = _files(checked).values()
    root = f"{checked.path.parent}{os.sep}"
    findings = []
    for fault, (kind, what, advice) in FILE_FAULTS.items():
        bad = [facts for facts in files if facts.fault == fault]
        # If all files need the same advice, their names are enough.
        cases = [(facts.path if advice else facts.reason).replace(root, "") for facts in bad]
        cases_text = f"({join_names(cases)}); {advice}" if advice else join_names(cases, between="; ")
        findings += _problem(kind, cases, f"{pluralize(len(cases), 'file')} {what}{'' if advice else ':'} {cases_text}")
    rotated = [
        f"{facts.path.replace(root, '')}: {facts.orientation}" for facts in files if facts.orientation != UPRIGHT
    ]
    return findings + _warning(
        "orientation",
        rotated,
        f"{pluralize(len(rotated), 'file')} with an orientation tag ({join_names(rotated)}); images and masks are "
        f"turned by it, as viewers do, so check on the sheet that masks fit the turned image",
    )


def _label_findings(entries: Sequence[CheckedEntry]) -> list[Finding]:
    """Return masks that are missing, not allowed, or of the wrong size."""
    missing = [entry.image_path for entry in entries if entry.part != "unlabeled" and entry.label_path is None]
    forbidden = [entry.image_path for entry in entries if entry.part == "unlabeled" and entry.label_path is not None]
    mismatched = []
    for entry in entries:
        if entry.image is None or entry.label is None or entry.image.size is None or entry.label.size is None:
            continue
        if entry.image.size != entry.label.size:
            tagged = (entry.image.orientation, entry.label.orientation) != (UPRIGHT, UPRIGHT)
            rotated = tagged and entry.image.size == entry.label.size[::-1]
            hint = ", rotated by an orientation tag" if rotated else ""
            mismatched.append(f"{entry.label_path} {_px(entry.label.size)} for {_px(entry.image.size)}{hint}")
    return [
        *_problem(
            "missing_label",
            missing,
            f"{pluralize(len(missing), 'image')} without a mask ({join_names(missing)}); add masks, or move them to "
            "unlabeled",
        ),
        *_problem(
            "label_under_unlabeled",
            forbidden,
            f"{pluralize(len(forbidden), 'image')} under unlabeled with a mask ({join_names(forbidden)}); remove the "
            f"key label, or move them to training",
        ),
        *_problem(
            "size_mismatch",
            mismatched,
            f"{pluralize(len(mismatched), 'mask')} of another size than the image ({join_names(mismatched)}); give "
            f"each image its own mask",
        ),
    ]


def _mask_findings(entries: Sequence[CheckedEntry]) -> list[Finding]:
    """Return valid masks that look wrong."""
    good = [(entry, entry.label) for entry in entries if entry.label is not None and entry.label.fault is None]
    glands = [(entry, label) for entry, label in good if label.reading != "classes"]
    numbered = is_numbered(entries)
    empty = [str(entry.label_path) for entry, label in good if label.reading == "empty"]
    full = [str(entry.label_path) for entry, label in good if label.foreground == 1.0]
    split = [f"{entry.label_path}: {_number_and_pieces(label)}" for entry, label in glands if numbered and label.split]
    unnumbered = [str(entry.label_path) for entry, label in glands if not numbered and label.pieces]
    specks = [f"{entry.label_path}: {label.specks}" for entry, label in glands if label.specks]
    return [
        *_warning("empty_mask", empty, f"{pluralize(len(empty), 'mask')} with background only ({join_names(empty)})"),
        *_warning("full_mask", full, f"{pluralize(len(full), 'mask')} without background ({join_names(full)})"),
        *_warning(
            "split_numbers",
            split,
            f"{pluralize(len(split), 'mask')} with one number on separate pieces ({join_names(split)}); object metrics "
            f"count them as one gland",
        ),
        *_warning(
            "not_numbered",
            unnumbered,
            f"{pluralize(len(unnumbered), 'mask')} without instance numbers ({join_names(unnumbered)}); object metrics "
            f"need them, because glands touch",
        ),
        *_warning(
            "specks",
            specks,
            f"{pluralize(sum(label.specks for _, label in glands), 'speck')} of {SPECK} px or less in "
            f"{pluralize(len(specks), 'mask')} ({join_names(specks)}); object metrics count each numbered one as a "
            "gland",
        ),
    ]


def _image_findings(entries: Sequence[CheckedEntry], crop: Sequence[int], pixel_size: float) -> list[Finding]:
    """Return valid images that are small or of one color."""
    small, uniform = [], []
    for entry in entries:
        if entry.image is None or entry.image.size is None:
            continue
        scale = entry.known[MPP] / pixel_size if MPP in entry.known else 1.0
        height, width = (round(side * scale) for side in entry.image.size)
        if height < crop[0] or width < crop[1]:
            small.append(f"{entry.image_path}: {_px((height, width))}")
        if entry.image.one_color:
            uniform.append(entry.image_path)
    return [
        *_warning(
            "small_image",
            small,
            f"{pluralize(len(small), 'image')} smaller at {pixel_size:g} um/px than a crop of {_px(crop)} "
            f"({join_names(small)}); training pads them",
        ),
        *_warning("one_color", uniform, f"{pluralize(len(uniform), 'image')} of one color ({join_names(uniform)})"),
    ]


def _scale_findings(entries: Sequence[CheckedEntry], pixel_size: float) -> list[Finding]:
    unknown = [entry.image_path for entry in entries if MPP not in entry.known]
    low, high = USUAL_MPP
    odd = [
        f"{entry.image_path}: {entry.known[MPP]:g}" for entry in entries if not low <= entry.known.get(MPP, low) <= high
    ]
    return [
        *_warning(
            "unknown_mpp",
            unknown,
            f"{len(unknown)} of {pluralize(len(entries), 'image')} without um/px ({join_names(unknown)}); they are "
            f"used as if at {pixel_size:g} um/px",
        ),
        *_warning(
            "odd_mpp",
            odd,
            f"{pluralize(len(odd), 'image')} with unusual um/px ({join_names(odd)}); usual are {low:g} to {high:g}",
        ),
    ]


def _part_findings(checked: CheckedList) -> list[Finding]:
    """Return empty parts and unknown keys."""
    findings = []
    if not checked.part("training"):
        findings += _problem("no_training", ["training"], "no image under training; add labeled images")
    for part, loss in (("validation", "no checkpoint can be chosen"), ("test", "there are no final scores")):
        if not checked.part(part):
            findings += _warning(f"no_{part}", [part], f"no image under {part}: {loss}")
    keys = [repr(key) for key in checked.unknown_keys]
    return findings + _warning(
        "unknown_part", keys, f"{join_names(keys)} with entries that are not used; parts are {', '.join(PARTS)}"
    )


def _number_and_pieces(label: LabelFacts) -> str:
    return f"{pluralize(label.numbers, 'number')}, {pluralize(label.pieces, 'piece')}"


def _px(size: Sequence[int]) -> str:
    return f"{size[1]} x {size[0]} px"
