"""Preparation of a user's own data: images, masks of some of them and a table become a data folder.

The data folder has ``image/NAME.png``, 8-bit RGB, ``label/NAME.png``, instances or classes, and data lists in which no
patient is in more than one of training, validation and test.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.data.image_io.conversion import MaskCoding
from bundle.data.image_io.nifti import is_nifti, nifti_shape
from bundle.data.image_io.pictures import Picture, read_label, volume_slices
from bundle.data.leakage import same_content
from bundle.data.lists import LARGEST_MPP
from bundle.data.message_text import join_names
from bundle.data.skipped_files import note_on_others
from bundle.data.splits import DataList
from bundle.types import IGNORE
from scripts.data_preparation.folder_tree import folders_in
from scripts.data_preparation.folder_writer import (
    Progress,
    check_new,
    new_folder,
    save_image,
    save_label,
    write_image,
    write_lists,
)
from scripts.data_preparation.label_maps import as_classes, as_instances, has_split_numbers
from scripts.data_preparation.pairs import Pair, check_rows, find_pairs, read_table
from scripts.data_preparation.split_plan import Plan, count_parts, draw_lists, patient_notes

SPLIT = "a value has several separate pieces"


@dataclass(frozen=True)
class Prepared:
    """Result of a preparation: the data lists, and notes for the user."""

    lists: dict[str, dict[str, int]]
    """File name -> part -> number of images; the recommended list is the first."""
    notes: list[str]
    """Notes on conversions, patients and missing information."""


@dataclass(frozen=True)
class Masks:
    """How masks are read: names of classes, if values are classes, and a coding, if values are not the label."""

    classes: Sequence[str]
    coding: MaskCoding | None


def prepare_folder(
    images: str | Path,
    output: str | Path,
    masks: str | Path | None = None,
    mask_suffix: str = "",
    table: str | Path | None = None,
    classes: Sequence[str] = (),
    axis: int | None = None,
    mpp: float | None = None,
    plan: Plan | None = None,
    progress: Progress | None = None,
    coding: MaskCoding | None = None,
) -> Prepared:
    """Write a data folder; it is created only when it is complete.

    Args:
        images: folder of images, see ``pairs.find_pairs``; folders inside are searched too.
        output: folder to create; may exist if it is empty.
        masks: folder of masks; ``None`` means the folder of images.
        mask_suffix: suffix of mask names, after the name of the image.
        table: CSV file with properties of images, see ``pairs.read_table``.
        classes: names of classes, background first, if mask values are classes; else they are instances.
        axis: 0, 1 or 2, to cut NIfTI volumes into slices; each slice is an image, each volume a patient.
        mpp: width of a pixel in um, for images without ``mpp`` in the table.
        plan: which lists to draw; ``None`` labels all images that are not held out.
        progress: called after each image.
        coding: how the values of masks become labels, if they are not the labels.

    Raises:
        FileNotFoundError: if a folder or the table does not exist.
        ValueError: if names, table or plan do not match, or files are damaged or invalid; the first of them are named.
    """
    if mpp is not None and not 0 < mpp <= LARGEST_MPP:
        raise ValueError(f"--mpp is {mpp}; give the width of a pixel in um, above 0 and at most {LARGEST_MPP}")
    plan = plan or Plan()
    plan.check()
    _check_coding(coding, len(classes))
    check_new(output)
    # Everything that can be checked without decoding is checked before files are written.
    pairs = find_pairs(images, masks, mask_suffix)
    rows, unused = read_table(table) if table is not None else ({}, [])
    names = {pair: _image_names(pair, axis) for pair in pairs}
    entries = _entries(names, rows, mpp)
    lists = draw_lists(entries, plan)
    notes = [f"columns of the table that are not used: {', '.join(unused)}"] if unused else []
    # The folder appears when all images, masks and lists are written.
    with new_folder(output) as folder:
        (folder / "image").mkdir()
        (folder / "label").mkdir()
        notes = _write(names, folder, axis, Masks(classes, coding), progress) + notes
        notes += _notes_on_others([images] if masks is None else [images, masks], pairs, table)
        write_lists(folder, lists, labels=classes)
        _check_duplicates(folder, lists)
    return Prepared(count_parts(lists), notes + patient_notes(entries, lists) + _resolution_notes(entries))


def class_names(arguments: Sequence[str]) -> list[str]:
    """Return class names, background first, from the arguments of ``--classes``: names, or their number.

    Raises:
        ValueError: if there are fewer than two, more than 255 (the value 255 is ``IGNORE``), or duplicates.
    """
    names = list(arguments)
    if len(names) == 1 and names[0].isdigit():
        names = ["background", *(f"class_{number}" for number in range(1, int(names[0])))]
    if not 2 <= len(names) <= IGNORE or len(set(names)) < len(names):
        raise ValueError(
            f"--classes gives {join_names(arguments)}; give a number from 2 to {IGNORE}, or names with background first"
        )
    return names


def _image_names(pair: Pair, axis: int | None) -> list[str]:
    """Return the image names of a file: its own, or one for each slice of a volume."""
    if axis is None or not is_nifti(pair.image):
        return [pair.name]
    shape = nifti_shape(pair.image)
    if len(shape) < 3 or shape[2] == 1:
        return [pair.name]  # a flat picture
    digits = max(3, len(str(shape[axis] - 1)))
    return [f"{pair.name}_s{index:0{digits}d}" for index in range(shape[axis])]


def _entries(
    names: Mapping[Pair, Sequence[str]], table: Mapping[str, Mapping[str, Any]], mpp: float | None
) -> list[dict[str, Any]]:
    """Return the entry of each image, sorted by name; a table row of a volume applies to its slices."""
    counts = Counter(name for parts in names.values() for name in parts)
    duplicates = [name for name, count in counts.items() if count > 1]
    if duplicates:
        raise ValueError(f"two images would have the name {duplicates[0]}; rename one of their files")
    check_rows(table, [*counts, *(pair.name for pair in names)])
    entries = []
    for pair, parts in names.items():
        for name in parts:
            entry: dict[str, Any] = {"image": f"image/{name}.png"}
            entry |= {} if pair.mask is None else {"label": f"label/{name}.png"}
            entry |= {"patient": pair.name} if parts != [pair.name] else {}
            entry |= {} if mpp is None else {"mpp": mpp}
            entries.append(entry | {**table.get(pair.name, {}), **table.get(name, {})})
    return sorted(entries, key=lambda entry: entry["image"])


def _write(
    names: Mapping[Pair, Sequence[str]],
    folder: Path,
    axis: int | None,
    masks: Masks,
    progress: Progress | None,
) -> list[str]:
    """Convert all files and return notes on conversions; errors are collected and raised at the end."""
    image_notes: Counter[str] = Counter()
    label_notes: Counter[str] = Counter()
    faults: list[str] = []
    total, done, foreground = sum(map(len, names.values())), 0, False
    for pair, parts in names.items():
        try:
            for name, note, label in _convert(pair, parts, folder, axis, masks):
                image_notes.update([note] if note else [])
                if label is not None:
                    foreground |= bool(label.pixels.any())
                    label_notes.update([label.note] if label.note else [])
                    label_notes.update(
                        _write_label(label.pixels, folder / "label" / f"{name}.png", pair, masks.classes)
                    )
                done += 1
                if progress is not None:
                    progress(done, total)
        except ValueError as error:
            faults.append(str(error))
    if len(faults) == 1:
        raise ValueError(faults[0])
    if faults:
        raise ValueError(f"{len(faults)} of {len(names)} images cannot be used: {join_names(faults, between='; ')}")
    if masks.coding is not None and not foreground:
        raise ValueError("no mask has foreground with this --threshold or --colors; give other values")
    masked = sum(len(parts) for pair, parts in names.items() if pair.mask is not None)
    split = label_notes.pop(SPLIT, 0)
    messages = [f"{count} of {total} images: {note}" for note, count in image_notes.most_common()]
    messages += [f"{count} of {masked} masks: {note}" for note, count in label_notes.most_common()]
    if split > masked / 2:
        messages.append(
            f"in {split} of {masked} masks a value has several separate pieces; if values are classes, give --classes"
        )
    return messages


def _convert(
    pair: Pair, names: Sequence[str], folder: Path, axis: int | None, masks: Masks
) -> Iterator[tuple[str, str | None, Picture | None]]:
    """Write the image, or all slices of a volume; yields name, note, and the label map as stored."""
    count = len(masks.classes) if len(masks.classes) > 2 else None  # two classes may also be stored as 0 and 255
    if axis is None or names == [pair.name]:
        picture = write_image(pair.image, folder / "image" / f"{pair.name}.png")
        label = None if pair.mask is None else read_label(pair.mask, count, masks.coding)
        _check_size(pair, picture.pixels, label)
        yield pair.name, picture.note, label
        return
    labels = None
    if pair.mask is not None:
        labels = [label for _, label in volume_slices(pair.mask, axis, "label", count, masks.coding)]
    if labels is not None and len(labels) != len(names):
        raise ValueError(
            f"{pair.mask} has {len(labels)} slices and its image {len(names)}; give the mask of this image"
        )
    for (index, pixels), name in zip(volume_slices(pair.image, axis), names, strict=True):
        label = None if labels is None else Picture(labels[index], None)
        _check_size(pair, pixels, label)
        save_image(pixels, folder / "image" / f"{name}.png")
        yield name, "slice of a NIfTI volume", label


def _check_size(pair: Pair, pixels: NDArray[np.uint8], label: Picture | None) -> None:
    if label is not None and label.pixels.shape != pixels.shape[:2]:
        (rows, columns), (height, width) = label.pixels.shape, pixels.shape[:2]
        raise ValueError(
            f"{pair.mask} is {columns} x {rows} px and its image {width} x {height} px; give the mask of this image"
        )


def _write_label(label: NDArray[Any], target: Path, pair: Pair, classes: Sequence[str]) -> list[str]:
    """Write a label map and return notes on its conversion."""
    try:
        converted, note = as_classes(label, len(classes)) if classes else as_instances(label)
    except ValueError as error:
        raise ValueError(f"{pair.mask}: {error}") from error
    save_label(converted, target)
    split = not classes and has_split_numbers(label)
    return [note for note in (note, SPLIT if split else None) if note]


def _check_duplicates(folder: Path, lists: Mapping[str, DataList]) -> None:
    """Refuse duplicate pictures that would be both in training and held out."""
    for parts in {name.split("_")[0]: parts for name, parts in lists.items()}.values():
        files = {part: [folder / entry["image"] for entry in entries] for part, entries in parts.items()}
        learned = files["training"] + files["unlabeled"]
        held = files.get("validation", [])
        duplicates = same_content(held, learned) + same_content(files["test"], learned + held)
        if duplicates:
            names = join_names(f"{first.stem} and {second.stem}" for first, second in duplicates)
            raise ValueError(
                f"the same picture has two names ({names}), so it would be both in training and held out; remove "
                f"one of the two"
            )


def _notes_on_others(roots: Sequence[str | Path], pairs: Sequence[Pair], table: str | Path | None) -> list[str]:
    """Return a note for each folder with files that are neither image nor mask nor the table."""
    used = [file for pair in pairs for file in (pair.image, pair.mask) if file is not None]
    used += [] if table is None else [Path(table).expanduser().absolute()]
    folders = {folder for root in roots for folder in folders_in(Path(root).expanduser().absolute())}
    notes = (note_on_others(folder, [file for file in used if file.parent == folder]) for folder in sorted(folders))
    return [note for note in notes if note is not None]


def _check_coding(coding: MaskCoding | None, classes: int) -> None:
    """Check that the values of a coding fit the classes; 0 classes are glands."""
    if coding is None:
        return
    highest = 1 if coding.colors is None else max(coding.colors.values())
    if coding.threshold is not None and not 0 <= coding.threshold < math.inf:
        raise ValueError(f"--threshold is {coding.threshold:g}; give a value of the masks, 0 or more")
    if coding.threshold is not None and classes > 2:
        raise ValueError(f"--threshold makes two classes, but --classes gives {classes}; omit one of them")
    if highest >= max(classes, 2):
        given = (
            f"--classes gives values up to {classes - 1}" if classes else "without --classes it may only have 0 and 1"
        )
        raise ValueError(f"--colors has the value {highest}, but {given}; give --classes {highest + 1} or their names")


def _resolution_notes(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    unknown = sum("mpp" not in entry for entry in entries)
    if not unknown:
        return []
    return [f"{unknown} of {len(entries)} images have no um/px, so they are not resampled; give it with --mpp"]
