"""Journal of an inference: which images are done, so that a stopped run can continue, and a summary at the end."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from torch import distributed

from bundle.engines.process_group import gathered, own_share
from bundle.types import FACTS, FAILED, FILES, IMAGE, as_switch
from bundle.utils import atomic_path

logger = logging.getLogger(__name__)

Entry = Mapping[str, Any]
SUMMARY = "summary.json"
JOURNAL = "journal_*.jsonl"
SHOWN = 3
"""Maximal number of images in the last line of a run."""
PREFIX = 16
"""Number of digits of the SHA-256 of the model that are stored."""


class InferenceLog:
    """Handler that records in the output folder which images are done and selects those that are left.

    Each process writes ``journal_RANK.jsonl`` with one line per image, after the files of the image. An image is done
    if its size and modification time are unchanged and its files exist. At the end rank 0 writes ``summary.json``.

    Args:
        output_dir: folder of the results.
        model: file of the weights; results of other weights are refused. If it is missing, its loader raises the error.
        settings: plain values; results of other settings are refused.
        overwrite: whether to process all images again: a bool or a string such as ``true``.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        model: str | os.PathLike[str],
        settings: Mapping[str, Any],
        overwrite: bool | str = False,
    ) -> None:
        self.folder = Path(output_dir)
        self.model = Path(model)
        self.settings = json.loads(json.dumps(dict(settings), default=str))
        self.overwrite = as_switch(overwrite, "overwrite")
        self.total = 0
        self.kept = 0
        self.written = 0
        self.failed: list[dict[str, str]] = []
        self._started = 0.0

    def left(self, images: Sequence[Entry]) -> list[Entry]:
        """Return the images that this process has to process.

        Raises:
            ValueError: if the folder holds results of another model or other settings, or the images themselves.
        """
        folder = self.folder.resolve()
        if any(Path(entry[IMAGE]).parent.resolve() == folder for entry in images):
            raise ValueError(f"{self.folder} is the folder of the images; give another --output_dir for the results")
        done = {} if self.overwrite else self._done()
        remaining = [entry for entry in images if done.get(str(entry[IMAGE])) != _state(entry[IMAGE])]
        self.total, self.kept = len(images), len(images) - len(remaining)
        return own_share(remaining)

    def attach(self, engine: Engine) -> None:
        """Record each processed image, and write the summary at the end."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._write)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    @property
    def _file(self) -> Path:
        return self.folder / JOURNAL.replace("*", str(_rank()))

    @cached_property
    def _setting(self) -> dict[str, Any]:
        model = self.model.read_bytes() if self.model.is_file() else b""
        return {**self.settings, "model": hashlib.sha256(model).hexdigest()[:PREFIX]}

    def _done(self) -> dict[str, list[int]]:
        """Return path -> size and modification time of the images whose results exist."""
        done: dict[str, list[int]] = {}
        for file in sorted(self.folder.glob(JOURNAL)):
            setting: dict[str, Any] | None = None
            for line in file.read_text(encoding="utf-8").splitlines():
                record = _record(line)
                if record is None:
                    continue  # the run was killed while it wrote this line
                if "settings" in record:
                    setting = record["settings"]
                elif all((self.folder / name).is_file() for name in record["files"]):
                    self._check_settings(setting)
                    done[record["image"]] = record["state"]
        return done

    def _check_settings(self, recorded: Mapping[str, Any] | None) -> None:
        current = self._setting
        if recorded == current:
            return
        recorded = recorded or {}
        names = [name for name in {**current, **recorded} if current.get(name) != recorded.get(name)]
        raise ValueError(
            f"{self.folder} holds results of another inference (different {', '.join(names)}); "
            "give another --output_dir, or --overwrite True to process all images again"
        )

    def _start(self) -> None:
        self._started = time.monotonic()
        self.folder.mkdir(parents=True, exist_ok=True)
        gathered(None)  # all ranks must read the journals before any rank changes one
        if self.overwrite and _rank() == 0:
            for file in self.folder.glob(JOURNAL):
                file.unlink()
        gathered(None)
        self._append({"settings": self._setting})
        if self.kept and _rank() == 0:
            logger.info("%d of %d files are already done; continuing with the others", self.kept, self.total)

    def _append(self, record: Mapping[str, Any]) -> None:
        """Append a line; end an incomplete line of a killed run first."""
        try:
            with self._file.open("a+b") as file:
                if file.tell():
                    file.seek(-1, os.SEEK_END)
                    if file.read() != b"\n":
                        file.write(b"\n")
                file.write(json.dumps(record).encode() + b"\n")
        except OSError as error:  # the error of a full disk does not name the file
            raise OSError(error.errno, os.strerror(error.errno or 0), str(self._file)) from error

    def _write(self, engine: Engine) -> None:
        output: Any = engine.state.output
        for record in output:
            if FAILED in record:
                self.failed.append({"image": record[IMAGE], "reason": record[FAILED]})
                logger.error("skipped: %s", record[FAILED])
                continue
            path = record[IMAGE] if isinstance(record[IMAGE], str) else record[IMAGE].meta["filename_or_obj"]
            files = [os.path.relpath(file, self.folder) for file in _files(record)]
            facts = {FACTS: record[FACTS]} if FACTS in record else {}
            self._append({"image": str(path), "state": _state(path), "files": files, **facts})
            self.written += 1

    def _finish(self) -> None:
        """Write the summary of all processes.

        Raises:
            RuntimeError: if images were skipped; all others are done.
        """
        written = sum(gathered(self.written))
        failed = sorted(chain.from_iterable(gathered(self.failed)), key=lambda entry: entry["image"])
        seconds = gathered(time.monotonic() - self._started)
        if _rank() == 0:
            content = {
                "images": self.total,
                "written": written,
                "done before": self.kept,
                "failed": failed,
                "seconds": round(max(seconds), 3),
                "processes": len(seconds),
                "settings": self._setting,
            }
            with atomic_path(self.folder / SUMMARY) as file:
                file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
            counts = (written, self.folder, self.kept, len(failed))
            logger.info("%d files done, results in %s; %d were done before, %d skipped", *counts)
        if failed:
            more = f" and {len(failed) - SHOWN} more" if len(failed) > SHOWN else ""
            reasons = "; ".join(entry["reason"] for entry in failed[:SHOWN])
            raise RuntimeError(
                f"{len(failed)} of {self.total} files were skipped: {reasons}{more}; "
                f"the others are done; {self.folder / SUMMARY} lists all skipped files"
            )


def _rank() -> int:
    return distributed.get_rank() if distributed.is_available() and distributed.is_initialized() else 0


def _record(line: str) -> dict[str, Any] | None:
    try:
        return json.loads(line)
    except json.JSONDecodeError:
        return None


def _state(path: str | os.PathLike[str]) -> list[int]:
    """Return size and modification time (ns) of a file; an empty list if it is missing."""
    try:
        status = os.stat(path)
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns]


def _files(record: Mapping[str, Any]) -> list[str]:
    """Return the files written for one image: the mask and further outputs."""
    saved = [value.meta["saved_to"] for value in record.values() if "saved_to" in getattr(value, "meta", {})]
    return [*map(str, saved), *record.get(FILES, [])]
