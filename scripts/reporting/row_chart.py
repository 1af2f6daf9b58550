"""Charts with one row per method, as inline SVG, for scores, differences or costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from scripts.reporting.charts import COLORS, LETTER, Frame, signed, text, ticks, widened
from scripts.reporting.charts import number as plain

LANE = 9
"""Height of a series, in SVG units."""
GAP = 9
"""Space between two rows."""
HEAD = 18
"""Height above the rows."""
ROWS = "method"
"""Title of the row names."""


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


def row_chart(
    rows: Sequence[Row],
    x_title: str,
    label: str,
    include: Sequence[float] = (),
    references: Sequence[tuple[float, int | None]] = (),
    signs: bool = False,
) -> str:
    """Return a chart of the rows, from top to bottom; an empty text if no row has a series.

    Args:
        rows: rows; those without a series are left out.
        x_title: title of the x axis.
        label: description for screen readers.
        include: values that the axis must include.
        references: positions of vertical dashed lines, with the index of their color or ``None`` for the text color.
        signs: whether the ticks have signs, as for differences.
    """
    rows = [row for row in rows if row.series]
    if not rows:
        return ""
    values = [value for row in rows for mark in row.series for value in (mark.mean, *mark.values, *(mark.ends or ()))]
    values += [*include, *(value for value, _ in references)]
    heights = [GAP + LANE * len(row.series) for row in rows]
    left = round(16 + LETTER * max(len(name) for name in (ROWS, *(row.name for row in rows))))
    height = HEAD + sum(heights) + 38
    frame = Frame(widened(values, 0.05), (0.0, 1.0), height=height, left=left, right=20, top=HEAD)
    frame.parts.append(text(left - 6, HEAD - 6, ROWS, "end", "title"))
    top = float(frame.top)
    for index, (row, height) in enumerate(zip(rows, heights, strict=True)):
        if index % 2 == 0:
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
    for row, height in zip(rows, heights, strict=True):
        for lane, series in enumerate(row.series):
            frame.parts.append(_marks(frame, series, top + GAP / 2 + LANE * (lane + 0.5)))
        top += height
    return frame.picture(label)


def _marks(frame: Frame, series: Series, y: float) -> str:
    """Return the interval, dots and mark of a series at a vertical position."""
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
