"""Cells of a benchmark: finished runs, each read from its JSON file and checked."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.reporting.cell_validation import find_error

FORMAT = "semi_moe.cell/1"
"""Format of a cell's file."""
FREE = (
    *("seed", "data_list", "method", "dataset_dir", "output_dir", "ckpt_dir", "device", "num_workers", "resume"),
    *("data#cache_gib", "data#cache_rate", "cache_gib", "cache_rate"),
)
"""Settings that may differ between the cells of a table, such as seed and paths; the last two had other names."""

CHOICES = ("methods", "postprocessing")
"""Folders of overlays that may differ: methods, and postprocessing, which needs the heads of some methods."""


@dataclass(frozen=True)
class Cell:
    """A run: its folder and the content of its ``cell.json`` (see ``scripts/benchmark.py`` for the keys)."""

    folder: Path
    content: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Name of the cell, for example ``semi_moe-10-seed0``."""
        return str(self.content["name"])

    @property
    def method(self) -> str:
        """Name of the method."""
        return str(self.content["method"])

    @property
    def labels(self) -> str:
        """Share of labeled training images, in percent, as text."""
        return str(self.content["labels"])

    @property
    def seed(self) -> int:
        """Seed of the choice of labeled images and of the training."""
        return int(self.content["seed"])

    @property
    def recipe(self) -> str | None:
        """Digest of the configuration without data list and seed; ``None`` if the file has none."""
        return self.content["config"].get("recipe")

    @property
    def metrics(self) -> Mapping[str, float]:
        """Scores on the test images by name."""
        return self.content["metrics"]

    def per_image(self, metric: str) -> dict[str, float]:
        """Return the scores of a metric by image name; empty if there are none."""
        table = self.content.get("per_image") or {}
        if metric not in table:
            return {}
        return {name: value for name, value in zip(table["image"], table[metric], strict=True) if value is not None}

    def images(self) -> frozenset[str] | None:
        """Return the names of the test images; ``None`` if the cell has no scores per image."""
        table = self.content.get("per_image")
        return None if table is None else frozenset(table["image"])

    def commits(self) -> list[str]:
        """Return the commits of the code; ``unknown`` if the code was not a git checkout."""
        commits = self.content.get("commits") or [self.content.get("commit")]
        return [str(commit or "unknown") for commit in commits]

    def was_resumed(self) -> bool:
        """Return whether a stage took more than one attempt."""
        return any(count > 1 for count in (self.content.get("attempts") or {}).values())

    def curve(self, column: str) -> list[tuple[float, float]]:
        """Return points (step, value) of a column of the training log, without epochs that have no value."""
        curves = self.content.get("curves") or {}
        epochs = self.content.get("epochs") or 0
        if column not in curves or not epochs:
            return []
        steps_per_epoch = self.content["steps"] / epochs
        pairs = zip(curves["epoch"], curves[column], strict=True)
        points = ((epoch, value) for epoch, value in pairs if epoch is not None and value is not None)
        return [(float(epoch) * steps_per_epoch, float(value)) for epoch, value in points]

    def common(self) -> dict[str, Any]:
        """Return the values that must be the same in all cells of a table, by name."""
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
        FileNotFoundError: if the folder does not exist or has no finished cell.
        ValueError: as for ``read_cell``, or if two cells have the same method, labels and seed.
    """
    path = Path(folder).expanduser().absolute()
    if not path.is_dir():
        raise FileNotFoundError(f"no folder {path}; give the output folder of scripts/benchmark.py")
    files = sorted(path.glob("cells/*/cell.json"))
    if not files:
        raise FileNotFoundError(f"no finished cell in {path / 'cells'}; run scripts/benchmark.py first")
    cells = [read_cell(file) for file in files]
    unique: dict[tuple[str, str, int], Cell] = {}
    for cell in cells:
        other = unique.setdefault((cell.method, cell.labels, cell.seed), cell)
        if other is not cell:
            raise ValueError(
                f"{other.folder} and {cell.folder} are both {cell.method} at {cell.labels} % labels with seed "
                f"{cell.seed}; move one of them out of the folder"
            )
    return sorted(cells, key=lambda cell: (cell.method, labels_key(cell.labels), cell.seed))


