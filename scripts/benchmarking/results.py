"""Reading of the files that training and evaluation of a cell write, as plain values."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

Columns = dict[str, list[Any]]


def read_metrics(path: Path) -> dict[str, float]:
    """Read the scores of an evaluation, ``metrics.csv``: one line per metric with name and value.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if a line is not a name and a number, or the file is empty.
    """
    scores: dict[str, float] = {}
    with _open(path) as file:
        for row in csv.reader(file):
            try:
                name, value = row
                scores[name.strip()] = float(value)
            except ValueError as error:
                raise ValueError(f"{path} holds {row}, expected a name and a number") from error
    if not scores:
        raise ValueError(f"{path} holds no metric")
    return scores


def read_columns(path: Path, texts: tuple[str, ...] = ()) -> Columns:
    """Read a table with a header by columns: numbers, ``None`` for empty cells, strings for the columns ``texts``.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if a cell is not a number.
    """
    with _open(path) as file:
        table = csv.DictReader(file)
        columns: Columns = {name: [] for name in table.fieldnames or []}
        for row in table:
            for name in columns:
                columns[name].append(row[name] if name in texts else _number(row[name], name, path))
    return columns


def read_curves(path: Path) -> Columns:
    """Read the table of a training, ``training.csv``; epochs are integers.

    Raises:
        FileNotFoundError, ValueError: as ``read_columns``.
    """
    curves = read_columns(path)
    return curves | {"epoch": [int(epoch) for epoch in curves["epoch"]]}


def read_evaluation(folder: Path) -> dict[str, Any]:
    """Read the results of an evaluation.

    Args:
        folder: output folder of the evaluation.

    Returns:
        ``metrics``, ``per_image``, ``calibration`` (``None`` without its file) and the folder ``masks`` or ``None``.

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
    """Return the last line of a log that is not blank; an empty string if there is none."""
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
        raise ValueError(f"{path} holds {text!r} in column {name}, expected a number") from error
