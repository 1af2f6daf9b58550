"""Charts of a report as inline SVG: they need no library, scale with the page and take their colours from its style."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

WIDTH = 380
"""Width of a chart in its own units; near its width on a phone, so that its text stays legible there."""
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a6f00", "#555566")
"""Okabe and Ito's colours, told apart by colour-blind readers; the first is the first method's."""

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Line:
    """A named line of points (x, y): ``colour`` is a number of ``COLOURS``; a faint one stands behind, unnamed."""

    name: str
    points: Points
    colour: int
    faint: bool = False
    dots: bool = False


@dataclass
class Frame:
    """Axes of a chart: ranges, and where they lie."""

    x: tuple[float, float]
    y: tuple[float, float]
    height: int = 230
    left: int = 44
    right: int = 12
    top: int = 12
    bottom: int = 40
    parts: list[str] = field(default_factory=list)

    def across(self, value: float) -> float:
        """Place of an x."""
        low, high = self.x
        return self.left + (WIDTH - self.left - self.right) * (value - low) / ((high - low) or 1.0)

    def down(self, value: float) -> float:
        """Place of a y."""
        low, high = self.y
        return (
            self.height - self.bottom - (self.height - self.top - self.bottom) * (value - low) / ((high - low) or 1.0)
        )

    def axes(self, x_title: str, y_title: str, x_ticks: Mapping[float, str] | None = None) -> None:
        """Draw grid, ticks and titles."""
        for value in ticks(*self.y):
            place = self.down(value)
            self.parts.append(
                f'<line class="grid" x1="{self.left}" x2="{WIDTH - self.right}" y1="{place:.1f}" y2="{place:.1f}"/>'
            )
            self.parts.append(text(self.left - 6, place + 4, number(value), "end"))
        named = x_ticks if x_ticks is not None else {value: number(value) for value in ticks(*self.x)}
        for value, name in named.items():
            self.parts.append(text(self.across(value), self.height - self.bottom + 16, name, "middle"))
        self.parts.append(text((self.left + WIDTH - self.right) / 2, self.height - 6, x_title, "middle", "title"))
        self.parts.append(text(4, 12, y_title, "start", "title"))

    def picture(self, label: str) -> str:
        """The finished SVG; ``label`` says in words what it shows."""
        body = "".join(self.parts)
        return f'<svg viewBox="0 0 {WIDTH} {self.height}" role="img" aria-label="{escape(label, True)}">{body}</svg>'


def line_chart(
    lines: Sequence[Line], x_title: str, y_title: str, y: tuple[float, float] | None = None, diagonal: bool = False
) -> str:
    """Lines over a common axis; points that are no numbers break a line."""
    shown = [point for line in lines for point in line.points if all(map(math.isfinite, point))]
    if not shown:
        return ""
    x = (min(point[0] for point in shown), max(point[0] for point in shown))
    frame = Frame((0.0, 1.0) if diagonal else x, y or widened([point[1] for point in shown]), top=30)
    frame.axes(x_title, y_title)
    if diagonal:
        ends = (
            f'x1="{frame.across(0):.1f}" y1="{frame.down(0):.1f}" x2="{frame.across(1):.1f}" y2="{frame.down(1):.1f}"'
        )
        frame.parts.append(f'<line class="rule" {ends}/>')
    for line in sorted(lines, key=lambda line: not line.faint):
        frame.parts.append(_path(frame, line))
    return frame.picture(f"{y_title} over {x_title}: {', '.join(line.name for line in lines if not line.faint)}")


def dot_chart(
    columns: Sequence[str], groups: Mapping[str, Mapping[str, Sequence[float]]], y_title: str, better: str
) -> str:
    """One column a share of labels, in it the values of each method as dots and their mean as a bar.

    Args:
        columns: names of the columns.
        groups: method -> column -> values, one a seed.
        y_title: name of the score.
        better: words that say which way is better.
    """
    values = [value for group in groups.values() for found in group.values() for value in found]
    if not values:
        return ""
    frame = Frame((-0.5, len(columns) - 0.5), widened(values), top=30)
    frame.axes(
        "labeled training images, %",
        better,
        dict(zip(map(float, range(len(columns))), columns, strict=True)),
    )
    step = min(0.8 / max(len(groups), 1), 0.22)
    for place, (method, group) in enumerate(groups.items()):
        shift = (place - (len(groups) - 1) / 2) * step
        colour = COLOURS[place % len(COLOURS)]
        for index, column in enumerate(columns):
            found = group.get(column, ())
            if not found:
                continue
            middle, mean = frame.across(index + shift), sum(found) / len(found)
            half = max(4.0, 0.35 * step * (frame.across(1) - frame.across(0)))
            title = f"<title>{escape(method)}, {escape(column)} %: mean {mean:.3f}, n = {len(found)}</title>"
            frame.parts.append(
                f'<line x1="{middle - half:.1f}" x2="{middle + half:.1f}" y1="{frame.down(mean):.1f}" '
                f'y2="{frame.down(mean):.1f}" stroke="{colour}" stroke-width="3">{title}</line>'
            )
            frame.parts += [
                f'<circle cx="{middle:.1f}" cy="{frame.down(value):.1f}" r="3.2" fill="{colour}" fill-opacity="0.55"/>'
                for value in found
            ]
    return frame.picture(f"{y_title} of {', '.join(groups)} at {', '.join(columns)} % labels")


def forest_chart(rows: Sequence[tuple[str, float, float | None, float | None]], x_title: str) -> str:
    """Differences with their intervals, one a row, around a line at 0."""
    ends = [value for row in rows for value in row[1:] if value is not None] + [0.0]
    frame = Frame(widened(ends, 0.12), (0.0, 1.0), height=64 + 40 * len(rows), left=14, top=8)
    for value in ticks(*frame.x, count=4):
        place = frame.across(value)
        frame.parts.append(f'<line class="grid" x1="{place:.1f}" x2="{place:.1f}" y1="8" y2="{frame.height - 40}"/>')
        frame.parts.append(text(place, frame.height - 24, signed(value), "middle"))
    zero = frame.across(0.0)
    frame.parts.append(f'<line class="rule" x1="{zero:.1f}" x2="{zero:.1f}" y1="8" y2="{frame.height - 40}"/>')
    frame.parts.append(text(WIDTH / 2, frame.height - 6, x_title, "middle", "title"))
    for place, (name, middle, low, high) in enumerate(rows):
        height = 20 + 40 * place
        frame.parts.append(text(14, height, name, "start", "tick above"))
        if low is not None and high is not None:
            across = f'x1="{frame.across(low):.1f}" x2="{frame.across(high):.1f}"'
            frame.parts.append(f'<line class="mark" {across} y1="{height + 14}" y2="{height + 14}"/>')
        frame.parts.append(f'<circle class="mark" cx="{frame.across(middle):.1f}" cy="{height + 14}" r="4.5"/>')
    return frame.picture(f"{x_title}: {', '.join(row[0] for row in rows)}")


def legend(names: Sequence[str]) -> str:
    """Key to the colours, in the order in which the charts use them."""
    items = [
        f'<span><i style="background:{COLOURS[place % len(COLOURS)]}"></i>{escape(name)}</span>'
        for place, name in enumerate(names)
    ]
    return f'<p class="legend">{"".join(items)}</p>'


def text(x: float, y: float, words: str, anchor: str, kind: str = "tick") -> str:
    """One line of text in a chart."""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round values between two ends, about ``count``."""
    span = high - low
    if not span > 0:
        return [low]
    rough = span / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(index * step, 12) for index in range(first, math.floor(high / step + 1e-9) + 1)]


