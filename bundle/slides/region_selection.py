"""Selection of the part of a slide to predict: the tissue of the slide, or of a box, divided into regions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from bundle.slides.region_grid import Box, Region, regions
from bundle.slides.resampling import Scale
from bundle.slides.slide import Slide
from bundle.slides.slide_crop import SlideView, expand_box
from bundle.slides.tissue import Tissue
from bundle.slides.upsampling import native_box

MARGIN = 1000.0
"""Margin around a box within which tissue is detected, um, so that the glass color is known and small objects and
holes are not cut at the border of the box."""

FindTissue = Callable[[Slide, Scale], Tissue]


@dataclass(frozen=True)
class Plan:
    """Part of a slide that is predicted.

    Attributes:
        limits: box, px of level 0; ``None`` for the whole slide.
        tissue: tissue map; the rest is background. ``None`` treats all as tissue.
        regions: regions in working px of the slide.
        cores: core of each region in native px, within the limits.
        area: area of the slide or the box, working px.
    """

    limits: Box | None
    tissue: Tissue | None
    regions: list[Region]
    cores: list[Box]
    area: int

    @property
    def predicted(self) -> int:
        """Area of all cores, working px."""
        return sum(region.core.width * region.core.height for region in self.regions)


def make_plan(
    scale: Scale,
    window: int | Sequence[int],
    overlap: float,
    block: int,
    tissue: Tissue | None,
    limits: Box | None = None,
) -> Plan:
    """Divide the part of a slide to predict into regions.

    The regions of a box lie on the window grid of the whole slide and contain all windows that touch them, so the
    prediction inside of a box equals that of the whole slide.

    Args:
        scale: scale of the slide.
        window: side of the sliding window, working px, or (width, height).
        overlap: overlap of the windows, in [0, 1).
        block: side of a core, working px.
        tissue: tissue map, see :func:`tissue_near`.
        limits: box, px of level 0, inside of the slide; ``None`` takes the whole slide.

    Raises:
        ValueError: if the window, overlap or block is out of range.
    """
    within = Box(0, 0, *scale.working_size) if limits is None else working_box(limits, scale)
    needs_beyond = not scale.is_native
    slide_regions = regions(
        scale.working_size, window, overlap, block, tissue, needs_beyond=needs_beyond, within=within
    )
    cores = [native_box(region.core, scale, limits) for region in slide_regions]
    return Plan(limits, tissue, slide_regions, cores, within.width * within.height)


def tissue_near(find_tissue: FindTissue, slide: Slide, scale: Scale, limits: Box | None) -> Tissue:
    """Detect the tissue of a slide, or of a box with a margin of ``MARGIN``; only this part is read.

    Args:
        find_tissue: function that returns the tissue map of an open slide and its scale.
        slide: open slide.
        scale: scale of the slide.
        limits: box, px of level 0; ``None`` for the whole slide.

    Returns:
        Tissue map in coordinates of the whole slide.
    """
    if limits is None:
        return find_tissue(slide, scale)
    surrounding = expand_box(slide, limits, MARGIN / scale.mpp)
    view = SlideView(slide, (surrounding.x0, surrounding.y0, surrounding.width, surrounding.height))
    return replace(
        find_tissue(view, replace(scale, size=view.size)), scale=scale, corner=(surrounding.x0, surrounding.y0)
    )


def working_box(box: Box, scale: Scale) -> Box:
    """Return the working px from which the px of level 0 in a box are interpolated."""
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
