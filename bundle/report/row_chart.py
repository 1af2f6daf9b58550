"""A chart with a row a method, as inline SVG: scores, differences or costs of many methods under each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from bundle.report.charts import COLORS, LETTER, Frame, signed, text, ticks, widened
from bundle.report.charts import number as plain

LANE = 9
"""Height of a series, in units of the chart."""
GAP = 9
"""Height between two rows."""
HEAD = 18
"""Height of what stands above the rows."""
ROWS = "method"
"""What a row is: title of the names."""


@dataclass(frozen=True)
class Series:
    """One mark of a row in its own lane: a mean, and what it stands on.

    Attributes:
        mean: where the mark stands.
        color: number of the color, 0 the first.
        values: single values, drawn as dots; the mean is then a bar across.
        ends: ends of an interval around the mean.
        hollow: whether the mark is a hollow diamond, for a second postprocessing of the same answers.
        name: shown when pointed at.
    """

    mean: float
    color: int = 0
    values: Sequence[float] = ()
    ends: tuple[float, float] | None = None
    hollow: bool = False
    name: str = ""


@dataclass(frozen=True)
class Row:
    """A method with its series; a strong one is what the others are compared with."""

    name: str
    series: Sequence[Series]
    strong: bool = False


def row_chart(
    rows: Sequence[Row],
    x_title: str,
    label: str,
    include: Sequence[float] = (),
    references: Sequence[tuple[float, int | None]] = (),
    signs: bool = False,
) -> str:
    """Rows in the order given, the first on top, their names titled ``method``; empty where none has a series.

    Args:
        rows: those without a series are left out.
        x_title: of the axis below.
        label: what the chart shows, in words.
        include: values that the axis must hold.
        references: places of dashed lines from top to foot, each with the number of its color, ``None`` for ink.
        signs: whether the ticks show signs, as differences do.
    """
    kept = [row for row in rows if row.series]
    if not kept:
        return ""
    values = [value for row in kept for one in row.series for value in (one.mean, *one.values, *(one.ends or ()))]
    values += [*include, *(place for place, _ in references)]
    heights = [GAP + LANE * len(row.series) for row in kept]
    left = round(16 + LETTER * max(len(name) for name in (ROWS, *(row.name for row in kept))))
    height = HEAD + sum(heights) + 38
    frame = Frame(widened(values, 0.05), (0.0, 1.0), height=height, left=left, right=20, top=HEAD)
    frame.parts.append(text(left - 6, HEAD - 6, ROWS, "end", "title"))
    top = float(frame.top)
    for place, (row, height) in enumerate(zip(kept, heights, strict=True)):
        if place % 2 == 0:
            frame.parts.append(f'<rect class="band" x="0" y="{top:.1f}" width="{frame.width}" height="{height}"/>')
        kind = "name strong" if row.strong else "name"
        frame.parts.append(text(left - 6, top + height / 2 + 4, row.name, "end", kind))
        top += height
    names = {value: (signed if signs else plain)(value) for value in ticks(*frame.x, count=4)}
    frame.axis_below(x_title, names, grid=True)
    foot = frame.height - frame.bottom
    for value, color in references:
        kind = "rule" if color is None else f"rule c{color % COLORS}"
        frame.rule(kind, (frame.across(value), frame.top, frame.across(value), foot))
    top = float(frame.top)
    for row, height in zip(kept, heights, strict=True):
        for lane, series in enumerate(row.series):
            frame.parts.append(_marks(frame, series, top + GAP / 2 + LANE * (lane + 0.5)))
        top += height
    return frame.picture(label)


def _marks(frame: Frame, series: Series, y: float) -> str:
    """Interval, dots and mark of a series at a height."""
    x = frame.across(series.mean)
    parts = []
    if series.ends is not None:
        low, high = (frame.across(end) for end in series.ends)
        parts.append(f'<line class="interval" x1="{low:.1f}" x2="{high:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>')
    parts += [f'<circle class="dot" cx="{frame.across(value):.1f}" cy="{y:.1f}" r="2.6"/>' for value in series.values]
    if series.hollow:
        corners = f"{x - 4.5:.1f},{y:.1f} {x:.1f},{y - 4.5:.1f} {x + 4.5:.1f},{y:.1f} {x:.1f},{y + 4.5:.1f}"
        parts.append(f'<polygon class="hollow" points="{corners}"/>')
    elif series.values:
        parts.append(f'<rect class="mean" x="{x - 1.3:.1f}" y="{y - 5:.1f}" width="2.6" height="10"/>')
    else:
        parts.append(f'<circle class="mean" cx="{x:.1f}" cy="{y:.1f}" r="3.6"/>')
    return f'<g class="c{series.color % COLORS}"><title>{escape(series.name)}</title>{"".join(parts)}</g>'
