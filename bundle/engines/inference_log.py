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
from monai.data.utils import create_file_basename
from torch import distributed

from bundle.engines.finished_images import JOURNAL, Journals, append, read_journals, state_of
from bundle.engines.process_group import gathered, own_share
from bundle.types import FACTS, FAILED, FILES, IMAGE, to_bool
from bundle.utils import atomic_path, remove_partials_of

logger = logging.getLogger(__name__)

Entry = Mapping[str, Any]
SUMMARY = "summary.json"
SHOWN = 3
"""Maximal number of images in the last line of a run."""
PREFIX = 16
"""Number of digits of the SHA-256 of the model that are stored."""


class InferenceLog:
    """Handler that records in the output folder which images are done and selects those that are left.

    Each process writes ``journal_RANK.jsonl``: a line before the files of an image, which names them, and one after
    them. An image is done if its size and modification time are unchanged and its files exist. A file that no journal
    names, or that is the result of another image, belongs to somebody and is never replaced, unless ``overwrite`` is
    set. At the end rank 0 writes ``summary.json``.

    Args:
        output_dir: folder of the results.
        model: file of the weights; results of other weights are refused. If it is missing, its loader raises the error.
        settings: plain values; results of other settings are refused.
        overwrite: whether to process all images again, and to replace all files: a bool or a string such as ``true``.
        endings: of the files of each image, after its name without suffix.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        model: str | os.PathLike[str],
        settings: Mapping[str, Any],
        overwrite: bool | str = False,
        endings: Sequence[str] = ("_mask.png",),
    ) -> None:
        self.folder = Path(output_dir)
        self.model = Path(model)
        self.settings = json.loads(json.dumps(dict(settings), default=str))
        self.overwrite = to_bool(overwrite, "overwrite")
        self.endings = tuple(dict.fromkeys(endings))
        self.total = 0
        self.kept = 0
        self.written = 0
        self.failed: list[dict[str, str]] = []
        self._started = 0.0
        self._own_names: set[str] = set()

    def remaining(self, images: Sequence[Entry]) -> list[Entry]:
        """Return the images that this process has to process.

        Raises:
            ValueError: if the folder holds results of another model or other settings, or the images themselves, or
                a file that would be replaced and is not the result of its image.
        """
        folder = self.folder.resolve()
        if any(Path(entry[IMAGE]).parent.resolve() == folder for entry in images):
            raise ValueError(f"{self.folder} is the folder of the images; give another --output_dir for the results")
        journals = Journals() if self.overwrite else read_journals(self.folder, self._check_settings)
        remaining = [entry for entry in images if journals.done.get(str(entry[IMAGE])) != state_of(entry[IMAGE])]
        if not self.overwrite:
            self._check_free(remaining, journals)
        self._own_names = {*journals.owners, *(name for entry in images for name in self._names(entry[IMAGE]))}
        self.total, self.kept = len(images), len(images) - len(remaining)
        return own_share(remaining)

    def attach(self, engine: Engine) -> None:
        """Record each processed image, and write the summary at the end."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_STARTED, self._announce)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._write)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    def begin(self, path: str | os.PathLike[str]) -> None:
        """Name the files of an image before they are written: a killed run may leave some of them."""
        append(self._file, {"begun": str(path), "files": self._names(path)})

    @property
    def _file(self) -> Path:
        return self.folder / JOURNAL.replace("*", str(_rank()))

    @cached_property
    def _setting(self) -> dict[str, Any]:
        model = self.model.read_bytes() if self.model.is_file() else b""
        return {**self.settings, "model": hashlib.sha256(model).hexdigest()[:PREFIX]}

    def _names(self, image: str | os.PathLike[str]) -> list[str]:
        """Return the names of the files of an image in the output folder."""
        base = create_file_basename("", image, "", separate_folder=False, makedirs=False)
        return [base + ending for ending in self.endings]

    def _check_free(self, images: Sequence[Entry], journals: Journals) -> None:
        """Check that no file of somebody else would be replaced.

        Raises:
            ValueError: if one exists that no journal names, or that is the result of another image.
        """
        owners = {name: str(entry[IMAGE]) for entry in images for name in self._names(entry[IMAGE])}
        owners |= {} if journals.files else {SUMMARY: ""}
        present = set(os.listdir(self.folder)) if self.folder.is_dir() else set()
        foreign = [name for name, image in owners.items() if name in present and journals.owners.get(name) != image]
        if not foreign:
            return
        other = journals.owners.get(foreign[0])
        more = f", and {len(foreign) - 1} more," if foreign[1:] else ""
        reason = f"is the result of another image, {other}" if other else "was not written by an inference"
        raise ValueError(
            f"{self.folder / foreign[0]}{more} would be replaced, but it {reason}; "
            "give another --output_dir, or --overwrite True to replace it"
        )

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
        if _rank() == 0:
            remove_partials_of(self.folder, self._own_names)
        gathered(None)
        append(self._file, {"settings": self._setting})
        if self.kept and _rank() == 0:
            logger.info("%d of %d files are already done; continuing with the others", self.kept, self.total)

    def _announce(self, engine: Engine) -> None:
        batch: Any = engine.state.batch
        if FILES not in batch and FAILED not in batch:  # otherwise nothing more is written for it
            for path in _paths(batch):
                self.begin(path)

    def _write(self, engine: Engine) -> None:
        output: Any = engine.state.output
        for record in output:
            if FAILED in record:
                self.failed.append({"image": record[IMAGE], "reason": record[FAILED]})
                logger.error("skipped: %s", record[FAILED])
                append(self._file, {"begun": record[IMAGE], "files": []})
                continue
            (path,) = _paths(record)
            files = [os.path.relpath(file, self.folder) for file in _files(record)]
            facts = {FACTS: record[FACTS]} if FACTS in record else {}
            append(self._file, {"image": path, "state": state_of(path), "files": files, **facts})
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
            remove_partials_of(self.folder, self._own_names)  # of workers that were lost
            content = {
                "images": self.total,
                "written": written,
                "done before": self.kept,
                "failed": failed,
                "seconds": round(max(seconds), 3),
                "processes": len(seconds),
                "settings": self._setting,
            }
            with atomic_path(self.folder / SUMMARY, clean=True) as file:
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


def _paths(record: Mapping[str, Any]) -> list[str]:
    """Return the paths of the images of a batch or a record."""
    image = record[IMAGE]
    names = getattr(image, "meta", {}).get("filename_or_obj", image)
    return [str(names)] if isinstance(names, str | os.PathLike) else [str(name) for name in names]


def _files(record: Mapping[str, Any]) -> list[str]:
    """Return the files written for one image: the mask and further outputs."""
    saved = [value.meta["saved_to"] for value in record.values() if "saved_to" in getattr(value, "meta", {})]
    return [*map(str, saved), *record.get(FILES, [])]
