"""What of a slide is predicted: its tissue, or that of a box of it, cut into regions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from bundle.inference.slides.grid import Box, Region, regions
from bundle.inference.slides.scale import Scale
from bundle.inference.slides.slide import Slide
from bundle.inference.slides.tissue import Tissue
from bundle.inference.slides.upsampling import native_box
from bundle.inference.slides.view import SlideView, grown

SURROUNDINGS = 1000.0
"""How much of a slide around a box is looked at to tell its tissue, um: the color of the glass shows there, and no
speck or hole is cut to another size."""

FindTissue = Callable[[Slide, Scale], Tissue]


@dataclass(frozen=True)
class Plan:
    """What of a slide is predicted.

    Attributes:
        limits: the box, px of level 0; ``None`` for the whole slide.
        tissue: what is none is background; ``None`` takes all for tissue.
        regions: in working px of the slide.
        cores: of each region the native px that it decides, within the limits.
        area: working px of the slide, or of the box.
    """

    limits: Box | None
    tissue: Tissue | None
    regions: list[Region]
    cores: list[Box]
    area: int

    @property
    def predicted(self) -> int:
        """Working px that the regions decide."""
        return sum(region.core.width * region.core.height for region in self.regions)


def planned(
    scale: Scale,
    window: int | Sequence[int],
    overlap: float,
    block: int,
    tissue: Tissue | None,
    limits: Box | None = None,
) -> Plan:
    """Cut what is to be predicted into regions.

    The regions of a box lie on the grid of windows of the whole slide, and see all windows that touch them. So in a box
    a gland is what it is in the whole slide, up to the sides of the box.

    Args:
        scale: of the slide.
        window: side of the sliding window, working px, or (width, height).
        overlap: of the windows, in [0, 1).
        block: side of a core, working px.
        tissue: as :func:`tissue_near` finds it.
        limits: the box, px of level 0, inside of the slide; ``None`` takes the whole slide.

    Raises:
        ValueError: for a window, overlap or block out of range.
    """
    within = Box(0, 0, *scale.working_size) if limits is None else working_box(limits, scale)
    beyond = not scale.is_native
    found = regions(scale.working_size, window, overlap, block, tissue, needs_beyond=beyond, within=within)
    cores = [native_box(region.core, scale, limits) for region in found]
    return Plan(limits, tissue, found, cores, within.width * within.height)


def tissue_near(find_tissue: FindTissue, slide: Slide, scale: Scale, limits: Box | None) -> Tissue:
    """Find the tissue of a slide, or of a box and ``SURROUNDINGS`` of it, which costs no more than they do.

    Args:
        find_tissue: gives the tissue of an open slide and its scale.
        slide: an open slide.
        scale: its scale.
        limits: the box, px of level 0; ``None`` for all of the slide.

    Returns:
        The map, asked in px of the slide either way.
    """
    if limits is None:
        return find_tissue(slide, scale)
    around = grown(slide, limits, SURROUNDINGS / scale.mpp)
    view = SlideView(slide, (around.x0, around.y0, around.width, around.height))
    return replace(find_tissue(view, replace(scale, size=view.size)), scale=scale, corner=(around.x0, around.y0))


def working_box(box: Box, scale: Scale) -> Box:
    """The working px that decide the px of level 0 in a box."""
    low = [math.floor(edge / scale.ratio + 1e-9) for edge in (box.x0, box.y0)]
    high = [math.floor((edge - 1) / scale.ratio + 1e-9) + 1 for edge in (box.x1, box.y1)]
    x, y = (min(start, size - 1) for start, size in zip(low, scale.working_size, strict=True))
    right, bottom = (
        size if edge == native else min(max(end, start + 1), size)
        for end, start, size, edge, native in zip(
            high, (x, y), scale.working_size, (box.x1, box.y1), scale.size, strict=True
        )
    )
    return Box(x, y, right, bottom)
