"""Sections of the page about predictions: calibration, and the worst and best test images with contours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from scripts.reporting import charts, markup
from scripts.reporting.cells import Cell
from scripts.reporting.tables import group, labels_of, methods_of

Tile = Mapping[str, Any]
"""A picture of a test image: ``title``, ``caption`` and ``source`` (a data: URL)."""

OPEN = 4
"""Number of runs whose test images are expanded; those of the other runs are collapsed."""


def calibration(cells: Sequence[Cell]) -> str:
    """Return the reliability diagrams: one chart per method, one line per seed."""
    diagrams = []
    for method in methods_of(cells):
        lines = [
            charts.Line(f"{labels} % labels, seed {cell.seed}", points, color)
            for color, labels in enumerate(labels_of(cells))
            for cell in group(cells, method, labels)
            if (points := reliability(cell))
        ]
        label = f"{method}: share of foreground pixels over the predicted probability"
        titles, ends = ("predicted probability", "share of foreground"), (0.0, 1.0)
        diagrams.append((method, charts.line_chart(lines, *titles, label, ends, ends, diagonal=True)))
    grid = markup.figures(diagrams, "small")
    text = (
        "Share of pixels that are foreground, over the foreground probability that the network predicts. On the dashed "
        "line the probability is correct; below it, it is too high, above it, too low."
    )
    key = charts.legend([f"{share} % labels" for share in labels_of(cells)])
    return "\n".join([markup.paragraph(text), key, grid]) if grid else ""


def reliability(cell: Cell) -> list[tuple[float, float]]:
    """Return points (mean predicted probability, share of foreground) of the bins of a cell that are not empty."""
    bins = cell.content.get("calibration")
    if not bins:
        return []
    columns = zip(bins["confidence"], bins["share"], bins["count"], strict=True)
    return [(x, y) for x, y, count in columns if count and x is not None and y is not None]


def pictures(tiles: Mapping[str, Sequence[Tile]]) -> str:
    """Return the test images: a collapsible block per run, with a row per group (worst, best).

    Args:
        tiles: title (``RUN: GROUP``) -> pictures.
    """
    runs: dict[str, list[str]] = {}
    for title, group_tiles in tiles.items():
        run, _, rank = title.partition(": ")
        figures = []
        for tile in group_tiles:
            caption = str(tile["caption"])
            description = f"{rank}, {caption}" if rank else caption
            alt = escape(f"Test image with outlines of annotation and prediction; {description}", True)
            picture = f'<img src="{tile["source"]}" alt="{alt}" loading="lazy">'
            figures.append(f"<figure>{picture}<figcaption>{escape(caption)}</figcaption></figure>")
        heading = f"<h3>{escape(rank.capitalize())}</h3>" if rank else ""
        runs.setdefault(run, []).append(f'{heading}<div class="tiles">{"".join(figures)}</div>')
    blocks = [markup.collapsible(run, "".join(rows), index < OPEN) for index, (run, rows) in enumerate(runs.items())]
    text = (
        "Test images with the lowest and the highest Dice for each method and share of labels, from the run with the "
        "lowest seed."
    )
    key = charts.legend((), [("truth", "annotation"), ("answer", "prediction")])
    return "\n".join([markup.paragraph(text), key, *blocks]) if blocks else ""
