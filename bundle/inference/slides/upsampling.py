"""From scores at the working resolution to classes on the slide's own pixels."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bundle.inference.slides.grid import Box, Region
from bundle.inference.slides.scale import Scale

STRIP = 1024
"""Native columns that are interpolated at once: what finer pixels cost in memory."""


def native_box(core: Box, scale: Scale, limits: Box | None = None) -> Box:
    """The native pixels of a core, px of level 0. Those of cores that cover a slide once do so too.

    Native pixel ``j`` lies at ``j / ratio`` between the working pixels, and belongs to the core in which that is.

    Args:
        core: in working px.
        scale: of the slide.
        limits: native px outside of which none belongs to any core.
    """
    working, native = scale.working_size, scale.size
    x0, x1 = (_native(edge, working[0], native[0], scale.ratio) for edge in (core.x0, core.x1))
    y0, y1 = (_native(edge, working[1], native[1], scale.ratio) for edge in (core.y0, core.y1))
    if limits is None:
        return Box(x0, y0, x1, y1)
    x0, y0 = max(x0, limits.x0), max(y0, limits.y0)
    return Box(x0, y0, max(min(x1, limits.x1), x0), max(min(y1, limits.y1), y0))


def native_classes(scores: Tensor, region: Region, scale: Scale, limits: Box | None = None) -> NDArray[np.uint8]:
    """The class of every native pixel of a region's core: the largest score there, as ``Invertd`` and argmax give it.

    Args:
        scores: (C, W, H), of the padded rectangle of the region; width first.
        region: where they are.
        scale: of the slide.
        limits: native px outside of which nothing is asked.

    Returns:
        (H, W), of ``native_box``, rows first.
    """
    inner = region.inner
    if scale.is_native:
        return _largest(scores[:, inner.x0 : inner.x1, inner.y0 : inner.y1])
    box = native_box(region.core, scale, limits)
    classes = np.empty((box.height, box.width), np.uint8)
    down = _places(box.y0, box.y1, region.padded.y0, scale.ratio, scores.shape[2], scores.device)
    for x0 in range(box.x0, box.x1, STRIP):
        x1 = min(x0 + STRIP, box.x1)
        across = _places(x0, x1, region.padded.x0, scale.ratio, scores.shape[1], scores.device)
        classes[:, x0 - box.x0 : x1 - box.x0] = _largest(_between(_between(scores, across, 1), down, 2))
    return classes


def _largest(scores: Tensor) -> NDArray[np.uint8]:
    """Class of the largest score, (H, W), of scores (C, W, H)."""
    return scores.argmax(dim=0).to(torch.uint8).T.cpu().numpy()


def _native(edge: int, working: int, native: int, ratio: float) -> int:
    """First native pixel from an edge between working pixels on."""
    return native if edge >= working else min(math.ceil(edge * ratio - 1e-9), native)


def _places(
    start: int, end: int, origin: int, ratio: float, length: int, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Working pixels below and above each native one of a stretch, and how far it lies towards the upper, in [0, 1]."""
    places = (torch.arange(start, end, dtype=torch.float64) / ratio - origin).clamp_(0, length - 1)
    below = places.floor().long()
    above = (below + 1).clamp_(max=length - 1)
    return below.to(device), above.to(device), (places - below).float().to(device)


def _between(scores: Tensor, places: tuple[Tensor, Tensor, Tensor], axis: int) -> Tensor:
    """Interpolate along one axis."""
    below, above, share = places
    lower = scores.index_select(axis, below)
    weights = share.view([-1 if place == axis else 1 for place in range(scores.ndim)])
    return lower.lerp(scores.index_select(axis, above), weights.expand_as(lower))
