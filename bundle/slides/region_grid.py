"""Division of a slide into regions whose separate predictions equal those of one sliding window over the slide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from bundle.slides.tissue import Tissue


class Box(NamedTuple):
    """Rectangle in working px; ``x1`` and ``y1`` are exclusive."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def width(self) -> int:
        """Width, px."""
        return self.x1 - self.x0

    @property
    def height(self) -> int:
        """Height, px."""
        return self.y1 - self.y0


@dataclass(frozen=True)
class Region:
    """Part of a slide that is predicted at once.

    Attributes:
        core: rectangle for which the prediction is used.
        padded: rectangle that is predicted; contains the core.
    """

    core: Box
    padded: Box

    @property
    def inner(self) -> Box:
        """Core in pixels of the padded rectangle."""
        x, y = self.padded.x0, self.padded.y0
        return Box(self.core.x0 - x, self.core.y0 - y, self.core.x1 - x, self.core.y1 - y)


def stride_of(window: int, overlap: float) -> int:
    """Return the step between windows in px, computed as in MONAI's sliding window.

    Raises:
        ValueError: if the window is below 1 px, or the overlap outside [0, 1).
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
    """Divide a slide, or a box of it, into regions.

    A sliding window (``SlidingWindowInferer(roi_size=window, overlap=overlap)``) over the padded rectangle of a region
    gives the same result in the core as over the whole slide, because it uses the same windows there: padded rectangles
    start at multiples of the stride and contain all windows that touch the core. MONAI shifts the last window of the
    slide back to end at its border; if it touches a core, the padded rectangle extends to the border of the slide.

    Args:
        working_size: (width, height) of the slide, working px.
        window: side of the window, or (width, height), working px.
        overlap: overlap of neighboring windows, as a share of the window, in [0, 1).
        block: side of a core, working px; rounded down to a multiple of the stride, at least one stride. The last core
            of a row or column may be longer by less than a window.
        tissue: tissue map; blocks without tissue are left out, and cores are cropped to the strides with tissue.
            ``None`` uses all blocks.
        needs_beyond: whether the prediction must also be valid in one column and row beyond the core, for
            interpolation.
        within: rectangle to predict, working px; ``None`` predicts the whole slide.

    Returns:
        Regions in raster order. Without ``tissue``, the cores tile ``within``.

    Raises:
        ValueError: if the window, overlap or block is out of range.
    """
    windows = (window, window) if isinstance(window, int) else tuple(window)
    strides = [stride_of(side, overlap) for side in windows]
    if block < 1 or min(working_size) < 1 or len(windows) != 2:
        raise ValueError(f"block is {block} px, the slide {working_size}, the window {windows}; write 1 px or more")
    # Cores tile the box; the padded rectangle of each contains all windows that touch it.
    x0, y0, x1, y1 = within or Box(0, 0, *working_size)
    across, down = (
        _cores(low, high, side, stride, block)
        for low, high, side, stride in zip((x0, y0), (x1, y1), windows, strides, strict=True)
    )
    slide_regions = []
    for top, bottom in down:
        for left, right in across:
            core = _crop_to_tissue(Box(left, top, right, bottom), tissue, strides)
            if core is None:
                continue
            padded_left, padded_right = _pad(core.x0, core.x1, working_size[0], windows[0], strides[0], needs_beyond)
            padded_top, padded_bottom = _pad(core.y0, core.y1, working_size[1], windows[1], strides[1], needs_beyond)
            slide_regions.append(Region(core, Box(padded_left, padded_top, padded_right, padded_bottom)))
    return slide_regions


def _cores(low: int, high: int, window: int, stride: int, block: int) -> list[tuple[int, int]]:
    """Return the cores along one axis from ``low`` to ``high``, all but the first at multiples of the stride.

    A remainder shorter than a window is merged into the last core, because its padding would cost more.
    """
    step = max(block // stride, 1) * stride
    starts = [low, *range(low // stride * stride + step, high, step)]
    while len(starts) > 1 and high - starts[-1] < window:
        starts.pop()
    return list(zip(starts, [*starts[1:], high], strict=True))


def _crop_to_tissue(core: Box, tissue: Tissue | None, strides: Sequence[int]) -> Box | None:
    """Crop a core to the strides that contain tissue; return ``None`` if there is no tissue."""
    if tissue is None:
        return core
    tissue_box = tissue.box(*core)
    if tissue_box is None:
        return None
    x, y = strides
    return Box(
        max(tissue_box[0] // x * x, core.x0),
        max(tissue_box[1] // y * y, core.y0),
        min(-(-tissue_box[2] // x) * x, core.x1),
        min(-(-tissue_box[3] // y) * y, core.y1),
    )


def _pad(start: int, end: int, size: int, window: int, stride: int, needs_beyond: bool) -> tuple[int, int]:
    """Return the range of one axis that contains every window of the slide that touches a core.

    Args:
        start: start of the core.
        end: end of the core.
        size: size of the slide.
        window: size of the window.
        stride: step between windows.
        needs_beyond: whether the pixel at ``end`` must be valid too.
    """
    if size <= window:
        return 0, size  # one window, which MONAI pads in the same way as for the whole slide
    last_window = size - window
    last_pixel = min(end + needs_beyond, size) - 1
    padded_end = size if last_window <= last_pixel else last_pixel // stride * stride + window
    padded_start = max(start // stride * stride - (-(-window // stride) - 1) * stride, 0)
    return min(padded_start, last_window // stride * stride), padded_end
