"""A folder of one's own: images, masks of some of them, and a table of what is known, made into a data folder.

Whatever the pictures are, the data folder holds ``image/NAME.png``, RGB with 8 bits, ``label/NAME.png``, numbered
glands or classes, and data lists in which no patient is both learned from and held out.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from bundle.data.label_maps import as_classes, as_instances, has_split_numbers
from bundle.data.leakage import same_content
from bundle.data.pairs import Pair, check_rows, find_pairs, read_table
from bundle.data.pictures import Picture, read_label, volume_slices
from bundle.data.plans import Plan, count_parts, draw_lists, tell_patients
from bundle.data.sentences import some
from bundle.data.splits import DataList
from bundle.data.stored import reading
from bundle.data.volumes import is_nifti
from bundle.data.writing import Progress, check_new, new_folder, save_image, save_label, write_image, write_lists
from bundle.types import IGNORE

SPLIT = "numbers stand for several pieces"


@dataclass(frozen=True)
class Prepared:
    """What was made: lists, and what a person should know of it."""

    lists: dict[str, dict[str, int]]
    """File name -> part -> how many images; the list to begin with is the first."""
    notes: list[str]
    """Sentences on conversions, patients and what the table left open."""


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
) -> Prepared:
    """Make a data folder; it appears when it is complete.

    Args:
        images: folder of images, see ``pairs.find_pairs``.
        output: the folder to make; may exist if it is empty.
        masks: folder of masks; ``None`` looks among the images.
        mask_suffix: what the names of masks have behind those of their images.
        table: CSV file of what is known of images, see ``pairs.read_table``.
        classes: names of classes, background first, where the values of masks are classes; else they are glands.
        axis: 0, 1 or 2, to cut NIfTI volumes into slices; a slice is an image, a volume a patient.
        mpp: width of a pixel in um, of images of which the table does not say it.
        plan: which lists to draw; ``None`` labels all that is not held out.
        progress: told after each image.

    Raises:
        FileNotFoundError: without a folder or the table.
        ValueError: where names, table or plan do not fit, or files are damaged or have no right reading: the first of
            them are named.
    """
    if mpp is not None and not 0 < mpp < math.inf:
        raise ValueError(f"--mpp is {mpp}; give the width of a pixel in um, above 0")
    plan = plan or Plan()
    plan.check()
    check_new(output)
    pairs = find_pairs(images, masks, mask_suffix)
    known, unused = read_table(table) if table is not None else ({}, [])
    names = {pair: _names(pair, axis) for pair in pairs}
    entries = _entries(names, known, mpp)
    lists = draw_lists(entries, plan)
    notes = [f"columns of the table that are not used: {', '.join(unused)}"] if unused else []
    with new_folder(output) as folder:
        (folder / "image").mkdir()
        (folder / "label").mkdir()
        notes = _write(names, folder, axis, classes, progress) + notes
        write_lists(folder, lists, labels=classes)
        _check_twins(folder, lists)
    return Prepared(count_parts(lists), notes + tell_patients(entries, lists) + _tell_scale(entries))


def class_names(words: Sequence[str]) -> list[str]:
    """Names of classes from names, background first, or from their number alone.

    Raises:
        ValueError: for fewer than two, more than 255 (the number 255 is ``IGNORE``), or two alike.
    """
    names = list(words)
    if len(names) == 1 and names[0].isdigit():
        names = ["background", *(f"class_{number}" for number in range(1, int(names[0])))]
    if not 2 <= len(names) <= IGNORE or len(set(names)) < len(names):
        raise ValueError(
            f"--classes gives {some(words)}; give a number from 2 to {IGNORE}, or names with background first"
        )
    return names


def _names(pair: Pair, axis: int | None) -> list[str]:
    """Names that the images of a file get: its own, or one for each slice of a volume."""
    if axis is None or not is_nifti(pair.image):
        return [pair.name]
    with reading(pair.image):
        file: Any = nibabel.load(pair.image)
        shape = file.shape
    if len(shape) < 3 or shape[2] == 1:
        return [pair.name]  # flat
    digits = max(3, len(str(shape[axis] - 1)))
    return [f"{pair.name}_s{index:0{digits}d}" for index in range(shape[axis])]


def _entries(
    names: Mapping[Pair, Sequence[str]], table: Mapping[str, Mapping[str, Any]], mpp: float | None
) -> list[dict[str, Any]]:
    """Entry of each image, sorted by name; a row of a volume holds for its slices."""
    counts = Counter(name for parts in names.values() for name in parts)
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise ValueError(f"two images would have the name {twice[0]}; rename one of their files")
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
    classes: Sequence[str],
    progress: Progress | None,
) -> list[str]:
    """Convert all files; gives sentences on what was converted. Bad files are all found before the first is told."""
    image_notes: Counter[str] = Counter()
    label_notes: Counter[str] = Counter()
    faults: list[str] = []
    total, done = sum(map(len, names.values())), 0
    for pair, parts in names.items():
        try:
            for name, note, label in _convert(pair, parts, folder, axis, classes):
                image_notes.update([note] if note else [])
                if label is not None:
                    label_notes.update([label.note] if label.note else [])
                    label_notes.update(_write_label(label.pixels, folder / "label" / f"{name}.png", pair, classes))
                done += 1
                if progress is not None:
                    progress(done, total)
        except ValueError as error:
            faults.append(str(error))
    if len(faults) == 1:
        raise ValueError(faults[0])
    if faults:
        raise ValueError(f"{len(faults)} of {len(names)} images cannot be used: {some(faults, between='; ')}")
    masked = sum(len(parts) for pair, parts in names.items() if pair.mask is not None)
    split = label_notes.pop(SPLIT, 0)
    told = [f"{count} of {total} images: {note}" for note, count in image_notes.most_common()]
    told += [f"{count} of {masked} masks: {note}" for note, count in label_notes.most_common()]
    if split > masked / 2:
        told.append(
            f"in {split} of {masked} masks numbers stand for several pieces; if they are classes, give --classes"
        )
    return told


def _convert(
    pair: Pair, names: Sequence[str], folder: Path, axis: int | None, classes: Sequence[str]
) -> Iterator[tuple[str, str | None, Picture | None]]:
    """Write the image, or all slices of a volume; gives name, note, and the label map as its file has it."""
    count = len(classes) if len(classes) > 2 else None  # two classes may also be stored as 0 and 255
    if axis is None or names == [pair.name]:
        picture = write_image(pair.image, folder / "image" / f"{pair.name}.png")
        label = None if pair.mask is None else read_label(pair.mask, count)
        _check_size(pair, picture.pixels, label)
        yield pair.name, picture.note, label
        return
    labels = None if pair.mask is None else [label for _, label in volume_slices(pair.mask, axis, "label", count)]
    if labels is not None and len(labels) != len(names):
        raise ValueError(
            f"{pair.mask} has {len(labels)} slices and its image {len(names)}; give the mask that was drawn on it"
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
            f"{pair.mask} is {columns} x {rows} px and its image {width} x {height} px; "
            f"give the mask that was drawn on it"
        )


def _write_label(label: NDArray[Any], target: Path, pair: Pair, classes: Sequence[str]) -> list[str]:
    """Write a label map; gives what was done to it."""
    try:
        made, note = as_classes(label, len(classes)) if classes else as_instances(label)
    except ValueError as error:
        raise ValueError(f"{pair.mask}: {error}") from error
    save_label(made, target)
    split = not classes and has_split_numbers(label)
    return [note for note in (note, SPLIT if split else None) if note]


def _check_twins(folder: Path, lists: Mapping[str, DataList]) -> None:
    """Refuse one picture under two names where they would be learned from and held out."""
    for parts in {name.split("_")[0]: parts for name, parts in lists.items()}.values():
        files = {part: [folder / entry["image"] for entry in entries] for part, entries in parts.items()}
        learned = files["training"] + files["unlabeled"]
        held = files.get("validation", [])
        twins = same_content(held, learned) + same_content(files["test"], learned + held)
        if twins:
            raise ValueError(
                f"the same picture has two names ({some(f'{one.stem} and {other.stem}' for one, other in twins)}), so "
                f"it would be learned from and held out; take one of the two away"
            )


def _tell_scale(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    unknown = sum("mpp" not in entry for entry in entries)
    if not unknown:
        return []
    return [f"{unknown} of {len(entries)} images have no um/px, so they are used at the size they have; --mpp gives it"]
