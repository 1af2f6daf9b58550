"""Table of the pseudo-labels of each method during training."""

from __future__ import annotations

from collections.abc import Sequence

from scripts.reporting.cells import Cell
from scripts.reporting.tables import Table, labels_of, methods_of

KINDS = {
    "foreground": "share of foreground",
    "counted": "share of pixels that count",
    "unlabeled": "loss",
    "labeled": "loss on labels",
    "ramp": "weight",
}
"""Meaning of the columns of a consistency term in the training log, by the first part of the column name."""
WHEN = ("first epoch", "middle", "last epoch")


def consistency_table(cells: Sequence[Cell], kinds: Sequence[str] = ("foreground", "counted")) -> Table:
    """Return the values of each consistency term at the start, middle and end of training, mean over seeds.

    Args:
        cells: finished cells of one benchmark.
        kinds: any of ``KINDS``: ``foreground`` and ``counted`` (shares of pixels, in percent), ``unlabeled`` and
            ``labeled`` (losses), ``ramp`` (weight of a consistency term).

    Returns:
        Column titles and rows: method, share of labels, column of the training log, and the three values.

    Raises:
        ValueError: if a kind is unknown.
    """
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise ValueError(f"unknown kind {unknown[0]!r}; choose from {', '.join(KINDS)}")
    rows = []
    for method in methods_of(cells):
        for share in labels_of(cells):
            group = [cell for cell in cells if cell.method == method and cell.labels == share]
            names = sorted({name for cell in group for name in cell.content.get("curves") or {}})
            for name in names:
                if name.split("/")[0] in kinds and "/gate_" not in name:
                    rows.append([method, f"{share} %", name, *_formatted(group, name)])
    return ["method", "labels", "column", *WHEN], rows


def _formatted(cells: Sequence[Cell], column: str) -> list[str]:
    """Return the values of a column at three times, as text."""
    curves = [[value for _, value in cell.curve(column)] for cell in cells]
    curves = [curve for curve in curves if curve]
    if not curves:
        return [""] * len(WHEN)
    shares = (0.0, 0.5, 1.0)
    means = [sum(curve[int(share * (len(curve) - 1))] for curve in curves) / len(curves) for share in shares]
    in_percent = column.split("/")[0] in ("foreground", "counted")
    return [f"{100 * value:.1f} %" if in_percent else f"{value:.4g}" for value in means]
