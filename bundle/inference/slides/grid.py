"""Cutting a slide into regions that are predicted one by one, with the result of one sliding window over the whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from bundle.inference.slides.tissue import Tissue


class Box(NamedTuple):
    """A rectangle in working px; ``x1`` and ``y1`` are the first pixels that are no longer in it."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def width(self) -> int:
        """Px along x."""
        return self.x1 - self.x0

    @property
    def height(self) -> int:
        """Px along y."""
        return self.y1 - self.y0


@dataclass(frozen=True)
class Region:
    """A part of a slide that is predicted at once.

    Attributes:
        core: where the prediction of the region is that of the whole slide.
        padded: what must be predicted for that; holds the core.
    """

    core: Box
    padded: Box

    @property
    def inner(self) -> Box:
        """The core in pixels of the padded rectangle."""
        x, y = self.padded.x0, self.padded.y0
        return Box(self.core.x0 - x, self.core.y0 - y, self.core.x1 - x, self.core.y1 - y)


def stride_of(window: int, overlap: float) -> int:
    """Step from window to window, px, as MONAI's sliding window takes it.

    Raises:
        ValueError: for a window below 1 px, or an overlap outside [0, 1).
    """
    if window < 1 or not 0 <= overlap < 1:
        raise ValueError(f"window is {window} px and overlap {overlap}; write 1 px or more, and 0 to below 1")
    return max(int(window * (1 - overlap)), 1)


def regions(
    working_size: tuple[int, int],
    window: int | Sequence[int],
    overlap: float,
    block: int,
    tissue: Tissue | None = None,
    needs_beyond: bool = False,
    within: Box | None = None,
) -> list[Region]:
    """Cut a slide, or a box of it, into regions.

    A sliding window (``SlidingWindowInferer(roi_size=window, overlap=overlap)``) over the padded rectangle of a region
    gives in the core what it gives over the whole slide: it lays the same windows there. So padded rectangles begin at
    multiples of the stride, all windows that touch a core lie in the padded rectangle, and where the last window of the
    slide, which is moved back to end with it, touches a core, the rectangle reaches to the end of the slide.

    Args:
        working_size: (width, height) of the slide, working px.
        window: side of the window, or (width, height), working px.
        overlap: share of a window that the next covers too, in [0, 1).
        block: side of a core, working px; rounded down to whole strides, one at least. The last of a row or column may
            be longer by less than a window.
        tissue: where blocks are wanted; the others are left out, and a core shrinks to the strides with tissue.
            ``None`` wants all.
        needs_beyond: whether the prediction must be right in the column and the row just behind the core too, to
            interpolate up to there.
        within: what is wanted of the slide, working px; ``None`` wants all of it.

    Returns:
        Regions row by row. Without ``tissue`` the cores cover once what is wanted.

    Raises:
        ValueError: for a window, overlap or block out of range.
    """
    windows = (window, window) if isinstance(window, int) else tuple(window)
    strides = [stride_of(one, overlap) for one in windows]
    if block < 1 or min(working_size) < 1 or len(windows) != 2:
        raise ValueError(f"block is {block} px, the slide {working_size}, the window {windows}; write 1 px or more")
    x0, y0, x1, y1 = within or Box(0, 0, *working_size)
    across, down = (
        _cores(low, high, side, stride, block)
        for low, high, side, stride in zip((x0, y0), (x1, y1), windows, strides, strict=True)
    )
    found = []
    for top, bottom in down:
        for left, right in across:
            core = _shrunk(Box(left, top, right, bottom), tissue, strides)
            if core is None:
                continue
            start, end = _padded(core.x0, core.x1, working_size[0], windows[0], strides[0], needs_beyond)
            upper, lower = _padded(core.y0, core.y1, working_size[1], windows[1], strides[1], needs_beyond)
            found.append(Region(core, Box(start, upper, end, lower)))
    return found


def _cores(low: int, high: int, window: int, stride: int, block: int) -> list[tuple[int, int]]:
    """Cores of one axis from ``low`` to ``high``, all but the first at multiples of the stride.

    A rest that is shorter than a window joins the core before it: its halo would cost more.
    """
    step = max(block // stride, 1) * stride
    starts = [low, *range(low // stride * stride + step, high, step)]
    while len(starts) > 1 and high - starts[-1] < window:
        starts.pop()
    return list(zip(starts, [*starts[1:], high], strict=True))


def _shrunk(core: Box, tissue: Tissue | None, strides: Sequence[int]) -> Box | None:
    """The strides of a core in which there is tissue, as one rectangle; ``None`` where there is none."""
    if tissue is None:
        return core
    found = tissue.box(*core)
    if found is None:
        return None
    x, y = strides
    return Box(
        max(found[0] // x * x, core.x0),
        max(found[1] // y * y, core.y0),
        min(-(-found[2] // x) * x, core.x1),
        min(-(-found[3] // y) * y, core.y1),
    )


def _padded(start: int, end: int, size: int, window: int, stride: int, needs_beyond: bool) -> tuple[int, int]:
    """The part of one axis that holds every window of the slide that touches a core.

    Args:
        start: of the core.
        end: of the core.
        size: of the slide.
        window: its length.
        stride: from window to window.
        needs_beyond: whether the pixel at ``end`` must be right too.
    """
    if size <= window:
        return 0, size  # one window, which MONAI pads as it pads the whole slide
    last = size - window
    final = min(end + needs_beyond, size) - 1
    after = size if last <= final else final // stride * stride + window
    before = max(start // stride * stride - (-(-window // stride) - 1) * stride, 0)
    return min(before, last // stride * stride), after
