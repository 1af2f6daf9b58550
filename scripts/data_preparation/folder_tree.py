"""Folders inside a user's folder, and names of pictures in them.

Public sets have folders of classes or patients, with images and masks beside each other: ``benign/image/x.png`` and
``benign/label/x.png``. Both have the name ``benign_x``.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from pathlib import Path

from bundle.data.image_io.pictures import is_picture, stem_of

IMAGE_FOLDERS = ("image", "images", "img", "imgs")
"""Names of folders of images, in lower case."""
MASK_FOLDERS = ("label", "labels", "mask", "masks", "annotation", "annotations", "groundtruth", "gt")
"""Names of folders of masks, in lower case."""


def folders_in(root: Path, without: Path | None = None) -> Iterator[Path]:
    """Yield a folder and all folders inside, sorted; not hidden ones, and none twice that links lead to.

    Args:
        root: an existing folder.
        without: folder that is left out, with all folders inside.
    """
    seen = set() if without is None else {without.resolve()}
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        seen.add(folder.resolve())
        yield folder
        inside = (path for path in sorted(folder.iterdir(), reverse=True) if not path.name.startswith("."))
        waiting += [path for path in inside if path.is_dir() and path.resolve() not in seen]


def in_mask_folder(file: Path, root: Path) -> bool:
    """Return whether one of the folders between ``root`` and a file is one of masks by its name."""
    return any(part.lower() in MASK_FOLDERS for part in file.relative_to(root).parts[:-1])


def name_in(file: Path, root: Path) -> str:
    """Return the name of a picture: folders between ``root`` and it that are not named for images or masks, and stem.

    The name is in Unicode form NFC, so that files from other systems match.
    """
    folders = [part for part in file.relative_to(root).parts[:-1] if part.lower() not in IMAGE_FOLDERS + MASK_FOLDERS]
    return "_".join([*(unicodedata.normalize("NFC", part) for part in folders), stem(file.name)])


def stem(name: str) -> str:
    """Return the stem of a file name in Unicode form NFC; a name without the suffix of a picture is a stem."""
    return unicodedata.normalize("NFC", stem_of(name) if is_picture(name) else name)