def unfinished(folder: str | Path, methods: Sequence[str] = (), labels: Sequence[str] = ()) -> list[str]:
    """Return the names of cells that were started but are not finished: running, stopped or failed.

    Args:
        folder: as for ``load_cells``.
        methods: only cells of these methods; empty means all.
        labels: only cells of these shares of labels; empty means all.
    """
    names = []
    for plan in sorted(Path(folder).expanduser().glob("cells/*/plan.json")):
        if (plan.parent / "cell.json").is_file():
            continue
        try:
            content = json.loads(plan.read_text(encoding="utf-8"))
            method, share = content["method"], content["labels"]
        except (ValueError, KeyError, TypeError):  # damaged, so the method is unknown
            method = share = None
        if method is None or ((not methods or method in methods) and (not labels or share in labels)):
            names.append(plan.parent.name)
    return names


def read_cell(file: Path) -> Cell:
    """Read one ``cell.json``.

    Raises:
        ValueError: if the file is damaged, has another format, a missing key or a wrong value, or its folder has
            another name.
    """
    advice = "remove the folder of this cell and run the benchmark again"
    try:
        content = json.loads(file.read_text(encoding="utf-8"), parse_constant=_reject_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is damaged ({error}); {advice}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{file} does not have the format {FORMAT}; run this cell again with this version")
    problem = find_error(content)
    if problem is not None:
        raise ValueError(f"{file} {problem}; {advice}")
    if content["name"] != file.parent.name:
        raise ValueError(
            f"{file} belongs to the cell {content['name']!r}, but its folder is {file.parent.name!r}; rename the "
            "folder, or move it out of the folder of cells"
        )
    return Cell(file.parent, content)


def chosen(cells: Iterable[Cell], methods: Sequence[str] = (), labels: Sequence[str] = ()) -> list[Cell]:
    """Return the cells of some methods and shares of labels; empty lists mean all.

    Raises:
        ValueError: if no cell has one of the methods or shares, or no cell has both.
    """
    cells = list(cells)
    for names, available, kind in (
        (methods, {cell.method for cell in cells}, "method"),
        (labels, {cell.labels for cell in cells}, "share of labels"),
    ):
        unknown = sorted(set(names) - available)
        if unknown:
            raise ValueError(
                f"no finished cell has the {kind} {unknown[0]!r}; choose from {', '.join(sorted(available))}"
            )
    selected = [cell for cell in cells if not methods or cell.method in methods]
    selected = [cell for cell in selected if not labels or cell.labels in labels]
    if not selected:
        raise ValueError(f"no finished cell of {', '.join(methods)} has {', '.join(labels)} % labels; choose others")
    return selected


def read_published_scores(file: str | Path, data: str) -> list[dict[str, Any]]:
    """Read published results for a data set, see ``docs/published_scores.json``.

    Raises:
        ValueError: if the file is not a list of results.
    """
    path = Path(file)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as published results ({error}); give another --published") from error
    entries = content.get("scores") if isinstance(content, dict) else content
    needed = {"paper", "data", "protocol", "metric", "value", "source"}
    if not isinstance(entries, list) or any(not isinstance(entry, dict) or needed - entry.keys() for entry in entries):
        raise ValueError(f"{path} is not a list of results with {', '.join(sorted(needed))}; give another --published")
    return [entry for entry in entries if str(entry["data"]).lower() == data.lower()]


def labels_key(labels: str) -> tuple[float, str]:
    """Return the sort key of a share of labels: by number, then by text."""
    digits = "".join(letter for letter in labels if letter.isdigit() or letter == ".")
    return (float(digits) if digits.strip(".") else float("inf"), labels)


def _reject_constant(constant: str) -> float:
    """Raise an error for NaN and infinities, which Python reads but JSON does not allow."""
    raise ValueError(f"it contains {constant}, which is not valid JSON")
