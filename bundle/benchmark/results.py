"""What training and evaluation of a cell left in its folder, read into plain values."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

Columns = dict[str, list[Any]]


def read_metrics(path: Path) -> dict[str, float]:
    """The scores of an evaluation, ``metrics.csv``: a line a metric, name and value.

    Raises:
        FileNotFoundError: without the file.
        ValueError: where a line is no name and number, or there is none.
    """
    scores: dict[str, float] = {}
    with _open(path) as file:
        for row in csv.reader(file):
            try:
                name, value = row
                scores[name.strip()] = float(value)
            except ValueError as error:
                raise ValueError(f"{path} holds {row} where a name and a number are expected") from error
    if not scores:
        raise ValueError(f"{path} holds no metric")
    return scores


def read_columns(path: Path, texts: tuple[str, ...] = ()) -> Columns:
    """A table with a header, column by column: numbers, ``None`` where a cell is empty, text in ``texts``.

    Raises:
        FileNotFoundError: without the file.
        ValueError: where a cell is no number.
    """
    with _open(path) as file:
        table = csv.DictReader(file)
        columns: Columns = {name: [] for name in table.fieldnames or []}
        for row in table:
            for name in columns:
                columns[name].append(row[name] if name in texts else _number(row[name], name, path))
    return columns


def read_curves(path: Path) -> Columns:
    """The table of a training, ``training.csv``; epochs are whole numbers.

    Raises:
        FileNotFoundError, ValueError: as ``read_columns``.
    """
    curves = read_columns(path)
    return curves | {"epoch": [int(epoch) for epoch in curves["epoch"]]}


def read_evaluation(folder: Path) -> dict[str, Any]:
    """All that an evaluation wrote: ``metrics``, ``per_image``, ``calibration`` (``None`` without its file), ``masks``.

    Args:
        folder: the evaluation's output folder.

    Raises:
        FileNotFoundError, ValueError: as ``read_metrics`` and ``read_columns``.
    """
    calibration = folder / "calibration.csv"
    return {
        "metrics": read_metrics(folder / "metrics.csv"),
        "per_image": read_columns(folder / "per_image.csv", texts=("image",)),
        "calibration": read_columns(calibration) if calibration.is_file() else None,
        "masks": f"{folder.name}/masks" if (folder / "masks").is_dir() else None,
    }


def last_line(log: Path) -> str:
    """The last line of a log that says something; empty where there is none."""
    if not log.is_file():
        return ""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    return next((line for line in reversed(lines) if line), "")


def _open(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}, which the run should have written; see the log of the cell")
    return path.open(newline="", encoding="utf-8")


def _number(text: str | None, name: str, path: Path) -> float | None:
    if text is None or text == "":
        return None
    try:
        return float(text)
    except ValueError as error:
        raise ValueError(f"{path} holds {text!r} in column {name} where a number is expected") from error
