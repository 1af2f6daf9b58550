"""Results of a labeling simulation: a table of all rounds, and a plot of scores against numbers of labeled tiles."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation

from bundle.utils import atomic_path
from scripts.reporting.definitions import definition
from scripts.reporting.statistics import spread
from scripts.reporting.tables import markdown, shown

START, DIVERSE = "start", "diverse"
"""Strategy of the first round of a seed for all strategies but ``diverse``, which selects its own first tiles."""
LOOKS = {
    "disagreement": ("#d55e00", "o"),
    "random": ("#0072b2", "s"),
    "first": ("#008264", "^"),
    DIVERSE: ("#aa4499", "D"),
}
"""Strategy -> color (Okabe and Ito's palette, distinguishable by color-blind readers) and marker."""

Record = dict[str, Any]


def write_summary(results: Mapping[str, Record], output: Path) -> str:
    """Write the table of all rounds and the plot; return means and standard deviations over seeds as Markdown."""
    records = sorted(results.values(), key=lambda record: (record["seed"], record["tiles"], record["strategy"]))
    metric, strategies = next(iter(records[0]["metrics"])), {record["strategy"] for record in records}
    curves: dict[str, dict[int, list[float]]] = {name: {} for name in LOOKS if name in strategies}
    with atomic_path(output / "results.csv") as path, path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["seed", "strategy", "outlined", *records[0]["metrics"], "seconds", "picked"])
        for record in records:
            values = (*record["metrics"].values(), record["seconds"], " ".join(record["picked"]))
            table.writerow([record["seed"], record["strategy"], record["tiles"], *values])
            for strategy in set(curves) - {DIVERSE} if record["strategy"] == START else [record["strategy"]]:
                curves[strategy].setdefault(record["tiles"], []).append(record["metrics"][metric])
    counts = sorted({record["tiles"] for record in records})
    draw_plot(curves, counts, definition(metric).title, output / "dice.png")
    means = {count: [spread(curve[count]) if count in curve else None for curve in curves.values()] for count in counts}
    rows = [[str(count), *(shown(value, 3) for value in row)] for count, row in means.items()]
    return markdown(pd.DataFrame(rows, columns=["tiles", *curves]))


def draw_plot(curves: Mapping[str, Mapping[int, list[float]]], counts: list[int], title: str, path: Path) -> None:
    """Write the plot: for each strategy the mean over seeds as a line, and each seed as a small marker."""
    figure = Figure((8, 5.5), dpi=100, layout="constrained")
    axes = figure.add_subplot(xlabel="labeled tiles", ylabel=f"test {title}", xticks=counts)
    for index, (strategy, curve) in enumerate(curves.items()):
        color, marker = LOOKS[strategy]
        means = [sum(scores) / len(scores) for scores in curve.values()]
        axes.plot(list(curve), means, marker=marker, color=color, label=f"{strategy}, mean over seeds")
        for count, scores in curve.items():  # shifted by 14 px, so that strategies do not overlap
            shift = ScaledTranslation(0.14 * (index - 1.5), 0, figure.dpi_scale_trans)
            counts_of_seeds, transform = [count] * len(scores), axes.transData + shift
            axes.plot(counts_of_seeds, scores, marker, markersize=4, fillstyle="none", color=color, transform=transform)
    axes.margins(0.08)
    axes.grid(axis="y", alpha=0.4)
    if curves:
        axes.legend(frameon=False)
    with atomic_path(path, path.suffix, clean=True) as hidden:
        figure.savefig(hidden)
