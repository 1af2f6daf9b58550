"""Cells of a benchmark: one finished run of one method, read from its JSON file and checked before it is compared."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundle.report.validity import fault_of

FORMAT = "semi_moe.cell/1"
"""What a cell's file says it is."""
FREE = (
    *("seed", "data_list", "method", "dataset_dir", "output_dir", "ckpt_dir", "device", "num_workers", "resume"),
    *("cache_gib", "cache_rate"),
)
"""Settings that may differ between cells of one table: what is compared, and where it ran."""

CHOICES = ("methods", "postprocessing")
"""Folders of overlays that may differ: methods, and postprocessing, which only some methods have the heads for."""


@dataclass(frozen=True)
class Cell:
    """One run: its folder and what its ``cell.json`` holds (see ``scripts/benchmark.py`` for the keys)."""

    folder: Path
    content: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Name of the cell, for instance ``semi_moe-10-seed0``."""
        return str(self.content["name"])

    @property
    def method(self) -> str:
        """Name of the method."""
        return str(self.content["method"])

    @property
    def labels(self) -> str:
        """Share of the training images that carry a label, in percent, as text."""
        return str(self.content["labels"])

    @property
    def seed(self) -> int:
        """Seed of the labeled draw and of the training."""
        return int(self.content["seed"])

    @property
    def recipe(self) -> str | None:
        """Digest of all that it was made with but list and seed; ``None`` where its file does not say."""
        return self.content["config"].get("recipe")

    @property
    def metrics(self) -> Mapping[str, float]:
        """Scores on the test part by name."""
        return self.content["metrics"]

    def per_image(self, metric: str) -> dict[str, float]:
        """Scores of a metric by name of the image; empty where the metric has none."""
        table = self.content.get("per_image") or {}
        if metric not in table:
            return {}
        return {name: value for name, value in zip(table["image"], table[metric], strict=True) if value is not None}

    def images(self) -> frozenset[str] | None:
        """Names of the test images; ``None`` where the cell keeps no scores of single images."""
        table = self.content.get("per_image")
        return None if table is None else frozenset(table["image"])

    def commits(self) -> list[str]:
        """The commits of the code that made it; ``unknown`` where the code was no checkout."""
        known = self.content.get("commits") or [self.content.get("commit")]
        return [str(commit or "unknown") for commit in known]

    def was_resumed(self) -> bool:
        """Whether one of its stages took more than one process."""
        return any(count > 1 for count in (self.content.get("attempts") or {}).values())

    def curve(self, column: str) -> list[tuple[float, float]]:
        """Points (step, value) of a column of the training's table, without the epochs where it has no value."""
        curves = self.content.get("curves") or {}
        epochs = self.content.get("epochs") or 0
        if column not in curves or not epochs:
            return []
        length = self.content["steps"] / epochs
        pairs = zip(curves["epoch"], curves[column], strict=True)
        known = ((epoch, value) for epoch, value in pairs if epoch is not None and value is not None)
        return [(float(epoch) * length, float(value)) for epoch, value in known]

    def common(self) -> dict[str, Any]:
        """What must be the same in all cells of one table, by what it is called."""
        config = self.content["config"]
        files = [Path(file) for file in config.get("files", [])]
        settings = {key: value for key, value in config.get("overrides", {}).items() if key not in FREE}
        return {
            **{key: self.content[key] for key in ("data", "protocol", "size", "steps")},
            "data part": self.content["counts"].get("test"),
            "configs": [file.name for file in files if file.parent.name not in CHOICES],
            "settings": settings,
            "configuration": config.get("setting"),
        }


def load_cells(folder: str | Path) -> list[Cell]:
    """Read all finished cells of a benchmark, ``FOLDER/cells/NAME/cell.json``, sorted by method, labels and seed.

    Raises:
        FileNotFoundError: where the folder does not exist or holds no finished cell.
        ValueError: as ``read_cell``; and where two cells are of the same method, labels and seed.
    """
    path = Path(folder).expanduser().absolute()
    if not path.is_dir():
        raise FileNotFoundError(f"no folder {path}; give the output folder of scripts/benchmark.py")
    files = sorted(path.glob("cells/*/cell.json"))
    if not files:
        raise FileNotFoundError(f"no finished cell in {path / 'cells'}; run scripts/benchmark.py first")
    cells = [read_cell(file) for file in files]
    places: dict[tuple[str, str, int], Cell] = {}
    for cell in cells:
        other = places.setdefault((cell.method, cell.labels, cell.seed), cell)
        if other is not cell:
            raise ValueError(
                f"{other.folder} and {cell.folder} both hold {cell.method} at {cell.labels} % labels with seed "
                f"{cell.seed}, which would count twice; take one of them out of the folder of cells"
            )
    return sorted(cells, key=lambda cell: (cell.method, labels_key(cell.labels), cell.seed))


