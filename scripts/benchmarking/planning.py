"""Plan of a benchmark: all cells and their configurations, made before anything runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from scripts.benchmarking.budget import Budget, Length, length_of, whole_passes
from scripts.benchmarking.cells import Cell
from scripts.benchmarking.configs import digest, evaluation_files, merged, overlay_files, resolved
from scripts.benchmarking.provenance import code_state, processor, versions

LEARNED = ("training", "unlabeled")
NUMBERS = ("max_epochs", "batch_size", "val_interval")
"""Settings from which lengths are computed."""
CONTENT = "data_list (content)"
"""Key of a flat configuration: the digest of the entries of a data list under the protocol."""

DRAWN = ("seed", "data_list", CONTENT)
"""Keys in which cells of one method may differ; the digest of all others is the method's ``recipe``."""


@dataclass(frozen=True)
class Experiment:
    """Methods, shares of labels and seeds under a common setting.

    Attributes:
        root: root folder of the bundle.
        output: folder of the benchmark.
        dataset_dir: folder of the data.
        axes: axis -> name of its overlay or ``None``, for all axes except ``method``.
        lists: prefix of the data lists, ``LISTS_LABELS_seedSEED.json``.
        overrides: further settings, key -> value.
        methods: names of method overlays.
        labels: shares of labels in percent, as strings.
        seeds: seeds of the labeled subset and the training.
        postprocessing: overlay of the evaluation, for methods with the heads that it needs; ``None`` for none.
        budget: requested budget, such as ``60steps``, stored in each cell; ``None`` for none.
    """

    root: Path
    output: Path
    dataset_dir: Path
    axes: Mapping[str, str | None]
    lists: str
    overrides: Mapping[str, Any]
    methods: Sequence[str]
    labels: Sequence[str]
    seeds: Sequence[int]
    postprocessing: str | None = None
    budget: str | None = None

    @cached_property
    def _parser(self) -> ConfigParser:
        """The setting without a method; overrides of keys that only a method has are left out."""
        return ConfigParser(merged(self.root, self.files(None), self._common))

    @cached_property
    def _common(self) -> dict[str, Any]:
        """Overrides of keys that exist without a method."""
        overrides = {}
        for key, value in self.overrides.items():
            try:
                merged(self.root, self.files(None), {key: value})
            except ValueError:
                continue
            overrides[key] = value
        return overrides

    @cached_property
    def _served(self) -> dict[str, dict[str, list[dict[str, Any]]]]:
        """Cache of data lists by file name."""
        return {}

    def files(self, method: str | None) -> list[str]:
        """Return the configs of a cell of a method, relative to the root; see ``overlay_files``."""
        return overlay_files(self.root, {"method": method, **self.axes})

    def number(self, key: str) -> int:
        """Return a positive integer of the setting, such as ``max_epochs``.

        Raises:
            ValueError: if it is not an integer above 0.
        """
        value = self._parser.get_parsed_content(key)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{key} is {value!r}, but must be an integer above 0; see --set")
        return value

    def check_numbers(self) -> None:
        """Check the settings from which lengths are computed.

        Raises:
            ValueError: as ``number``.
        """
        for key in NUMBERS:
            self.number(key)

    def served(self, labels: str, seed: int) -> dict[str, list[dict[str, Any]]]:
        """Return the data list of a cell under its protocol.

        Raises:
            ValueError: if it cannot be read, or does not fit the protocol.
        """
        name = self.list_name(labels, seed)
        if name in self._served:
            return self._served[name]
        parser = ConfigParser(merged(self.root, self.files(None), self._common))
        parser.update({"bundle_root": str(self.root), "dataset_dir": str(self.dataset_dir), "data_list": name})
        try:
            self._served[name] = parser.get_parsed_content("data#datalist")
        except RuntimeError as error:
            cause: BaseException = error
            while cause.__cause__ is not None:
                cause = cause.__cause__
            raise ValueError(f"{name} under protocol {self.axes['protocol']}: {cause}") from error
        return self._served[name]

    def list_name(self, labels: str, seed: int) -> str:
        """Return the file name of a data list."""
        return f"{self.lists}_{labels}_seed{seed}.json"

    def length(self, budget: Budget | None) -> Length:
        """Return the length of all trainings, for a budget in steps or without budget.

        Raises:
            ValueError: for a budget of less than one step.
        """
        epochs = self.number("max_epochs")
        if budget is not None:
            return length_of(int(budget.amount), epochs)
        parts = self.served(self.labels[0], self.seeds[0])
        return whole_passes(sum(len(parts[part]) for part in LEARNED), self.number("batch_size"), epochs)

    def setting(self, length: Length | None = None) -> str:
        """Return the digest of the configuration that all cells of one table share; ``length`` may be unknown."""
        settings = {} if length is None else _length_settings(length)
        files = self.files(None)
        return digest(resolved(self.root, files, evaluation_files(self.root, files, None), self._common | settings))

    def cells(self, length: Length) -> list[Cell]:
        """Return all cells, ordered by seed first, so that a stopped benchmark has complete tables of its first seeds.

        Raises:
            ValueError: if a data list does not fit, or a method lacks a setting that is overridden.
        """
        provenance = {**code_state(self.root), "versions": versions(self.root), "hardware": {"cpu": processor()}}
        return list(self._cells(length, self.setting(length), provenance))

    def cell(self, method: str, labels: str, seed: int, length: Length) -> Cell:
        """Return one cell in ``OUTPUT/cells`` without provenance; see ``cells``."""
        files = self.files(method)
        evaluation = evaluation_files(self.root, files, self.postprocessing)
        name = self.list_name(labels, seed)
        overrides = {**self.overrides, "data_list": name, "seed": seed, **_length_settings(length)}
        parts = self.served(labels, seed)
        flat = resolved(self.root, files, evaluation, overrides)
        flat[CONTENT] = digest(_relative(parts, self.dataset_dir))
        cell_name = f"{method}-{labels}-seed{seed}"
        plan = {
            "name": cell_name,
            "method": method,
            "labels": labels,
            "seed": seed,
            **{axis: self.axes.get(axis) for axis in ("protocol", "data", "annotation", "encoder", "schedule")},
            "postprocessing": self.postprocessing,
            "size": self.axes.get("size") or "default",
            "data_list": name,
            "dataset_dir": str(self.dataset_dir),
            "counts": {part: len(entries) for part, entries in parts.items()},
            "config": {
                "files": files,
                "evaluation": evaluation,
                "overrides": overrides,
                "digest": digest(flat),
                "recipe": digest({key: value for key, value in flat.items() if key not in DRAWN}),
            },
            "budget": self.budget,
            "steps": length.steps,
            "epochs": length.epochs,
            "epoch_length": length.epoch_length,
            "resolved": flat,
        }
        return Cell(self.output / "cells" / cell_name, plan)

    def _cells(self, length: Length, setting: str, provenance: Mapping[str, Any]) -> Iterator[Cell]:
        for seed in self.seeds:
            for labels in self.labels:
                for method in self.methods:
                    cell = self.cell(method, labels, seed, length)
                    config = cell.plan["config"] | {"setting": setting}
                    yield Cell(cell.folder, {**cell.plan, **provenance, "config": config})


def _length_settings(length: Length) -> dict[str, Any]:
    """Return the settings of a length; patience exceeds the epochs, so that early stopping never ends a training."""
    train = {"train#trainer#epoch_length": length.epoch_length, "train#early_stop#patience": length.epochs + 1}
    return {"max_epochs": length.epochs, **train}


def _relative(parts: Mapping[str, Sequence[Mapping[str, Any]]], folder: Path) -> dict[str, Any]:
    """Return the entries with paths relative to the data folder, so that the digest does not depend on the folder."""
    return {
        part: [{key: _relative_path(value, folder) for key, value in entry.items()} for entry in entries]
        for part, entries in parts.items()
    }


def _relative_path(value: Any, folder: Path) -> Any:
    path = Path(value) if isinstance(value, str) else None
    return path.relative_to(folder).as_posix() if path is not None and path.is_relative_to(folder) else value
