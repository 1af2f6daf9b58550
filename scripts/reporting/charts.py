"""Charts of a report as inline SVG, without a library; they scale with the page and use the colors of its style."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Literal

COLORS = 8
"""Number of colors in ``page.css``: those of Okabe and Ito, which color-blind readers can distinguish."""
WIDE = 380
"""Width of a chart in SVG units, near its width on a phone, so that its text is legible there."""
SMALL = (240, 166)
"""Width and height of a small chart."""
LETTER = 6.6
"""Approximate maximum width of a letter in common fonts, in SVG units."""

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Line:
    """A named line of points (x, y).

    Attributes:
        name: shown on hover.
        points: NaN values interrupt the line.
        color: index of the color, from 0.
        kind: ``line``, ``reference`` (dashed) or ``pale``; the last two are drawn behind the lines.
        dots: whether to mark the points.
    """

    name: str
    points: Points
    color: int = 0
    kind: Literal["line", "reference", "pale"] = "line"
    dots: bool = False


@dataclass
class Frame:
    """Axes of a chart: ranges and margins, in SVG units."""

    x: tuple[float, float]
    y: tuple[float, float]
    width: int = WIDE
    height: int = 230
    left: int = 40
    right: int = 14
    top: int = 12
    bottom: int = 38
    parts: list[str] = field(default_factory=list)

    def across(self, value: float) -> float:
        """Return the horizontal position of x."""
        low, high = self.x
        return self.left + (self.width - self.left - self.right) * (value - low) / ((high - low) or 1.0)

    def down(self, value: float) -> float:
        """Return the vertical position of y."""
        low, high = self.y
        return (
            self.height - self.bottom - (self.height - self.top - self.bottom) * (value - low) / ((high - low) or 1.0)
        )

    def rule(self, kind: str, ends: tuple[float, float, float, float]) -> None:
        """Draw a straight line with a CSS class; ``ends`` are x, y, x, y."""
        x1, y1, x2, y2 = ends
        self.parts.append(f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>')

    def axis_below(self, title: str, names: Mapping[float, str], grid: bool = False) -> None:
        """Draw the ticks of x, value -> text, and the title below."""
        foot = self.height - self.bottom
        for value, name in names.items():
            x = self.across(value)
            if grid:
                self.rule("grid", (x, self.top, x, foot))
            self.parts.append(text(self._clamped(x, name), foot + 15, name, "middle"))
        middle = (self.left + self.width - self.right) / 2
        self.parts.append(text(self._clamped(middle, title), self.height - 6, title, "middle", "title"))

    def _clamped(self, x: float, words: str) -> float:
        """Return the position nearest to x at which a centered text is not cut off."""
        half = min(LETTER * len(words), self.width) / 2
        return min(max(x, half), self.width - half)

    def axis_beside(self, count: int = 5, title: str = "") -> None:
        """Draw the grid and ticks of y, and the title above."""
        if title:
            self.parts.append(text(0, 11, title, "start", "title"))
        for value in ticks(*self.y, count=count):
            y = self.down(value)
            self.rule("grid", (self.left, y, self.width - self.right, y))
            self.parts.append(text(self.left - 6, y + 4, number(value), "end"))

    def picture(self, label: str) -> str:
        """Return the SVG; ``label`` describes it for screen readers."""
        body = "".join(self.parts)
        size = f'viewBox="0 0 {self.width} {self.height}"'
        return f'<svg {size} role="img" aria-label="{escape(label, True)}">{body}</svg>'


def line_chart(
    lines: Sequence[Line],
    x_title: str,
    y_title: str,
    label: str,
    y: tuple[float, float] | None = None,
    x: tuple[float, float] | None = None,
    diagonal: bool = False,
) -> str:
    """Return a small line chart; an empty text if no line has a point.

    Args:
        lines: lines; those of other kinds than ``line`` are drawn behind the others.
        x_title: title of the x axis, with its unit.
        y_title: title of the y axis, with its unit; it is drawn above the axis.
        label: description for screen readers.
        y: range of y; by default that of the points. Values outside are drawn at the edge.
        x: range of x; by default that of the points.
        diagonal: whether to draw the line x = y.
    """
    finite = [point for line in lines for point in line.points if all(map(math.isfinite, point))]
    if not finite:
        return ""
    x_range = x or (min(point[0] for point in finite), max(point[0] for point in finite))
    frame = Frame(x_range, y or widened([point[1] for point in finite]), *SMALL, left=48, top=28)
    frame.axis_beside(4, y_title)
    frame.axis_below(x_title, {value: number(value) for value in ticks(*x_range, count=3)})
    if diagonal:
        frame.rule("rule", (frame.across(0), frame.down(0), frame.across(1), frame.down(1)))
    frame.parts += [_path(frame, line) for line in sorted(lines, key=lambda line: line.kind == "line")]
    return frame.picture(label)


def legend(names: Sequence[str], marks: Sequence[tuple[str, str]] = ()) -> str:
    """Return the legend of the colors, in their order, and of ``marks``: (CSS class, text)."""
    items = [f'<li><i class="c{index % COLORS}"></i>{escape(name)}</li>' for index, name in enumerate(names)]
    items += [f'<li><i class="{kind}"></i>{escape(words)}</li>' for kind, words in marks]
    return f'<ul class="legend">{"".join(items)}</ul>' if items else ""


def text(x: float, y: float, words: str, anchor: str, kind: str = "tick") -> str:
    """Return one line of text in a chart."""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return about ``count`` round values between two ends."""
    span = high - low
    if not span > 0:
        return [low]
    rough = span / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(index * step, 12) for index in range(first, math.floor(high / step + 1e-9) + 1)]


def widened(values: Sequence[float], share: float = 0.08) -> tuple[float, float]:
    """Return the range of some values with a margin on both sides."""
    low, high = min(values), max(values)
    margin = share * (high - low) or max(abs(high) * 0.05, 0.01)
    return low - margin, high + margin


def number(value: float) -> str:
    """Format the number of a tick, as short as possible."""
    if abs(value) >= 10000 and value == int(value):
        return f"{int(value):,}"
    return f"{value:.4g}"


def signed(value: float) -> str:
    """Format a number with its sign."""
    return f"{value:+.3g}" if value else "0"


def _path(frame: Frame, line: Line) -> str:
    low, high = frame.y
    runs: list[list[str]] = [[]]
    for x, y in line.points:
        if math.isfinite(x) and math.isfinite(y):
            runs[-1].append(f"{frame.across(x):.1f},{frame.down(min(max(y, low), high)):.1f}")
        elif runs[-1]:
            runs.append([])
    runs = [run for run in runs if run]
    marks = [f'<polyline points="{" ".join(run)}"/>' for run in runs]
    if line.dots:
        marks += [
            f'<circle cx="{point.split(",")[0]}" cy="{point.split(",")[1]}" r="2"/>' for run in runs for point in run
        ]
    return f'<g class="c{line.color % COLORS} {line.kind}"><title>{escape(line.name)}</title>{"".join(marks)}</g>'
