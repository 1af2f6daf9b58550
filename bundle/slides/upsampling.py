"""Upsampling of scores from the working resolution to classes of the native pixels."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bundle.slides.region_grid import Box, Region
from bundle.slides.resampling import Scale

STRIP = 1024
"""Native columns that are interpolated at once, to bound the memory."""


def native_box(core: Box, scale: Scale, limits: Box | None = None) -> Box:
    """Return the native pixels of a core, px of level 0. If cores tile a slide, their native boxes do so too.

    Native pixel ``j`` lies at the working coordinate ``j / ratio`` and belongs to the core that contains it.

    Args:
        core: core in working px.
        scale: scale of the slide.
        limits: box to which the result is cropped, native px.
    """
    working, native = scale.working_size, scale.size
    x0, x1 = (_first_native(edge, working[0], native[0], scale.ratio) for edge in (core.x0, core.x1))
    y0, y1 = (_first_native(edge, working[1], native[1], scale.ratio) for edge in (core.y0, core.y1))
    if limits is None:
        return Box(x0, y0, x1, y1)
    x0, y0 = max(x0, limits.x0), max(y0, limits.y0)
    return Box(x0, y0, max(min(x1, limits.x1), x0), max(min(y1, limits.y1), y0))


def native_classes(scores: Tensor, region: Region, scale: Scale, limits: Box | None = None) -> NDArray[np.uint8]:
    """Return the class of each native pixel of a region's core: argmax after upsampling, as with ``Invertd``.

    Args:
        scores: (C, W, H), for the padded rectangle of the region; width first.
        region: region of the scores.
        scale: scale of the slide.
        limits: box to which the result is cropped, native px.

    Returns:
        (H, W), for ``native_box``, rows first.
    """
    inner = region.inner
    if scale.is_native:
        return _argmax(scores[:, inner.x0 : inner.x1, inner.y0 : inner.y1])
    box = native_box(region.core, scale, limits)
    classes = np.empty((box.height, box.width), np.uint8)
    down = _sampling(box.y0, box.y1, region.padded.y0, scale.ratio, scores.shape[2], scores.device)
    for x0 in range(box.x0, box.x1, STRIP):
        x1 = min(x0 + STRIP, box.x1)
        across = _sampling(x0, x1, region.padded.x0, scale.ratio, scores.shape[1], scores.device)
        classes[:, x0 - box.x0 : x1 - box.x0] = _argmax(_interpolate(_interpolate(scores, across, 1), down, 2))
    return classes


def _argmax(scores: Tensor) -> NDArray[np.uint8]:
    """Return the argmax (H, W) of scores (C, W, H)."""
    return scores.argmax(dim=0).to(torch.uint8).T.cpu().numpy()


def _first_native(edge: int, working: int, native: int, ratio: float) -> int:
    """Return the first native pixel from a working coordinate on."""
    return native if edge >= working else min(math.ceil(edge * ratio - 1e-9), native)


def _sampling(
    start: int, end: int, origin: int, ratio: float, length: int, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Return for native pixels the working pixels below and above, and the weight of the one above, in [0, 1]."""
    coordinates = (torch.arange(start, end, dtype=torch.float64) / ratio - origin).clamp_(0, length - 1)
    below = coordinates.floor().long()
    above = (below + 1).clamp_(max=length - 1)
    return below.to(device), above.to(device), (coordinates - below).float().to(device)


def _interpolate(scores: Tensor, sampling: tuple[Tensor, Tensor, Tensor], axis: int) -> Tensor:
    """Interpolate linearly along one axis."""
    below, above, share = sampling
    lower = scores.index_select(axis, below)
    weights = share.view([-1 if dim == axis else 1 for dim in range(scores.ndim)])
    return lower.lerp(scores.index_select(axis, above), weights.expand_as(lower))
