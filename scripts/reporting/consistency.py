"""Table of the pseudo-labels of each method during training."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from scripts.reporting.cells import Cell
from scripts.reporting.tables import group, labels_of, methods_of, table_of

KINDS = {
    "foreground": "share of foreground",
    "counted": "share of pixels that count",
    "unlabeled": "loss",
    "labeled": "loss on labels",
    "ramp": "weight",
}
"""Meaning of the columns of a consistency term in the training log, by the first part of the column name."""
WHEN = {"first epoch": 0.0, "middle": 0.5, "last epoch": 1.0}
"""Columns of the table, and the share of the training that they show."""


def consistency_table(cells: Sequence[Cell], kinds: Sequence[str] = ("foreground", "counted")) -> pd.DataFrame:
    """Return the values of each consistency term at the start, middle and end of training, mean over seeds.

    Args:
        cells: finished cells of one benchmark.
        kinds: any of ``KINDS``: ``foreground`` and ``counted`` (shares of pixels, in percent), ``unlabeled`` and
            ``labeled`` (losses), ``ramp`` (weight of a consistency term).

    Returns:
        A row per method, share of labels and column of the training log, with the three values as text.

    Raises:
        ValueError: if a kind is unknown.
    """
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise ValueError(f"unknown kind {unknown[0]!r}; choose from {', '.join(KINDS)}")
    rows = []
    for method in methods_of(cells):
        for share in labels_of(cells):
            runs = group(cells, method, share)
            for name in sorted({name for cell in runs for name in cell.content.get("curves") or {}}):
                if name.split("/")[0] in kinds and "/gate_" not in name:
                    rows.append([method, f"{share} %", name, *_texts(runs, name)])
    return table_of(rows, ["method", "labels", "column", *WHEN])


def _texts(cells: Sequence[Cell], column: str) -> list[str]:
    """Return the values of a column at three times, as text."""
    curves = [curve for cell in cells if (curve := cell.curve(column))]
    if not curves:
        return [""] * len(WHEN)
    means = [sum(curve[int(share * (len(curve) - 1))][1] for curve in curves) / len(curves) for share in WHEN.values()]
    in_percent = column.split("/")[0] in ("foreground", "counted")
    return [f"{100 * value:.1f} %" if in_percent else f"{value:.4g}" for value in means]
