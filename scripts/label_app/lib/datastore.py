"""The folder of images and labels: MONAI Label's local store, in which nothing is lost and from which nothing leaks."""

from __future__ import annotations

import filecmp
import json
import logging
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock
from lib.refusals import BAD, CONFLICT, NOT_FOUND, RefusalError
from lib.uploads import (
    MASKS,
    OUTLINES,
    SLIDES,
    TILES,
    check_image,
    check_info,
    check_label,
    check_name,
    check_tag,
    clearing,
    ending_of,
)
from monailabel.datastore.local import DataModel, ImageLabelModel, LocalDatastore

from bundle.engines.files import whole

logger = logging.getLogger(__name__)

HISTORY = "history"
"""Folder in that of the images, with all that was replaced or removed: ``TAG/NAME_TIME.ENDING``."""
INDEX = "datastore_v2.json"
"""MONAI Label's own list of images and labels."""


class TileDatastore(LocalDatastore):
    """A folder of tiles and slides with ``labels/TAG/NAME.ENDING``, which a person may also fill by hand.

    Unlike MONAI Label's own: names cannot leave the folder; what is no picture, or a label that does not fit, is
    refused before anything is written; a label that is replaced or removed moves to ``history``; an image is never
    overwritten by another of its name; the index is written whole or not at all, is read again before each change,
    since batch inference writes it from another process, and is made anew from the files when it is damaged.

    Args:
        path: the folder.
        classes: names that outlines in labels may have.
        auto_reload: watch the folder for files that come and go.
        read_only: leave the index as it is at the start.
    """

    def __init__(self, path: str, classes: Sequence[str], auto_reload: bool = False, read_only: bool = False) -> None:
        self.classes = list(classes)
        os.makedirs(path, exist_ok=True)
        self._turn = FileLock(os.path.join(path, ".lock_changes"))  # one object: it may be taken twice by a thread
        _set_aside_damaged(Path(path) / INDEX)
        endings = [f"*{ending}" for ending in dict.fromkeys((*TILES, *SLIDES, *MASKS, *OUTLINES))]
        super().__init__(path, extensions=endings, auto_reload=auto_reload, read_only=read_only)
        if auto_reload:
            self._handler.on_moved = self._on_any_event  # files appear here by a renaming

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        """Take a picture or a slide in; the same file a second time changes nothing.

        Returns:
            Its name.

        Raises:
            RefusalError: for a name that is none, a file that cannot be read, or another image of this name.
        """
        with clearing(image_filename):
            name = image_id or Path(image_filename).stem
            check_name(name)
            check_info(image_info, name)
            check_image(Path(image_filename), name)
        with clearing(image_filename), self._changing():
            there = self.get_image_uri(name)
            if there and filecmp.cmp(there, image_filename, shallow=False):
                return name
            if there:
                raise RefusalError(CONFLICT, f"there is another image {name}; give this one another name")
            ending = self._to_id(Path(image_filename).name)[1]
            place = Path(self._datastore.image_path()) / f"{name}{ending}"
            _copy_whole(Path(image_filename), place)
            self._datastore.objects[name] = ImageLabelModel(image=_noted(image_info, place.name, ending))
            self._update_datastore_file()
            return name

    def save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]) -> str:
        """Take a label in; the one that it replaces moves to ``history``.

        Returns:
            Its name, that of its image.

        Raises:
            RefusalError: for an image that is not there, a tag that is none, or a label that does not fit.
        """
        tag = str(getattr(label_tag, "value", label_tag))
        with clearing(label_filename):
            check_tag(tag)
            check_label(Path(label_filename), image_id, self._image(image_id), self.classes)
        with self._changing():
            self._keep(image_id, tag, move=False)
            before = self.get_label_uri(image_id, tag)
            ending = self._to_id(Path(label_filename).name)[1]
            place = Path(self._datastore.label_path(tag)) / f"{image_id}{ending}"
            _copy_whole(Path(label_filename), place)
            if before and Path(before) != place:
                Path(before).unlink(missing_ok=True)  # a copy lies in history; of two endings one would be taken
            self._datastore.objects[image_id].labels[tag] = _noted(label_info, place.name, ending)
            self._update_datastore_file()
        return image_id

    def remove_label(self, label_id: str, label_tag: str) -> None:
        """Move a label to ``history``.

        Raises:
            RefusalError: 404 where there is none.
        """
        tag = str(getattr(label_tag, "value", label_tag))
        check_tag(tag)
        with self._changing():
            if not self.get_label_uri(label_id, tag):
                raise RefusalError(NOT_FOUND, f"there is no label {tag} of {label_id[:80]!r}")
            self._keep(label_id, tag, move=True)
            self.refresh()

    def remove_image(self, image_id: str) -> None:
        """Move an image and its labels to ``history``.

        Raises:
            RefusalError: 404 where there is none.
        """
        image = self._image(image_id)
        with self._changing():
            for tag in list(self._datastore.objects[image_id].labels):
                self._keep(image_id, tag, move=True)
            shutil.move(image, self._history("images", image.name))
            self.refresh()

    def update_image_info(self, image_id: str, info: dict[str, Any]) -> None:
        """Add to what is noted of an image.

        Raises:
            RefusalError: 404 where there is none, 400 for a note that is no table.
        """
        self._image(image_id)
        check_info(info, image_id)
        with self._changing():
            super().update_image_info(image_id, info)

    def update_label_info(self, label_id: str, label_tag: str, info: dict[str, Any]) -> None:
        """Add to what is noted of a label.

        Raises:
            RefusalError: 404 where there is none, 400 for a note that is no table.
        """
        if not self.get_label_uri(label_id, label_tag):
            raise RefusalError(NOT_FOUND, f"there is no label {label_tag[:80]!r} of {label_id[:80]!r}")
        if not isinstance(info, dict):
            raise RefusalError(BAD, f"what is noted of the label of {label_id} must be a JSON object")
        with self._changing():
            super().update_label_info(label_id, label_tag, info)

    def get_dataset_archive(self, limit_cases: int | None) -> str:
        """Pack images and final labels.

        Raises:
            RefusalError: 404 where nothing is labeled yet.
        """
        if not self.datalist():
            raise RefusalError(NOT_FOUND, "no image has a final label yet; outline one and submit it")
        return str(super().get_dataset_archive(limit_cases))

    def _image(self, image_id: str) -> Path:
        """Place of an image that is there."""
        place = self.get_image_uri(image_id)
        if not place:
            raise RefusalError(
                NOT_FOUND, f"there is no image {image_id[:80]!r} in the folder; GET /datastore/?output=all lists them"
            )
        return Path(place)

    def _keep(self, image_id: str, tag: str, move: bool) -> None:
        """Copy, or move, a label to ``history``."""
        place = self.get_label_uri(image_id, tag)
        if place and os.path.exists(place):
            (shutil.move if move else shutil.copy2)(place, self._history(tag, os.path.basename(place)))

    def _history(self, tag: str, name: str) -> Path:
        """A free place in ``history``."""
        folder = Path(self._datastore_path) / HISTORY / tag
        folder.mkdir(parents=True, exist_ok=True)
        stem, ending = os.path.splitext(name)
        at = time.strftime("%Y%m%d-%H%M%S")
        names = (f"{stem}_{at}-{number:02d}{ending}" for number in range(10**6))
        return next(folder / name for name in names if not (folder / name).exists())

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """One change at a time, over all processes, upon the index as it stands on the disk."""
        with self._turn:
            self._init_from_datastore_file()
            yield

    def _reconcile_datastore(self) -> None:
        """Bring the index up to date with the files; also by the thread that watches the folder, so in turn."""
        with self._turn:
            super()._reconcile_datastore()

    def _update_datastore_file(self, lock: bool = True) -> None:
        """Write the index beside its place and rename it."""
        if lock:
            with FileLock(self._lock_file):
                self._update_datastore_file(lock=False)
            return
        self._ignore_event_config = True
        with whole(self._datastore_config_path) as partial:
            content = self._datastore.model_dump(exclude={"base_path"})
            partial.write_text(json.dumps(content, indent=2, default=str), encoding="utf-8")
        self._config_ts = os.stat(self._datastore_config_path).st_mtime

    def _to_id(self, file: str) -> tuple[str, str]:
        """Name and ending; the ending is cut off at the end alone, in any letters."""
        ending = ending_of(file, [pattern[1:] for pattern in self._extensions]) or Path(file).suffix
        return (file[: -len(ending)] if ending else file), ending

    def _list_files(self, path: str, patterns: Sequence[str]) -> dict[str, str]:
        """Files of a folder that count: pictures and slides among the images, masks and outlines among the labels."""
        is_images = os.path.realpath(path) == os.path.realpath(self._datastore.image_path())
        known = (*TILES, *SLIDES) if is_images else (*MASKS, *OUTLINES)
        names = sorted(name for name in os.listdir(path) if ending_of(name, known) and not name.startswith("."))
        return {name: name for name in names if os.path.isfile(os.path.join(path, name))}


def _copy_whole(source: Path, place: Path) -> None:
    """Copy a file so that a server that is killed meanwhile leaves what was there, or all of the new."""
    with whole(place) as partial:
        shutil.copyfile(source, partial)


def _noted(info: dict[str, Any] | None, name: str, ending: str) -> DataModel:
    """What the index says of a file."""
    return DataModel(info={**(info or {}), "ts": int(time.time()), "name": name}, ext=ending)


def _set_aside_damaged(index: Path) -> None:
    """Give an index that cannot be read another name; the next one is made of the files."""
    if not index.is_file():
        return
    try:
        json.loads(index.read_text(encoding="utf-8"))["objects"]
    except (ValueError, KeyError, TypeError):
        aside = index.with_name(f"{index.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}")
        index.replace(aside)
        logger.warning(
            "%s was damaged and is now %s; images and labels are listed anew from the folder.", index, aside.name
        )
