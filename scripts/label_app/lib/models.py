"""The folder of models: the one that serves, those it replaced, and what was learned when."""

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
from lib.refusals import CONFLICT, NOT_FOUND, RefusalError

from bundle.engines.files import whole
from bundle.engines.model_file import NAME

MODEL = "model.pt"


class ModelFolder:
    """``model.pt`` that serves, ``model_TIME.pt`` that it replaced, and the notes of trainings.

    Until the first training is taken, the model that came with the bundle serves.

    Args:
        folder: where; made when something is written.
        shipped: the bundle's own ``model.pt``.
    """

    def __init__(self, folder: str | os.PathLike[str], shipped: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.shipped = Path(shipped)

    @property
    def place(self) -> Path:
        """Where the model that was trained here lies, or will."""
        return self.folder / MODEL

    @property
    def current(self) -> Path:
        """The model that serves."""
        return self.place if self.place.is_file() else self.shipped

    def names(self) -> list[str]:
        """The model that serves, and those that it replaced, newest first."""
        return [MODEL, *sorted((path.name for path in self.folder.glob("model_*.pt")), reverse=True)]

    def named(self, name: str) -> Path:
        """A model of ``names``.

        Raises:
            RefusalError: 404 where there is none.
        """
        if name not in self.names():
            raise RefusalError(NOT_FOUND, f"there is no model {name[:80]!r}; there are {', '.join(self.names())}")
        return self.current if name == MODEL else self.folder / name

    def digest(self) -> str:
        """SHA-256 of the model that serves; empty where there is none."""
        if not self.current.is_file():
            return ""
        state = self.current.stat()
        return _digest(str(self.current), state.st_mtime_ns, state.st_size)

    def keep(self) -> str | None:
        """Copy the model that was trained here to a name of its own.

        Returns:
            The name; ``None`` where the bundle's own model serves, which stays where it is.
        """
        if not self.place.is_file():
            return None
        at = time.strftime("%Y%m%d-%H%M%S")
        names = (f"model_{at}-{number:02d}.pt" for number in range(10**6))
        kept = next(self.folder / name for name in names if not (self.folder / name).exists())
        with whole(kept) as partial:
            shutil.copy2(self.place, partial)
        return kept.name

    def take(self, trained: Path) -> str | None:
        """Let a trained model serve, and its ``model.json`` lie beside it; the model before is kept.

        Returns:
            Name of the one before; ``None`` where that is the bundle's own.
        """
        kept = self.keep()
        self.folder.mkdir(parents=True, exist_ok=True)
        with whole(self.place) as partial:
            shutil.copyfile(trained, partial)
        description = trained.with_name(NAME)
        if description.is_file():
            with whole(self.folder / NAME) as partial:
                shutil.copyfile(description, partial)
        else:
            (self.folder / NAME).unlink(missing_ok=True)
        return kept

    def training(self) -> FileLock:
        """A lock that is held while a training goes on, also over processes; the system frees it when they die.

        Raises:
            RefusalError: 409 where another training holds it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / ".training.lock")
        try:
            lock.acquire(timeout=1)  # who asks whether one goes on holds it for a moment
        except Timeout as error:
            raise RefusalError(
                CONFLICT, f"a training of the model in {self.folder} goes on; wait, or stop it"
            ) from error
        return lock

    def is_training(self) -> bool:
        """Whether a training goes on, in whatever process."""
        if not self.folder.is_dir():
            return False
        try:
            with FileLock(self.folder / ".training.lock", timeout=0):
                return False
        except Timeout:
            return True

    def read(self, name: str) -> Any:
        """A note, ``NAME.json``; an empty table where there is none, or it is damaged."""
        path = self.folder / f"{name}.json"
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}

    def write(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a note, ``NAME.json``."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with whole(self.folder / f"{name}.json") as partial:
            partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

    def note(self, name: str, content: Mapping[str, Any]) -> None:
        """Add a line to ``NAME.jsonl``."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"{name}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(content) + "\n")


@lru_cache(maxsize=16)
def _digest(path: str, changed: int, size: int) -> str:
    """SHA-256 of a file; time and size tell when to read it again."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
