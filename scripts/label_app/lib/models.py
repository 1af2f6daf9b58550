"""Folder of models: the current model, previous models, and records of trainings."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from lib.request_errors import CONFLICT, NOT_FOUND, RefusalError

from bundle.engines.model_json_reader import NAME
from bundle.utils import atomic_path

MODEL = "model.pt"
SHIPPED = "shipped.pt"
"""Name of the bundle's own model once a trained model has replaced it."""


class ModelFolder:
    """Folder with the current ``model.pt``, previous ``model_TIME.pt``, their descriptions, and records of trainings.

    The model of the bundle is used until a trained model replaces it.

    Args:
        folder: path of the folder; it is created on the first write.
        shipped: ``model.pt`` of the bundle.
    """

    def __init__(self, folder: str | os.PathLike[str], shipped: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.shipped = Path(shipped)
        self._changes = FileLock(self.folder / ".model.lock")  # one object, so that a thread may acquire it twice

    @property
    def trained(self) -> Path:
        """Path of the trained model, which may not exist yet."""
        return self.folder / MODEL

    @property
    def current(self) -> Path:
        """Path of the current model."""
        return self.trained if self.trained.is_file() else self.shipped

    def names(self) -> list[str]:
        """Return the names of the current model, of the previous ones, newest first, and of the bundle's own."""
        previous = sorted((path.name for path in self.folder.glob("model_*.pt")), reverse=True)
        return [MODEL, *previous, *([SHIPPED] if self.trained.is_file() else [])]

    def named(self, name: str) -> Path:
        """Return the path of a model by its name.

        Raises:
            RefusalError: 404 if there is none.
        """
        if name not in self.names():
            raise RefusalError(NOT_FOUND, f"there is no model {name[:80]!r}; available: {', '.join(self.names())}")
        return {MODEL: self.current, SHIPPED: self.shipped}.get(name, self.folder / name)

    def digest(self, path: Path | None = None) -> str:
        """Return the SHA-256 of a model, by default the current one; empty if there is none."""
        path = path or self.current
        if not path.is_file():
            return ""
        state = path.stat()
        return _digest(str(path), state.st_mtime_ns, state.st_size)

    def keep(self) -> str | None:
        """Copy the trained model to ``model_TIME.pt``.

        Returns:
            The name of the copy; ``None`` if there is no trained model.
        """
        if not self.trained.is_file():
            return None
        now = time.strftime("%Y%m%d-%H%M%S")
        names = (f"model_{now}-{number:02d}.pt" for number in range(10**6))
        with self._changes:
            copy = next(self.folder / name for name in names if not (self.folder / name).exists())
            with atomic_path(copy) as partial:
                shutil.copy2(self.trained, partial)
        return copy.name

    def take(self, trained: Path) -> str | None:
        """Replace the current model and its ``model.json`` by trained ones; the previous ones are kept.

        The old description moves away before the weights change, and the new one comes after them: a process that is
        killed in between leaves a model without a description, never with that of another.

        Returns:
            Name of the previous model; ``None`` if that is the bundle's model.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        current, description = self.folder / NAME, trained.with_name(NAME)
        with self._changes:
            kept = self.keep()
            if kept is not None and current.is_file():
                current.replace((self.folder / kept).with_suffix(current.suffix))
            current.unlink(missing_ok=True)
            with atomic_path(self.trained) as partial:
                shutil.copyfile(trained, partial)
            if description.is_file():
                with atomic_path(current) as partial:
                    shutil.copyfile(description, partial)
        return kept

    def training(self) -> FileLock:
        """Acquire and return the lock of a training, valid across processes; it is released when its process ends.

        Temporary files that killed processes left are removed.

        Raises:
            RefusalError: 409 if another training is running.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / ".training.lock")
        try:
            lock.acquire(timeout=1)  # is_training() holds it for a moment
        except Timeout as error:
            raise RefusalError(
                CONFLICT, f"a training of the model in {self.folder} is running; wait, or stop it"
            ) from error
        with self._changes:
            for partial in self.folder.glob(".model*.partial*"):
                partial.unlink(missing_ok=True)
        return lock

    def is_training(self) -> bool:
        """Return whether a training is running in any process."""
        if not self.folder.is_dir():
            return False
        try:
            with FileLock(self.folder / ".training.lock", timeout=0):
                return False
        except Timeout:
            return True

    def read(self, name: str) -> Any:
        """Read the record ``NAME.json``; empty if it does not exist or is damaged."""
        path = self.folder / f"{name}.json"
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}

    def write(self, name: str, content: Mapping[str, Any]) -> None:
        """Write the record ``NAME.json``; the lock of its task must be held."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(self.folder / f"{name}.json", clean=True) as partial:
            partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

    def note(self, name: str, content: Mapping[str, Any]) -> None:
        """Append a line to ``NAME.jsonl``."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"{name}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(content) + "\n")


def is_url(studies: str) -> bool:
    """Return whether the images are those of a DSA server, not of a folder."""
    return studies.startswith(("http://", "https://"))


def model_dir(app_dir: str, studies: str, conf: Mapping[str, str]) -> Path:
    """Return the model folder: in the folder of images, or in that of the app for a DSA server."""
    if conf.get("model_dir"):
        return Path(conf["model_dir"]).expanduser().absolute()
    if is_url(studies):
        return Path(app_dir) / "model" / hashlib.sha256(studies.encode()).hexdigest()[:12]
    return Path(studies) / "model"


@lru_cache(maxsize=16)
def _digest(path: str, changed: int, size: int) -> str:
    """Return the SHA-256 of a file, cached by modification time and size."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
