"""What is wrong or odd in a checked data list: problems, which forbid its use, and warnings."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from bundle.data.check import BAD_ENTRY, BAD_VALUE, OUTSIDE, Checked, CheckedList, Finding
from bundle.data.check_files import MISSING, SPECK, UNREADABLE, UPRIGHT, WRONG_VALUES, FileFacts, LabelFacts
from bundle.data.check_leakage import find_overlaps
from bundle.data.lists import MPP, PARTS
from bundle.data.sentences import counted, some

USUAL_MPP = (0.05, 20.0)
"""Width of a pixel, um: from the finest scans to the overview of a slide."""
FILE_FAULTS = {
    MISSING: ("missing_file", "missing", "put them there, or take their entries away"),
    UNREADABLE: ("unreadable_file", "that cannot be decoded", ""),
    WRONG_VALUES: ("wrong_values", "whose values have no right reading", ""),
}
"""Fault of a file -> kind of finding, what to say of the files, what to do where the sentences of the files do not."""


def find_faults(checked: CheckedList, crop: Sequence[int], pixel_size: float) -> list[Finding]:
    """All findings on a list, problems first.

    Args:
        checked: the list.
        crop: height and width of the crops of training, px.
        pixel_size: um/px at which crops are cut; images without ``mpp`` are cut as they are.
    """
    found = [
        *_on_entries(checked),
        *_on_files(checked),
        *_on_labels(checked.entries),
        *find_overlaps(checked),
        *_on_masks(checked.entries),
        *_on_images(checked.entries, crop, pixel_size),
        *_on_scale(checked.entries, pixel_size),
        *_on_parts(checked),
    ]
    return sorted(found, key=lambda finding: not finding.problem)


def is_numbered(entries: Iterable[Checked]) -> bool:
    """Whether masks number their glands: one of them has several values, which are no classes."""
    return any(entry.label is not None and entry.label.reading == "instances" for entry in entries)


def _problem(kind: str, cases: Sequence[str], sentence: str) -> list[Finding]:
    return [Finding(kind, True, sentence, list(cases))] if cases else []


def _warning(kind: str, cases: Sequence[str], sentence: str) -> list[Finding]:
    return [Finding(kind, False, sentence, list(cases))] if cases else []


def _on_entries(checked: CheckedList) -> list[Finding]:
    """Faults that are seen without opening a file."""
    entries, values, outside = (
        [sentence for kind, sentence in checked.faults if kind == wanted] for wanted in (BAD_ENTRY, BAD_VALUE, OUTSIDE)
    )
    return [
        *_problem(
            BAD_ENTRY,
            entries,
            f"{counted(len(entries), 'entry', 'entries')} of no use ({some(entries)}); write a list of objects such as "
            f'{{"image": ..., "label": ...}}',
        ),
        *_problem(BAD_VALUE, values, f"{counted(len(values), 'wrong value')}: {some(values, between='; ')}"),
        *_problem(
            OUTSIDE,
            outside,
            f"{counted(len(outside), 'path')} out of the data folder ({some(outside)}); put the files into it, or "
            f"links to them",
        ),
    ]


def _files(checked: CheckedList) -> dict[tuple[type[FileFacts], str], FileFacts]:
    """Images and masks that were looked at, each once."""
    both = (facts for entry in checked.entries for facts in (entry.image, entry.label) if facts is not None)
    return {(type(facts), facts.path): facts for facts in both}


def _on_files(checked: CheckedList) -> list[Finding]:
    files = _files(checked).values()
    root = f"{checked.path.parent}{os.sep}"
    found = []
    for fault, (kind, what, advice) in FILE_FAULTS.items():
        bad = [facts for facts in files if facts.fault == fault]
        # Where the advice is the same for all, names are enough.
        cases = [(facts.path if advice else facts.reason).replace(root, "") for facts in bad]
        told = f"({some(cases)}); {advice}" if advice else some(cases, between="; ")
        found += _problem(kind, cases, f"{counted(len(cases), 'file')} {what}{'' if advice else ':'} {told}")
    turned = [f"{facts.path.replace(root, '')}: {facts.orientation}" for facts in files if facts.orientation != UPRIGHT]
    return found + _warning(
        "orientation",
        turned,
        f"{counted(len(turned), 'file')} with an orientation tag ({some(turned)}); viewers turn them and training does "
        f"not, so see that masks fit the pixels as stored",
    )


def _on_labels(entries: Sequence[Checked]) -> list[Finding]:
    """Masks that are not there, should not be there, or do not fit."""
    missing = [entry.image_path for entry in entries if entry.part != "unlabeled" and entry.label_path is None]
    forbidden = [entry.image_path for entry in entries if entry.part == "unlabeled" and entry.label_path is not None]
    other = []
    for entry in entries:
        if entry.image is None or entry.label is None or entry.image.size is None or entry.label.size is None:
            continue
        if entry.image.size != entry.label.size:
            tagged = (entry.image.orientation, entry.label.orientation) != (UPRIGHT, UPRIGHT)
            turned = tagged and entry.image.size == entry.label.size[::-1]
            hint = ", turned as an orientation tag asks" if turned else ""
            other.append(f"{entry.label_path} {_px(entry.label.size)} for {_px(entry.image.size)}{hint}")
    return [
        *_problem(
            "missing_label",
            missing,
            f"{counted(len(missing), 'image')} without a mask ({some(missing)}); give one, or move them to unlabeled",
        ),
        *_problem(
            "label_under_unlabeled",
            forbidden,
            f"{counted(len(forbidden), 'image')} under unlabeled with a mask ({some(forbidden)}); take the key label "
            f"away, or move them to training",
        ),
        *_problem(
            "size_mismatch",
            other,
            f"{counted(len(other), 'mask')} of another size than the image ({some(other)}); give each image the mask "
            f"that was drawn on it",
        ),
    ]


def _on_masks(entries: Sequence[Checked]) -> list[Finding]:
    """Masks that can be used and look odd."""
    good = [(entry, entry.label) for entry in entries if entry.label is not None and entry.label.fault is None]
    glands = [(entry, label) for entry, label in good if label.reading != "classes"]
    numbered = is_numbered(entries)
    empty = [str(entry.label_path) for entry, label in good if label.reading == "empty"]
    full = [str(entry.label_path) for entry, label in good if label.foreground == 1.0]
    split = [f"{entry.label_path}: {_split(label)}" for entry, label in glands if numbered and label.split]
    plain = [str(entry.label_path) for entry, label in glands if not numbered and label.pieces]
    specks = [f"{entry.label_path}: {label.specks}" for entry, label in glands if label.specks]
    return [
        *_warning("empty_mask", empty, f"{counted(len(empty), 'mask')} with background alone ({some(empty)})"),
        *_warning("full_mask", full, f"{counted(len(full), 'mask')} without background ({some(full)})"),
        *_warning(
            "split_numbers",
            split,
            f"{counted(len(split), 'mask')} with one number on separate pieces ({some(split)}); object metrics take "
            f"them for one gland",
        ),
        *_warning(
            "not_numbered",
            plain,
            f"{counted(len(plain), 'mask')} that say where glands are and not which ({some(plain)}); object metrics "
            f"need numbers, as glands touch",
        ),
        *_warning(
            "specks",
            specks,
            f"{counted(sum(label.specks for _, label in glands), 'speck')} of {SPECK} px or less in "
            f"{counted(len(specks), 'mask')} ({some(specks)}); object metrics count each numbered one as a gland",
        ),
    ]


def _on_images(entries: Sequence[Checked], crop: Sequence[int], pixel_size: float) -> list[Finding]:
    """Images that can be used and look odd."""
    small, plain = [], []
    for entry in entries:
        if entry.image is None or entry.image.size is None:
            continue
        scale = entry.known[MPP] / pixel_size if MPP in entry.known else 1.0
        height, width = (round(side * scale) for side in entry.image.size)
        if height < crop[0] or width < crop[1]:
            small.append(f"{entry.image_path}: {_px((height, width))}")
        if entry.image.one_color:
            plain.append(entry.image_path)
    return [
        *_warning(
            "small_image",
            small,
            f"{counted(len(small), 'image')} smaller at {pixel_size:g} um/px than a crop of {_px(crop)} "
            f"({some(small)}); training pads them",
        ),
        *_warning("one_color", plain, f"{counted(len(plain), 'image')} of one color ({some(plain)})"),
    ]


def _on_scale(entries: Sequence[Checked], pixel_size: float) -> list[Finding]:
    unknown = [entry.image_path for entry in entries if MPP not in entry.known]
    low, high = USUAL_MPP
    odd = [
        f"{entry.image_path}: {entry.known[MPP]:g}" for entry in entries if not low <= entry.known.get(MPP, low) <= high
    ]
    return [
        *_warning(
            "unknown_mpp",
            unknown,
            f"{len(unknown)} of {counted(len(entries), 'image')} without um/px ({some(unknown)}); they are used at the "
            f"size they have, as if at {pixel_size:g} um/px",
        ),
        *_warning(
            "odd_mpp",
            odd,
            f"{counted(len(odd), 'image')} with um/px that no microscope gives ({some(odd)}); usual are {low:g} to "
            f"{high:g}",
        ),
    ]


def _on_parts(checked: CheckedList) -> list[Finding]:
    """Parts that are empty, and keys that are none."""
    found = []
    if not checked.part("training"):
        found += _problem("no_training", ["training"], "no image under training; label some")
    for part, loss in (("validation", "no checkpoint can be chosen"), ("test", "nothing is left for final scores")):
        if not checked.part(part):
            found += _warning(f"no_{part}", [part], f"no image under {part}: {loss}")
    strangers = [repr(key) for key in checked.strangers]
    return found + _warning(
        "unknown_part", strangers, f"{some(strangers)} with entries that nothing reads; parts are {', '.join(PARTS)}"
    )


def _split(label: LabelFacts) -> str:
    return f"{counted(label.numbers, 'number')}, {counted(label.pieces, 'piece')}"


def _px(size: Sequence[int]) -> str:
    return f"{size[1]} x {size[0]} px"
