"""Charts of a report as inline SVG: they need no library, scale with the page and take their colors from its style."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Literal

COLORS = 8
"""How many colors ``page.css`` has; they are Okabe and Ito's, told apart by color-blind readers."""
WIDE = 380
"""Width of a chart in its own units; near its width on a phone, so that its text stays legible there."""
SMALL = (240, 166)
"""Width and height of a chart that stands among many."""
LETTER = 6.6
"""Width of a letter, at most about, in the widest of the usual fonts."""

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Line:
    """A named line of points (x, y).

    Attributes:
        name: shown when pointed at.
        points: points that are no numbers break the line.
        color: number of the color, 0 the first.
        kind: ``line``; ``reference``, dashed, to compare with; or ``pale``, behind the others.
        dots: whether its points are marked.
    """

    name: str
    points: Points
    color: int = 0
    kind: Literal["line", "reference", "pale"] = "line"
    dots: bool = False


@dataclass
class Frame:
    """Axes of a chart: ranges, and where they lie."""

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
        """Place of an x."""
        low, high = self.x
        return self.left + (self.width - self.left - self.right) * (value - low) / ((high - low) or 1.0)

    def down(self, value: float) -> float:
        """Place of a y."""
        low, high = self.y
        return (
            self.height - self.bottom - (self.height - self.top - self.bottom) * (value - low) / ((high - low) or 1.0)
        )

    def rule(self, kind: str, ends: tuple[float, float, float, float]) -> None:
        """Draw a straight line of a kind that the style knows; ``ends`` are x, y, x, y."""
        x1, y1, x2, y2 = ends
        self.parts.append(f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>')

    def axis_below(self, title: str, names: Mapping[float, str], grid: bool = False) -> None:
        """Draw the ticks of x by place, and the title below."""
        foot = self.height - self.bottom
        for value, name in names.items():
            place = self.across(value)
            if grid:
                self.rule("grid", (place, self.top, place, foot))
            self.parts.append(text(self._inside(place, name), foot + 15, name, "middle"))
        middle = (self.left + self.width - self.right) / 2
        self.parts.append(text(self._inside(middle, title), self.height - 6, title, "middle", "title"))

    def _inside(self, place: float, words: str) -> float:
        """Middle of some words near a place, such that neither end is cut off."""
        half = min(LETTER * len(words), self.width) / 2
        return min(max(place, half), self.width - half)

    def axis_beside(self, count: int = 5, title: str = "") -> None:
        """Draw grid and ticks of y, and the title above them."""
        if title:
            self.parts.append(text(0, 11, title, "start", "title"))
        for value in ticks(*self.y, count=count):
            place = self.down(value)
            self.rule("grid", (self.left, place, self.width - self.right, place))
            self.parts.append(text(self.left - 6, place + 4, number(value), "end"))

    def picture(self, label: str) -> str:
        """The finished SVG; ``label`` says in words what it shows."""
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
    """Lines over a common axis, small; empty where no line has a point.

    Args:
        lines: those that are no plain lines are drawn behind the others.
        x_title: of the axis below, with its unit.
        y_title: of the axis beside, with its unit; it stands above that axis.
        label: what the chart shows, in words.
        y: range of y; that of the points where not given. What lies outside is drawn at the edge.
        x: range of x; likewise.
        diagonal: whether to draw the line x = y.
    """
    shown = [point for line in lines for point in line.points if all(map(math.isfinite, point))]
    if not shown:
        return ""
    across = x or (min(point[0] for point in shown), max(point[0] for point in shown))
    frame = Frame(across, y or widened([point[1] for point in shown]), *SMALL, left=48, top=28)
    frame.axis_beside(4, y_title)
    frame.axis_below(x_title, {value: number(value) for value in ticks(*across, count=3)})
    if diagonal:
        frame.rule("rule", (frame.across(0), frame.down(0), frame.across(1), frame.down(1)))
    frame.parts += [_path(frame, line) for line in sorted(lines, key=lambda line: line.kind == "line")]
    return frame.picture(label)


def legend(names: Sequence[str], marks: Sequence[tuple[str, str]] = ()) -> str:
    """Key to the colors, in their order, and to ``marks``: (class of the style, words)."""
    items = [f'<li><i class="c{place % COLORS}"></i>{escape(name)}</li>' for place, name in enumerate(names)]
    items += [f'<li><i class="{kind}"></i>{escape(words)}</li>' for kind, words in marks]
    return f'<ul class="legend">{"".join(items)}</ul>' if items else ""


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
    if abs(value) >= 10000 and value == int(value):
        return f"{int(value):,}"
    return f"{value:.4g}"


def signed(value: float) -> str:
    """A number with its sign."""
    return f"{value:+.3g}" if value else "0"


def _path(frame: Frame, line: Line) -> str:
    low, high = frame.y
    runs: list[list[str]] = [[]]
    for x, y in line.points:
        if math.isfinite(x) and math.isfinite(y):
            runs[-1].append(f"{frame.across(x):.1f},{frame.down(min(max(y, low), high)):.1f}")
        elif runs[-1]:
            runs.append([])
    kept = [run for run in runs if run]
    drawn = [f'<polyline points="{" ".join(run)}"/>' for run in kept]
    if line.dots:
        drawn += [
            f'<circle cx="{place.split(",")[0]}" cy="{place.split(",")[1]}" r="2"/>' for run in kept for place in run
        ]
    return f'<g class="c{line.color % COLORS} {line.kind}"><title>{escape(line.name)}</title>{"".join(drawn)}</g>'
