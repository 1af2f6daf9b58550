"""Charts of a report, drawn with matplotlib as SVG to be placed inside an HTML page."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import matplotlib
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

COLORS = ("#0072b2", "#d55e00", "#009e73", "#b5568a", "#b07d00", "#3f93c6", "#7a6f00", "#555566")
"""Colors of the series, after Okabe and Ito, whose colors color-blind readers can distinguish."""
INK, PALE, PANEL, BAND, GRID = "#1d2026", "#5a616d", "#f5f6f8", "#e9ebef", "#d9dde3"
VARIABLES = {color: f"c{index}" for index, color in enumerate(COLORS)}
VARIABLES |= {INK: "ink", PALE: "pale", PANEL: "panel", BAND: "band", GRID: "line"}
"""Variables of ``report.css`` that replace the colors, so that charts follow the light or dark style of the page."""
STYLE: dict[Any, Any] = {
    **{
        "svg.fonttype": "none",
        "svg.hashsalt": "report",
        "text.parse_math": False,
        "font.family": "DejaVu Sans",
        "font.size": 11,
    },
    **{f"axes.spines.{side}": False for side in ("left", "right", "top", "bottom")},
    **{"axes.grid": True, "axes.axisbelow": True, "grid.color": GRID, "text.color": INK, "axes.labelcolor": INK},
    **{"xtick.color": PALE, "ytick.color": PALE, "xtick.bottom": False, "ytick.left": False},
    **{"axes.labelsize": 11, "xtick.labelsize": 10.5, "ytick.labelsize": 10.5, "lines.solid_capstyle": "butt"},
}
WIDE, SMALL = 380, (240, 172)
"""Width of a chart with rows, and size of a small chart, px; near their size on a phone, where text stays legible."""
LANE, GAP = 9, 9
"""Height of a series in a row, and space between two rows, px."""
FEW = 30
"""Maximum number of points of a line that are marked."""


@dataclass(frozen=True)
class Line:
    """A named line of points (x, y).

    Attributes:
        name: shown on hover.
        points: points from left to right.
        color: index of the color, from 0.
        kind: ``line``, ``reference`` (dashed) or ``pale``; the last two are drawn behind the lines.
        dots: whether to mark the points, if there are few.
    """

    name: str
    points: Sequence[tuple[float, float]]
    color: int = 0
    kind: Literal["line", "reference", "pale"] = "line"
    dots: bool = False


@dataclass(frozen=True)
class Series:
    """One mark of a row: a mean with optional values or interval.

    Attributes:
        mean: position of the mark.
        color: index of the color, from 0.
        values: single values, drawn as dots; the mean is then a bar.
        ends: ends of an interval around the mean.
        hollow: whether the mark is a hollow diamond, for a second postprocessing of the same predictions.
        name: shown on hover.
    """

    mean: float
    color: int = 0
    values: Sequence[float] = ()
    ends: tuple[float, float] | None = None
    hollow: bool = False
    name: str = ""


@dataclass(frozen=True)
class Row:
    """A method with its series; ``strong`` marks the method that the others are compared with."""

    name: str
    series: Sequence[Series]
    strong: bool = False


def line_chart(
    lines: Sequence[Line],
    x_title: str,
    y_title: str,
    label: str,
    y: tuple[float, float] | None = None,
    x: tuple[float, float] | None = None,
    diagonal: bool = False,
) -> str:
    """Return a small line chart as SVG; an empty text if no line has a point.

    Args:
        lines: lines; those of other kinds than ``line`` are drawn behind the others.
        x_title: title of the x axis, with its unit.
        y_title: title of the y axis, with its unit.
        label: description for screen readers.
        y: range of y; by default that of the points.
        x: range of x; by default that of the points.
        diagonal: whether to draw the line x = y.
    """
    lines = [line for line in lines if line.points]
    if not lines:
        return ""
    looks: dict[str, dict[str, Any]] = {
        "line": {"linestyle": "-", "linewidth": 1.5, "zorder": 3},
        "reference": {"linestyle": "--", "linewidth": 1.2, "alpha": 0.75},
        "pale": {"linestyle": "-", "linewidth": 1.1, "alpha": 0.35},
    }
    with matplotlib.rc_context(STYLE):
        figure, axes = _figure(*SMALL)
        for line in lines:
            marker = "." if line.dots and len(line.points) <= FEW else ""
            color, gid = COLORS[line.color % len(COLORS)], _title(line.name)
            axes.plot(*zip(*line.points, strict=True), marker=marker, color=color, gid=gid, **looks[line.kind])
        if diagonal:
            axes.plot((0, 1), (0, 1), "--", color=PALE, linewidth=1.2)
        axes.set(xlabel=x_title, ylabel=y_title)
        axes.set(**{key: ends for key, ends in (("xlim", x), ("ylim", y)) if ends and ends[0] != ends[1]})
        _set_ticks(axes)
        return _svg(figure, label)


def row_chart(
    rows: Sequence[Row],
    x_title: str,
    label: str,
    references: Sequence[tuple[float, int | None]] = (),
    from_zero: bool = False,
    signs: bool = False,
) -> str:
    """Return a chart with a row per method, from top to bottom, as SVG; an empty text if no row has a series.

    Args:
        rows: rows; those without a series are left out.
        x_title: title of the x axis, with its unit.
        label: description for screen readers.
        references: positions of vertical dashed lines, with the index of their color or ``None`` for the text color.
        from_zero: whether the axis begins at 0.
        signs: whether the ticks have signs, as for differences.
    """
    rows = [row for row in rows if row.series]
    if not rows:
        return ""
    heights = [GAP + LANE * len(row.series) for row in rows]
    tops = [sum(heights[:index]) for index in range(len(rows) + 1)]
    with matplotlib.rc_context(STYLE):
        figure, axes = _figure(WIDE, max(tops[-1], 3 * LANE + GAP) + 48)
        for index, (row, top) in enumerate(zip(rows, tops, strict=False)):
            if index % 2 == 0:
                axes.axhspan(top, tops[index + 1], color=BAND, linewidth=0, zorder=0)
            for lane, series in enumerate(row.series):
                _draw_series(axes, series, top + GAP / 2 + LANE * (lane + 0.5))
        for value, color in references:
            axes.axvline(value, color=PALE if color is None else COLORS[color % len(COLORS)], ls="--", lw=1.2, zorder=2)
        centers = [(top + bottom) / 2 for top, bottom in pairwise(tops)]
        axes.set_yticks(centers, [row.name for row in rows], color=INK)
        for text, row in zip(axes.get_yticklabels(), rows, strict=True):
            text.set_fontweight("bold" if row.strong else "normal")
        axes.set(ylim=(tops[-1], 0), ylabel="method")
        axes.grid(visible=False, axis="y")
        figure.supxlabel(x_title, fontsize=STYLE["axes.labelsize"])
        if from_zero:
            axes.set_xlim(left=0)
        _set_ticks(axes, signs, rows=True)
        return _svg(figure, label)


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    """Return a figure and its axes; ``width`` and ``height`` are px in the SVG."""
    figure = Figure((width / 72, height / 72), dpi=72, layout="constrained")
    return figure, figure.add_subplot()


def _set_ticks(axes: Axes, signs: bool = False, rows: bool = False) -> None:
    """Set few round ticks, on x alone for a chart with rows."""
    for axis in (axes.xaxis,) if rows else (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(4, steps=(1, 2, 2.5, 5, 10)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+g}" if signs and value else f"{value:,g}"))
    if not rows:
        axes.grid(visible=False, axis="x")


def _draw_series(axes: Axes, series: Series, y: float) -> None:
    """Draw the interval, dots and mark of a series at a vertical position."""
    color = COLORS[series.color % len(COLORS)]
    if series.ends is not None:
        axes.plot(series.ends, (y, y), color=color, linewidth=2, zorder=3)
    axes.plot(series.values, [y] * len(series.values), "o", color=color, alpha=0.5, ms=5.2, mew=0, zorder=3)
    look: dict[str, Any] = {"marker": "o", "ms": 7.2, "mew": 0}
    if series.hollow:
        look = {"marker": "D", "ms": 6.5, "mew": 1.6, "mfc": PANEL}
    elif series.values:
        look = {"marker": "|", "ms": 10, "mew": 2.6}
    axes.plot(series.mean, y, color=color, zorder=4, gid=_title(series.name), **look)


def _title(name: str) -> str:
    """Return an identifier of an element, from which ``_svg`` makes the text that is shown on hover."""
    return f"title: {name}".replace('"', "'")  # matplotlib would change the quotes around it


def _svg(figure: Figure, label: str) -> str:
    """Return a figure as SVG, with the colors of the page and with identifiers that no other chart of the page has."""
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = re.sub(r"<defs>\s*<style.*?</defs>|<!--.*?-->|\n *", "", file.getvalue(), flags=re.DOTALL)
    positions = r' (?:d|x|y|transform)="[^"]*"'
    text = re.sub(positions, lambda match: re.sub(r"(\.\d\d)\d+", r"\1", match[0]), text)
    text = re.sub(r'<g id="title: ([^"]*)">', r"<g><title>\1</title>", text)
    text = re.sub(r'<g id="[^"]*">', "<g>", text)
    for color, name in VARIABLES.items():
        text = text.replace(color, f"var(--{name})")
    prefix = hashlib.sha256(f"{label}{text}".encode()).hexdigest()[:8]
    text = re.sub(r'( id="|url\(#|href="#)', rf"\g<1>c{prefix}", text)
    width, height = (72 * length for length in figure.get_size_inches())
    body = text[text.index(">", text.index("<svg")) + 1 :].strip()
    return Markup(f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(label)}">{body}')
