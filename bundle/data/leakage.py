"""Leakage between the parts of a data list: shared images, shared content, shared patients."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bundle.data.image_io.pictures import read_image
from bundle.data.message_text import join_names, pluralize
from bundle.types import IMAGE

HELD_OUT = ("validation", "test")
LEARNED = ("training", "unlabeled")
PATIENT = "patient"
BLOCK = 65536
"""Number of bytes from the middle of a file that are compared before the whole file."""

Parts = Mapping[str, Sequence[Mapping[str, Any]]]
"""``training``, ``unlabeled``, ``validation`` and ``test``; images are absolute paths of existing files."""

logger = logging.getLogger(__name__)


def check_apart(parts: Parts, path: Path) -> None:
    """Check that the validation and test images of a list are not learned from.

    Images are compared by file and by content, patients by name. Test images of training patients and test images that
    are also in validation are logged as warnings, because published data sets have them.

    Args:
        parts: all four parts.
        path: path of the list, for messages.

    Raises:
        ValueError: if ``validation`` or ``test`` shares an image with ``training`` or ``unlabeled``, or ``validation``
            shares a patient with one of them.
    """
    files = {part: {Path(entry[IMAGE]).resolve(): entry[IMAGE] for entry in parts[part]} for part in parts}
    for held in HELD_OUT:
        for learned_part in LEARNED:
            shared = [name for file, name in files[held].items() if file in files[learned_part]]
            if shared:
                raise ValueError(
                    f"{path} has {pluralize(len(shared), 'image')} both in {held} and in {learned_part} "
                    f"({join_names(shared)}); remove them from one of the two"
                )
    for held in HELD_OUT:
        for learned_part in LEARNED:
            _check_content(files, held, learned_part, path)
    _check_patients(parts, path)
    validated = [name for file, name in files["test"].items() if file in files["validation"]]
    if validated:
        logger.warning(
            "%s: %d of %d test images are also in validation; scores on them are optimistic",
            path.name,
            len(validated),
            len(files["test"]),
        )


def _check_content(files: Mapping[str, Mapping[Path, str]], held: str, learned_part: str, path: Path) -> None:
    duplicates = same_content(files[held], files[learned_part])
    if duplicates:
        file, other_file = duplicates[0]
        raise ValueError(
            f"{path} has {pluralize(len(duplicates), 'image')} of {held} under another name in {learned_part} "
            f"({file} is {other_file}{', ...' if len(duplicates) > 1 else ''}); remove them from one of the two"
        )


def _check_patients(parts: Parts, path: Path) -> None:
    learned = {str(entry[PATIENT]) for part in LEARNED for entry in parts[part] if PATIENT in entry}
    for held in HELD_OUT:
        known = [str(entry[PATIENT]) for entry in parts[held] if PATIENT in entry]
        shared = [patient for patient in known if patient in learned]
        if shared and held == "validation":
            raise ValueError(
                f"validation of {path} shares patients with training or unlabeled ({join_names(sorted(set(shared)))}), "
                f"so it would choose the checkpoint on tissue seen in training; keep all images of a patient in one "
                "part"
            )
        if shared:
            logger.warning(
                "%s: %d of %d test images are of training patients; scores do not show performance on new patients",
                path.name,
                len(shared),
                len(parts[held]),
            )


def same_content(files: Iterable[Path], other_files: Iterable[Path]) -> list[tuple[Path, Path]]:
    """Find files with the same bytes as one of ``other_files``, whatever their names.

    Only files of equal size are opened, and only those with equal middle bytes are read completely. Pictures of one
    color are ignored, because background tiles and the outer slices of volumes are often equal.

    Returns:
        Pairs (file of ``files``, file of ``other_files``), at most one for each file of ``files``.
    """
    groups = [(list(files), list(other_files))]
    keys: tuple[Callable[[Path], Hashable], ...] = (_size, _middle, _whole)
    for key_of in keys:
        groups = [match for first, second in groups for match in _matches(first, second, key_of)]
    return [(file, second[0]) for first, second in groups if not _has_one_color(second[0]) for file in first]


def _matches(
    first: list[Path], second: list[Path], key_of: Callable[[Path], Hashable]
) -> list[tuple[list[Path], list[Path]]]:
    """Return groups of files of both sides with the same key."""
    groups: dict[Hashable, tuple[list[Path], list[Path]]] = {}
    for file in first:
        groups.setdefault(key_of(file), ([], []))[0].append(file)
    for file in second:
        key = key_of(file)
        if key in groups:
            groups[key][1].append(file)
    return [group for group in groups.values() if group[1]]


def _size(file: Path) -> int:
    return file.stat().st_size


def _middle(file: Path) -> bytes:
    with file.open("rb") as stream:
        stream.seek(max(0, file.stat().st_size - BLOCK) // 2)
        return hashlib.sha256(stream.read(BLOCK)).digest()


def _whole(file: Path) -> bytes:
    return hashlib.sha256(file.read_bytes()).digest()


def _has_one_color(file: Path) -> bool:
    pixels = read_image(file).pixels
    return bool((pixels == pixels[:1, :1]).all())
