"""Images of a checked data list, to be shown with their masks: what can be decoded, read when it is wanted."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from bundle.data.check import Checked, CheckedList
from bundle.data.check_findings import is_numbered
from bundle.data.pictures import read_image, read_label
from bundle.data.sentences import counted

Reader = Callable[[], tuple[NDArray[Any], NDArray[Any] | None]]
"""Gives an image (H, W, 3) uint8 RGB and its label map (H, W) int32, or ``None``."""


def to_show(checked: CheckedList, part: str) -> list[tuple[str, Reader, str]]:
    """Images of a part that can be decoded: name, what reads it with its mask, and size and glands in a few words."""
    numbered = is_numbered(checked.entries)
    return [
        (Path(entry.image_path).name, partial(_read, entry, checked.classes), _caption(entry, numbered))
        for entry in checked.part(part)
        if entry.image is not None and entry.image.fault is None
    ]


def _read(entry: Checked, classes: int | None) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Image (H, W, 3) uint8 and label map (H, W) int32; ``None`` without a mask, or where it cannot be used."""
    image = read_image(str(entry.image_file)).pixels
    if entry.label is None or entry.label.fault is not None or entry.label.size != image.shape[:2]:
        return image, None
    return image, read_label(entry.label.path, classes).pixels


def _caption(entry: Checked, numbered: bool) -> str:
    words = []
    if entry.image is not None and entry.image.size is not None:
        words.append(f"{entry.image.size[1]} x {entry.image.size[0]} px")
    label = entry.label
    if label is not None and label.fault is not None:
        words.append(f"mask: {label.fault}")
    elif label is not None and label.reading == "classes":
        words.append(counted(label.numbers, "class", "classes"))
    elif label is not None:
        words += [counted(label.numbers if numbered else label.pieces, "gland"), f"{label.foreground:.0%}"]
    return "   ".join(words)
