"""Images of a checked data list that can be shown with their masks; they are decoded when needed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from bundle.data.image_io.pictures import read_image, read_label
from bundle.data.message_text import pluralize
from scripts.dataset_check.checked_list import CheckedEntry, CheckedList
from scripts.dataset_check.findings import is_numbered

Reader = Callable[[], tuple[NDArray[Any], NDArray[Any] | None]]
"""Returns an image (H, W, 3), uint8 RGB, and its label map (H, W), int32, or ``None``."""


def to_show(checked: CheckedList, part: str) -> list[tuple[str, Reader, str]]:
    """Return the images of a part that can be decoded: name, reader, and a caption with size and number of glands."""
    numbered = is_numbered(checked.entries)
    return [
        (Path(entry.image_path).name, partial(_read_with_mask, entry, checked.classes), _caption(entry, numbered))
        for entry in checked.part(part)
        if entry.image is not None and entry.image.fault is None
    ]


def _read_with_mask(entry: CheckedEntry, classes: int | None) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Return image (H, W, 3), uint8, and label map (H, W), int32; ``None`` if there is no usable mask."""
    image = read_image(str(entry.image_file)).pixels
    if entry.label is None or entry.label.fault is not None or entry.label.size != image.shape[:2]:
        return image, None
    return image, read_label(entry.label.path, classes).pixels


def _caption(entry: CheckedEntry, numbered: bool) -> str:
    details = []
    if entry.image is not None and entry.image.size is not None:
        details.append(f"{entry.image.size[1]} x {entry.image.size[0]} px")
    label = entry.label
    if label is not None and label.fault is not None:
        details.append(f"mask: {label.fault}")
    elif label is not None and label.reading == "classes":
        details.append(pluralize(label.numbers, "class", "classes"))
    elif label is not None:
        details += [pluralize(label.numbers if numbered else label.pieces, "gland"), f"{label.foreground:.0%}"]
    return "   ".join(details)