def widened(values: Sequence[float], share: float = 0.08) -> tuple[float, float]:
    """Range of some values with a margin on either side."""
    low, high = min(values), max(values)
    margin = share * (high - low) or max(abs(high) * 0.05, 0.01)
    return low - margin, high + margin


def number(value: float) -> str:
    """A tick's number, as short as it can be."""
    if abs(value) >= 1000 and value == int(value):
        return f"{int(value):,}"
    return f"{value:.4g}"


def signed(value: float) -> str:
    """A number with its sign."""
    return f"{value:+.3g}" if value else "0"


def _path(frame: Frame, line: Line) -> str:
    colour = COLOURS[line.colour % len(COLOURS)]
    runs: list[list[str]] = [[]]
    for x, y in line.points:
        if math.isfinite(x) and math.isfinite(y):
            low, high = frame.y
            runs[-1].append(f"{frame.across(x):.1f},{frame.down(min(max(y, low), high)):.1f}")
        elif runs[-1]:
            runs.append([])
    style = f'stroke="{colour}"' + (' class="faint"' if line.faint else ' class="line"')
    drawn = [
        f'<polyline {style} points="{" ".join(run)}"><title>{escape(line.name)}</title></polyline>'
        for run in runs
        if run
    ]
    if line.dots:
        drawn += [
            f'<circle cx="{place.split(",")[0]}" cy="{place.split(",")[1]}" r="2.6" fill="{colour}"/>'
            for run in runs
            for place in run
        ]
    return "".join(drawn)
