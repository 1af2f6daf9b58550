"""Sections of the page about answers: calibration, and the worst and best test images with their contours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from bundle.report import charts, markup
from bundle.report.cells import Cell
from bundle.report.tables import group, labels_of, methods_of

Tile = Mapping[str, Any]
"""A test image drawn for the page: ``title``, ``caption`` and ``source`` (a data: address)."""

OPEN = 4
"""Runs whose test images are shown unfolded; those of further ones are folded."""


def calibration(cells: Sequence[Cell]) -> str:
    """Share of true pixels over stated probability, a chart a method, a line a seed."""
    found = []
    for method in methods_of(cells):
        lines = [
            charts.Line(f"{labels} % labels, seed {cell.seed}", points, color)
            for color, labels in enumerate(labels_of(cells))
            for cell in group(cells, method, labels)
            if (points := reliability(cell))
        ]
        label = f"{method}: share of true pixels over the stated probability"
        titles, ends = ("stated probability", "share of true pixels"), (0.0, 1.0)
        found.append((method, charts.line_chart(lines, *titles, label, ends, ends, diagonal=True)))
    grid = markup.figures(found, "small")
    words = (
        "Share of pixels that are foreground, over the probability that the network states for it. On the dashed line "
        "it is right; below it the network is surer of foreground than it may be, above it less sure."
    )
    key = charts.legend([f"{share} % labels" for share in labels_of(cells)])
    return "\n".join([markup.paragraph(words), key, grid]) if grid else ""


def reliability(cell: Cell) -> list[tuple[float, float]]:
    """Points (mean stated probability, share of true pixels) of the bins of a cell that hold a pixel."""
    bins = cell.content.get("calibration")
    if not bins:
        return []
    known = zip(bins["confidence"], bins["share"], bins["count"], strict=True)
    return [(x, y) for x, y, count in known if count and x is not None and y is not None]


def pictures(tiles: Mapping[str, Sequence[Tile]]) -> str:
    """Test images, a fold a run, a row for each of its groups: what follows a colon in the title, worst or best."""
    runs: dict[str, list[str]] = {}
    for title, found in tiles.items():
        run, _, rank = title.partition(": ")
        drawn = []
        for tile in found:
            caption = str(tile["caption"])
            words = f"{rank}, {caption}" if rank else caption
            words = escape(f"Test image with the outlines of truth and answer; {words}", True)
            picture = f'<img src="{tile["source"]}" alt="{words}" loading="lazy">'
            drawn.append(f"<figure>{picture}<figcaption>{escape(caption)}</figcaption></figure>")
        heading = f"<h3>{escape(rank.capitalize())}</h3>" if rank else ""
        runs.setdefault(run, []).append(f'{heading}<div class="tiles">{"".join(drawn)}</div>')
    blocks = [markup.folded(run, "".join(rows), place < OPEN) for place, (run, rows) in enumerate(runs.items())]
    words = (
        "The test images with the lowest and with the highest Dice of each method at each share of labels, from the "
        "run with its lowest seed."
    )
    key = charts.legend((), [("truth", "truth"), ("answer", "answer")])
    return "\n".join([markup.paragraph(words), key, *blocks]) if blocks else ""
