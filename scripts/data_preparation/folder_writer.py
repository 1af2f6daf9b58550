"""Writing of data folders, complete or not at all: 8-bit RGB pictures, label maps, data lists."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bundle.data.image_io.pictures import Picture, read_image, read_label
from bundle.utils import naming_full_disk

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
"""First bytes of a PNG file."""
Progress = Callable[[int, int], None]
"""Called after each image with the number of images done and in total."""


@contextmanager
def new_folder(output: str | Path) -> Iterator[Path]:
    """Create a folder that gets its name only when it is complete.

    The context is a hidden folder next to ``output``; at the end it is renamed, and after an error it is removed.

    Args:
        output: folder to create; may exist if it is empty.

    Raises:
        ValueError: if ``output`` exists and is not an empty folder, or cannot be created.
    """
    path = Path(output).expanduser().absolute()
    check_new(path)
    partial = path.parent / f".{path.name}.partial-{token_hex(4)}"  # a killed run may have left one
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.mkdir()
    except OSError as error:
        raise ValueError(f"{path} cannot be created ({error.strerror}); give a writable --output") from error
    try:
        with naming_full_disk(path):
            yield partial
        if path.exists():
            path.rmdir()
        partial.rename(path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def check_new(output: str | Path) -> None:
    """Check that a folder does not exist or is empty.

    Raises:
        ValueError: if ``output`` exists and is not an empty folder.
    """
    path = Path(output).expanduser().absolute()
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ValueError(f"{path} exists and is not empty; give another --output, or remove it first")


def write_lists(folder: Path, lists: Mapping[str, Any], labels: Sequence[str] = ()) -> None:
    """Write data lists as JSON with one entry per line.

    Args:
        folder: folder of the lists.
        lists: file name -> part -> entries.
        labels: names of classes by index, background first, written to each list under ``labels``.
    """
    labels_by_index = {str(index): name for index, name in enumerate(labels)}
    for name, parts in lists.items():
        blocks = [f' "labels": {_json(labels_by_index)}'] if labels_by_index else []
        for part, entries in parts.items():
            lines = ",\n".join(f"  {_json(entry)}" for entry in entries)
            blocks.append(f" {_json(part)}: [\n{lines}\n ]" if entries else f" {_json(part)}: []")
        (folder / name).write_text("{\n" + ",\n".join(blocks) + "\n}\n", encoding="utf-8")


def write_set(
    output: str | Path,
    pictures: Mapping[str, tuple[Path, Path]],
    lists: Mapping[str, Any],
    progress: Progress | None = None,
) -> None:
    """Write the data folder of a published set: ``image/NAME.png``, instances ``label/NAME.png``, and its data lists.

    Args:
        output: folder to create, only when it is complete.
        pictures: name -> (image, mask).
        lists: file name -> data list.
        progress: called after each image.

    Raises:
        ValueError: if ``output`` is not empty, a picture is damaged, or a mask has colors.
    """
    with new_folder(output) as folder:
        (folder / "image").mkdir()
        (folder / "label").mkdir()
        for done, (name, (image, mask)) in enumerate(pictures.items(), start=1):
            write_image(image, folder / "image" / f"{name}.png")
            write_instances(mask, folder / "label" / f"{name}.png")
            if progress is not None:
                progress(done, len(pictures))
        write_lists(folder, lists)


def write_image(source: Path, target: Path) -> Picture:
    """Write an image as PNG; an 8-bit RGB PNG is copied byte for byte.

    The source is always decoded completely, so that no damaged file gets into a data folder.

    Returns:
        Pixels (H, W, 3), uint8, and a note on their conversion.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if it is damaged or invalid.
    """
    picture = read_image(source)
    if picture.note is None and _is_png(source, "RGB"):
        shutil.copyfile(source, target)
    else:
        save_image(picture.pixels, target)
    return picture


def write_instances(source: Path, target: Path) -> Picture:
    """Write an instance mask as PNG; an 8-bit gray PNG is copied byte for byte.

    Returns:
        Label map (H, W), int32, and a note on its conversion.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if it is damaged or not a mask.
    """
    label = read_label(source)
    if label.note is None and _is_png(source, "L"):
        shutil.copyfile(source, target)
    else:
        save_label(label.pixels, target)
    return label


def save_image(pixels: NDArray[np.uint8], target: Path) -> None:
    """Write pixels (H, W, 3) as PNG."""
    Image.fromarray(pixels).save(target)


def save_label(label: NDArray[Any], target: Path) -> None:
    """Write a label map (H, W), values from 0 to 65535, as PNG with 8 bits if they suffice, else with 16."""
    Image.fromarray(label.astype(np.uint8 if label.max() < 256 else np.uint16)).save(target)


def natural_order(names: Iterable[str]) -> list[str]:
    """Sort names with their numbers as numbers: ``heldout_5`` before ``heldout_10``."""

    def sort_key(name: str) -> list[Any]:
        return [int(part) if part.isdigit() else part for part in re.split(r"([0-9]+)", name)]

    return sorted(names, key=sort_key)


def _json(content: Any) -> str:
    return json.dumps(content, ensure_ascii=False)


def _is_png(path: Path, mode: str) -> bool:
    """Return whether a file is PNG by its content, with the given Pillow mode."""
    with path.open("rb") as file:
        if file.read(len(PNG_SIGNATURE)) != PNG_SIGNATURE:
            return False
    with Image.open(path, formats=["PNG"]) as picture:
        return picture.mode == mode