def unfinished(folder: str | Path, methods: Sequence[str] = (), labels: Sequence[str] = ()) -> list[str]:
    """Names of the cells of a benchmark that were begun and are not finished: they run, were stopped or failed.

    Args:
        folder: as for ``load_cells``.
        methods: only those of some methods; empty takes all.
        labels: likewise of some shares of labels.
    """
    names = []
    for plan in sorted(Path(folder).expanduser().glob("cells/*/plan.json")):
        if (plan.parent / "cell.json").is_file():
            continue
        try:
            content = json.loads(plan.read_text(encoding="utf-8"))
            method, share = content["method"], content["labels"]
        except (ValueError, KeyError, TypeError):  # damaged, so it cannot be told of which method it is
            method = share = None
        if method is None or ((not methods or method in methods) and (not labels or share in labels)):
            names.append(plan.parent.name)
    return names


def read_cell(file: Path) -> Cell:
    """Read one ``cell.json``.

    Raises:
        ValueError: where it is damaged, of another format, lacks a key, holds a value of another kind, or lies in a
            folder of another name.
    """
    advice = "remove that cell's folder and run the benchmark again"
    try:
        content = json.loads(file.read_text(encoding="utf-8"), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is damaged ({error}); {advice}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{file} is no cell of the format {FORMAT}; run its cell again with this version")
    fault = fault_of(content)
    if fault is not None:
        raise ValueError(f"{file} {fault}; {advice}")
    if content["name"] != file.parent.name:
        raise ValueError(
            f"{file} is of the cell {content['name']!r}, and its folder is called {file.parent.name!r}; give the "
            "folder its old name, or take the copy out of the folder of cells"
        )
    return Cell(file.parent, content)


def chosen(cells: Iterable[Cell], methods: Sequence[str] = (), labels: Sequence[str] = ()) -> list[Cell]:
    """Cells of some methods and some shares of labels; empty lists take all.

    Raises:
        ValueError: where a method or a share is asked for that no cell has, or no cell has both.
    """
    found = list(cells)
    for asked, there, what in (
        (methods, {cell.method for cell in found}, "method"),
        (labels, {cell.labels for cell in found}, "share of labels"),
    ):
        unknown = sorted(set(asked) - there)
        if unknown:
            raise ValueError(f"no finished cell has the {what} {unknown[0]!r}; there are {', '.join(sorted(there))}")
    keep = [cell for cell in found if not methods or cell.method in methods]
    keep = [cell for cell in keep if not labels or cell.labels in labels]
    if not keep:
        raise ValueError(f"no finished cell of {', '.join(methods)} has {', '.join(labels)} % labels; choose others")
    return keep


def read_anchors(file: str | Path, data: str) -> list[dict[str, Any]]:
    """Published figures for a data set, as ``docs/anchors.json`` lists them.

    Raises:
        ValueError: where the file is no list of figures.
    """
    path = Path(file)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{path} holds no published figures that can be read ({error}); give another --anchors"
        ) from error
    entries = content.get("anchors") if isinstance(content, dict) else content
    needed = {"paper", "data", "protocol", "metric", "value", "source"}
    if not isinstance(entries, list) or any(not isinstance(entry, dict) or needed - entry.keys() for entry in entries):
        raise ValueError(f"{path} is no list of figures with {', '.join(sorted(needed))}; give another --anchors")
    return [entry for entry in entries if str(entry["data"]).lower() == data.lower()]


def labels_key(labels: str) -> tuple[float, str]:
    """Order of shares of labels: by number, then by text."""
    digits = "".join(letter for letter in labels if letter.isdigit() or letter == ".")
    return (float(digits) if digits.strip(".") else float("inf"), labels)


def _refuse(constant: str) -> float:
    """NaN and infinities are no JSON, though Python reads them."""
    raise ValueError(f"it holds {constant}, which is no number of JSON")
