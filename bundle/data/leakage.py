"""What parts of a data list have in common and must not: images, their content, patients."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bundle.data.pictures import read_image
from bundle.data.sentences import counted, some
from bundle.types import IMAGE

HELD_OUT = ("validation", "test")
LEARNED = ("training", "unlabeled")
PATIENT = "patient"
BLOCK = 65536
"""Bytes from the middle of a file that are compared before the whole of it."""

Parts = Mapping[str, Sequence[Mapping[str, Any]]]
"""``training``, ``unlabeled``, ``validation`` and ``test``; the images are absolute paths of files that exist."""

logger = logging.getLogger(__name__)


def check_apart(parts: Parts, path: Path) -> None:
    """Refuse a list whose held-out parts are not apart from what is learned from.

    Images are compared by file and by content, patients by name. Test images of patients that are learned from, and
    test images that also choose the checkpoint, are told as a warning: published sets have them.

    Args:
        parts: all four parts.
        path: file of the list, for the sentences.

    Raises:
        ValueError: where ``validation`` or ``test`` shares an image with ``training`` or ``unlabeled``, or
            ``validation`` shares a patient with one of them.
    """
    files = {part: {Path(entry[IMAGE]).resolve(): entry[IMAGE] for entry in parts[part]} for part in parts}
    for held in HELD_OUT:
        for seen in LEARNED:
            both = [name for file, name in files[held].items() if file in files[seen]]
            if both:
                raise ValueError(
                    f"{counted(len(both), 'image')} of {path} stand both in {held} and in {seen} ({some(both)}); "
                    f"take them out of one of the two"
                )
    for held in HELD_OUT:
        for seen in LEARNED:
            _check_content(files, held, seen, path)
    _check_patients(parts, path)
    chosen = [name for file, name in files["test"].items() if file in files["validation"]]
    if chosen:
        logger.warning(
            "%s: %d of %d test images also choose the checkpoint; scores on them are optimistic",
            path.name,
            len(chosen),
            len(files["test"]),
        )


def _check_content(files: Mapping[str, Mapping[Path, str]], held: str, seen: str, path: Path) -> None:
    alike = same_content(files[held], files[seen])
    if alike:
        one, other = alike[0]
        raise ValueError(
            f"{path} holds {counted(len(alike), 'image')} of {held} under another name in {seen} "
            f"({one} is {other}{', ...' if len(alike) > 1 else ''}); take them out of one of the two"
        )


def _check_patients(parts: Parts, path: Path) -> None:
    learned = {str(entry[PATIENT]) for part in LEARNED for entry in parts[part] if PATIENT in entry}
    for held in HELD_OUT:
        known = [str(entry[PATIENT]) for entry in parts[held] if PATIENT in entry]
        both = [patient for patient in known if patient in learned]
        if both and held == "validation":
            raise ValueError(
                f"validation of {path} shares patients with training or unlabeled ({some(sorted(set(both)))}), so it "
                f"would choose the checkpoint on known tissue; keep all images of a patient in one part"
            )
        if both:
            logger.warning(
                "%s: %d of %d test images are of patients that are learned from; scores say little of new patients",
                path.name,
                len(both),
                len(parts[held]),
            )


def same_content(one: Iterable[Path], other: Iterable[Path]) -> list[tuple[Path, Path]]:
    """Find pictures of ``one`` that hold the same bytes as one of ``other``, whatever their names.

    Only files of equal size are opened, and only those whose middle is alike are read whole. Pictures of one color
    are left out: empty glass and the outer slices of volumes look alike without being the same.

    Returns:
        Pairs (file of ``one``, file of ``other``), at most one for each file of ``one``.
    """
    groups = [(list(one), list(other))]
    looks: tuple[Callable[[Path], Hashable], ...] = (_size, _middle, _whole)
    for look in looks:
        groups = [group for lefts, rights in groups for group in _matches(lefts, rights, look)]
    return [(left, rights[0]) for lefts, rights in groups if not _has_one_color(rights[0]) for left in lefts]


def _matches(
    lefts: list[Path], rights: list[Path], look: Callable[[Path], Hashable]
) -> list[tuple[list[Path], list[Path]]]:
    """Files of both sides that look alike."""
    groups: dict[Hashable, tuple[list[Path], list[Path]]] = {}
    for file in lefts:
        groups.setdefault(look(file), ([], []))[0].append(file)
    for file in rights:
        key = look(file)
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
