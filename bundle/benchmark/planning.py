"""The plan of a benchmark: which cells there are, and what each runs with, settled before anything runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from bundle.benchmark.budget import Budget, Length, length_of, whole_passes
from bundle.benchmark.cells import Cell
from bundle.benchmark.configs import digest, evaluation_files, merged, overlay_files, resolved
from bundle.benchmark.provenance import code_state, processor, versions

LEARNED = ("training", "unlabeled")
NUMBERS = ("max_epochs", "batch_size", "val_interval")
"""Settings of which lengths are made."""
CONTENT = "data_list (content)"
"""Key of a flat configuration: the digest of the entries that a data list gives under the protocol."""

DRAWN = ("seed", "data_list", CONTENT)
"""Keys in which cells of one method may differ; the digest of all others is the method's ``recipe``."""


@dataclass(frozen=True)
class Experiment:
    """Methods, shares of labels and seeds under one setting, which all cells share.

    Attributes:
        root: the bundle's root.
        output: folder of the benchmark.
        dataset_dir: folder of the data.
        axes: axis -> name of its overlay or ``None``, for all axes but ``method``.
        lists: how the names of the data lists begin: ``LISTS_LABELS_seedSEED.json``.
        overrides: further settings, key -> value.
        methods: names of overlays.
        labels: shares of labels in percent, as text.
        seeds: of labeled draw and training.
        postprocessing: overlay of the evaluation, for the methods that have what it reads; ``None`` for none.
        budget: what was asked for, such as ``60steps``, noted in every cell; ``None`` for none.
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
        """The setting without a method; overrides of a method's own keys are left out."""
        return ConfigParser(merged(self.root, self.files(None), self._common))

    @cached_property
    def _common(self) -> dict[str, Any]:
        """Overrides that the setting without a method knows too."""
        known = {}
        for key, value in self.overrides.items():
            try:
                merged(self.root, self.files(None), {key: value})
            except ValueError:
                continue
            known[key] = value
        return known

    @cached_property
    def _served(self) -> dict[str, dict[str, list[dict[str, Any]]]]:
        """Data lists that were read, by file name."""
        return {}

    def files(self, method: str | None) -> list[str]:
        """Configs of a cell of a method, relative to the root; see ``overlay_files``."""
        return overlay_files(self.root, {"method": method, **self.axes})

    def number(self, key: str) -> int:
        """A whole number of the setting, such as ``max_epochs``.

        Raises:
            ValueError: where it is no whole number above 0.
        """
        value = self._parser.get_parsed_content(key)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{key} is {value!r}, and must be a whole number above 0; see --set")
        return value

    def check_numbers(self) -> None:
        """Refuse what no length can be made of, before anything is.

        Raises:
            ValueError: as ``number``.
        """
        for key in NUMBERS:
            self.number(key)

    def served(self, labels: str, seed: int) -> dict[str, list[dict[str, Any]]]:
        """The data list of a cell as its protocol serves it.

        Raises:
            ValueError: where it cannot be read, or cannot serve the protocol.
        """
        name = self.list_name(labels, seed)
        if name in self._served:
            return self._served[name]
        parser = ConfigParser(merged(self.root, self.files(None), self._common))
        parser.update({"bundle_root": str(self.root), "dataset_dir": str(self.dataset_dir), "data_list": name})
        try:
            self._served[name] = parser.get_parsed_content("datalist")
        except RuntimeError as error:
            cause: BaseException = error
            while cause.__cause__ is not None:
                cause = cause.__cause__
            raise ValueError(f"{name} under protocol {self.axes['protocol']}: {cause}") from error
        return self._served[name]

    def list_name(self, labels: str, seed: int) -> str:
        """File name of a data list."""
        return f"{self.lists}_{labels}_seed{seed}.json"

    def length(self, budget: Budget | None) -> Length:
        """Length of every training, for a budget in steps or for none.

        Raises:
            ValueError: for a budget of less than one step.
        """
        epochs = self.number("max_epochs")
        if budget is not None:
            return length_of(int(budget.amount), epochs)
        parts = self.served(self.labels[0], self.seeds[0])
        return whole_passes(sum(len(parts[part]) for part in LEARNED), self.number("batch_size"), epochs)

    def setting(self, length: Length | None = None) -> str:
        """Digest of what all cells of one table share; without ``length``, of what comes before it is known."""
        lasting = {} if length is None else _lasting(length)
        files = self.files(None)
        return digest(resolved(self.root, files, evaluation_files(self.root, files, None), self._common | lasting))

    def cells(self, length: Length) -> list[Cell]:
        """All cells: seeds outermost, so that a stopped benchmark has whole tables of its first seeds.

        Raises:
            ValueError: where a data list cannot serve, or a method lacks a setting that is to be changed.
        """
        everywhere = {**code_state(self.root), "versions": versions(self.root), "hardware": {"cpu": processor()}}
        return list(self._cells(length, self.setting(length), everywhere))

    def cell(self, method: str, labels: str, seed: int, length: Length) -> Cell:
        """One cell without its surroundings, in ``OUTPUT/cells``; see ``cells``."""
        files = self.files(method)
        evaluation = evaluation_files(self.root, files, self.postprocessing)
        name = self.list_name(labels, seed)
        overrides = {**self.overrides, "data_list": name, "seed": seed, **_lasting(length)}
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

    def _cells(self, length: Length, setting: str, everywhere: Mapping[str, Any]) -> Iterator[Cell]:
        for seed in self.seeds:
            for labels in self.labels:
                for method in self.methods:
                    cell = self.cell(method, labels, seed, length)
                    config = cell.plan["config"] | {"setting": setting}
                    yield Cell(cell.folder, {**cell.plan, **everywhere, "config": config})


def _lasting(length: Length) -> dict[str, Any]:
    """Settings of a length; patience is so long that early stopping never makes one training shorter than another."""
    return {"max_epochs": length.epochs, "epoch_length": length.epoch_length, "patience": length.epochs + 1}


def _relative(parts: Mapping[str, Sequence[Mapping[str, Any]]], folder: Path) -> dict[str, Any]:
    """Entries with paths relative to the data folder, so that data that moved are the same data."""
    return {
        part: [{key: _below(value, folder) for key, value in entry.items()} for entry in entries]
        for part, entries in parts.items()
    }


def _below(value: Any, folder: Path) -> Any:
    path = Path(value) if isinstance(value, str) else None
    return path.relative_to(folder).as_posix() if path is not None and path.is_relative_to(folder) else value
