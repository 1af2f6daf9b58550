"""Folder of images and labels: MONAI Label's local datastore with validation and a history of replaced files."""

from __future__ import annotations

import filecmp
import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from filelock import FileLock
from lib.dicom_slides import files_of, is_dicom, without_levels
from lib.label_versions import check_replaced
from lib.request_errors import BAD, CONFLICT, NOT_FOUND, RefusalError
from lib.uploads import IMAGES, LABELS, check_image, check_info, check_label, check_name, check_tag, clearing, ending_of
from monailabel.datastore.local import DataModel, ImageLabelModel, LocalDatastore, LocalDatastoreModel

from bundle.utils import atomic_path, remove_partials_of

logger = logging.getLogger(__name__)

HISTORY = "history"
"""Subfolder for replaced and removed files: ``TAG/NAME_TIME.ENDING``."""
INDEX = "datastore_v2.json"
"""MONAI Label's index of images and labels."""


class TileDatastore(LocalDatastore):
    """Folder of tiles and slides with ``labels/TAG/NAME.ENDING``; files may also be added by hand.

    Differs from MONAI Label's datastore: names cannot leave the folder; invalid images and labels are refused before
    anything is written; replaced and removed labels move to ``history``; an image is never overwritten by another of
    the same name; the index is written atomically, read again before each change, since batch inference writes it from
    another process, and rebuilt from the files if it is damaged. Requests run in threads: a change is made on a copy of
    the index, which then replaces it, so that others never see half a change.

    Args:
        path: path of the folder.
        classes: allowed names of outlines in labels.
        auto_reload: watch the folder for added and removed files.
        read_only: do not update the index at start.
    """

    def __init__(self, path: str, classes: Sequence[str], auto_reload: bool = False, read_only: bool = False) -> None:
        self.classes = list(classes)
        self._own = threading.local()
        self._config_ts: float = 0  # of the index that was read last
        os.makedirs(path, exist_ok=True)
        self._turn = FileLock(os.path.join(path, ".lock_changes"))  # one object, so that a thread may acquire it twice
        with self._turn:
            _set_aside_damaged(Path(path) / INDEX)
            for folder in (Path(path), *Path(path).glob("labels/*")):
                remove_partials_of(folder)
        endings = [f"*{ending}" for ending in dict.fromkeys((*IMAGES, *LABELS))]
        super().__init__(path, extensions=endings, auto_reload=auto_reload, read_only=read_only)
        if auto_reload:
            self._handler.on_moved = self._on_any_event  # new files are renamed into the folder

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        """Add an image or a slide; adding the same file again changes nothing.

        Returns:
            Its name.

        Raises:
            RefusalError: if the name is invalid, the file cannot be read, or another image has this name.
        """
        with clearing(image_filename):
            name = image_id or Path(image_filename).stem
            check_name(name)
            check_info(image_info, name)
            if is_dicom(image_filename):
                raise RefusalError(
                    BAD, f"{name} is DICOM; copy all files of the slide into the folder of images instead"
                )
            check_image(Path(image_filename), name)
        with clearing(image_filename), self._changing():
            existing = self.get_image_uri(name)
            if existing and filecmp.cmp(existing, image_filename, shallow=False):
                return name
            if existing:
                raise RefusalError(CONFLICT, f"there is another image {name}; choose another name")
            ending = self._to_id(Path(image_filename).name)[1]
            path = Path(self._datastore.image_path()) / f"{name}{ending}"
            _copy_whole(Path(image_filename), path)
            self._datastore.objects[name] = ImageLabelModel(image=_index_entry(image_info, path.name, ending))
            self._update_datastore_file()
            return name

    def save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]) -> str:
        """Add a label; the label that it replaces moves to ``history``.

        Returns:
            Its name, that of its image.

        Raises:
            RefusalError: if the image does not exist, the tag or the label is invalid, or ``replaces`` in the metadata
                is not the version of the label that would be replaced.
        """
        tag = str(getattr(label_tag, "value", label_tag))
        with clearing(label_filename):
            check_tag(tag)
            check_label(Path(label_filename), image_id, self._image(image_id), self.classes)
        with self._changing():
            self._image(image_id)  # another thread may have removed it meanwhile
            before = self.get_label_uri(image_id, tag)
            label_info = check_replaced(label_info, before, image_id)
            self._keep(image_id, tag, move=False)
            ending = self._to_id(Path(label_filename).name)[1]
            path = Path(self._datastore.label_path(tag)) / f"{image_id}{ending}"
            _copy_whole(Path(label_filename), path)
            if before and Path(before) != path:
                Path(before).unlink(missing_ok=True)  # copied to history; only one extension may exist
            self._datastore.objects[image_id].labels[tag] = _index_entry(label_info, path.name, ending)
            self._update_datastore_file()
        return image_id

    def remove_label(self, label_id: str, label_tag: str) -> None:
        """Move a label to ``history``.

        Raises:
            RefusalError: 404 if there is none.
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
            RefusalError: 404 if there is none.
        """
        with self._changing():
            image = self._image(image_id)
            for tag in list(self._datastore.objects[image_id].labels):
                self._keep(image_id, tag, move=True)
            for file in files_of(image):
                shutil.move(file, self._history("images", file.name))
            self.refresh()

    def update_image_info(self, image_id: str, info: dict[str, Any]) -> None:
        """Add metadata to an image.

        Raises:
            RefusalError: 404 if there is no such image, 400 if the metadata is invalid.
        """
        self._image(image_id)
        check_info(info, image_id)
        with self._changing():
            super().update_image_info(image_id, info)

    def update_label_info(self, label_id: str, label_tag: str, info: dict[str, Any]) -> None:
        """Add metadata to a label.

        Raises:
            RefusalError: 404 if there is no such label, 400 if the metadata is invalid.
        """
        if not self.get_label_uri(label_id, label_tag):
            raise RefusalError(NOT_FOUND, f"there is no label {label_tag[:80]!r} of {label_id[:80]!r}")
        if not isinstance(info, dict):
            raise RefusalError(BAD, f"the metadata of the label of {label_id} must be a JSON object")
        with self._changing():
            super().update_label_info(label_id, label_tag, info)

    def get_dataset_archive(self, limit_cases: int | None) -> str:
        """Create an archive of images and final labels.

        Raises:
            RefusalError: 404 if there are no final labels.
        """
        if not self.datalist():
            raise RefusalError(NOT_FOUND, "no image has a final label yet; label an image and submit it")
        return str(super().get_dataset_archive(limit_cases))

    def _image(self, image_id: str) -> Path:
        """Return the path of an existing image."""
        path = self.get_image_uri(image_id)
        if not path:
            what = f"there is no image {image_id[:80]!r} in the folder; GET /datastore/?output=all lists all images"
            raise RefusalError(NOT_FOUND, what)
        return Path(path)

    def _keep(self, image_id: str, tag: str, move: bool) -> None:
        """Copy or move a label to ``history``."""
        path = self.get_label_uri(image_id, tag)
        if path and os.path.exists(path):
            (shutil.move if move else _copy_whole)(Path(path), self._history(tag, os.path.basename(path)))

    def _history(self, tag: str, name: str) -> Path:
        """Return a new path in ``history``."""
        folder = Path(self._datastore_path) / HISTORY / tag
        folder.mkdir(parents=True, exist_ok=True)
        stem, ending = os.path.splitext(name)
        now = time.strftime("%Y%m%d-%H%M%S")
        names = (f"{stem}_{now}-{number:02d}{ending}" for number in range(10**6))
        return next(folder / name for name in names if not (folder / name).exists())

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Hold the lock of all processes, and read the index from disk before a change."""
        with self._turn, self._drafting():
            super()._init_from_datastore_file()
            yield

    @property
    def _datastore(self) -> LocalDatastoreModel:
        """The index: the copy that this thread changes, or that of all threads."""
        return getattr(self._own, "draft", None) or self._index

    @_datastore.setter
    def _datastore(self, index: LocalDatastoreModel) -> None:
        if getattr(self._own, "draft", None) is None:
            self._index = index
        else:
            self._own.draft = index

    @contextmanager
    def _drafting(self) -> Iterator[None]:
        """Let this thread change a copy of the index, and replace the index at the end, unless there is an error."""
        if getattr(self._own, "draft", None) is not None:
            yield
            return
        self._own.draft = self._index.model_copy(deep=True)
        read_before = self._config_ts
        try:
            yield
            self._index, read_before = self._own.draft, self._config_ts
        finally:
            self._own.draft, self._config_ts = None, read_before  # an error drops also what was read from disk

    def _init_from_datastore_file(self, throw_exception: bool = False) -> None:
        """Read the index if another process changed it; also called by the thread that watches the folder."""
        with self._turn, self._drafting():
            super()._init_from_datastore_file(throw_exception)

    def _reconcile_datastore(self) -> None:
        """Update the index from the files; also called by the thread that watches the folder, so it takes the lock."""
        with self._turn, self._drafting():
            super()._reconcile_datastore()

    def _update_datastore_file(self, lock: bool = True) -> None:
        """Write the index atomically."""
        self._ignore_event_config = True
        with FileLock(self._lock_file) if lock else nullcontext(), atomic_path(self._datastore_config_path) as partial:
            content = self._datastore.model_dump(exclude={"base_path"})
            partial.write_text(json.dumps(content, indent=2, default=str), encoding="utf-8")
        self._config_ts = os.stat(self._datastore_config_path).st_mtime

    def _to_id(self, file: str) -> tuple[str, str]:
        """Split a file name into name and extension, of any case."""
        ending = ending_of(file, [pattern[1:] for pattern in self._extensions]) or Path(file).suffix
        return (file[: -len(ending)] if ending else file), ending

    def _list_files(self, path: str, patterns: Sequence[str]) -> dict[str, str]:
        """Return the supported files of a folder: tiles and slides of images, masks and outlines of labels."""
        is_images = os.path.realpath(path) == os.path.realpath(self._datastore.image_path())
        known = IMAGES if is_images else LABELS
        names = sorted(name for name in os.listdir(path) if ending_of(name, known) and not name.startswith("."))
        files = [name for name in names if os.path.isfile(os.path.join(path, name))]
        return {name: name for name in without_levels(Path(path), files, self._is_listed)}

    def _is_listed(self, file: str) -> bool:
        return self._to_id(file)[0] in self._datastore.objects


def _copy_whole(source: Path, path: Path) -> None:
    """Copy a file atomically."""
    with atomic_path(path) as partial:
        shutil.copyfile(source, partial)


def _index_entry(info: dict[str, Any] | None, name: str, ending: str) -> DataModel:
    """Return the index entry of a file."""
    return DataModel(info={**(info or {}), "ts": int(time.time()), "name": name}, ext=ending)


def _set_aside_damaged(index: Path) -> None:
    """Rename a damaged index; it will be rebuilt from the files."""
    if not index.is_file():
        return
    try:
        json.loads(index.read_text(encoding="utf-8"))["objects"]
    except (ValueError, KeyError, TypeError):
        aside = index.with_name(f"{index.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}")
        index.replace(aside)
        logger.warning("%s was damaged and renamed to %s; the index is rebuilt from the files.", index, aside.name)
