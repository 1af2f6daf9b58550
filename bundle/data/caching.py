"""Cache of decoded tiles: how many fit into memory, and a dataset that releases unused memory."""

from __future__ import annotations

import ctypes
import logging
import math
import sys
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import torch
from ignite import distributed as idist
from monai.data import CacheDataset, DataLoader
from monai.utils import ensure_tuple_rep
from PIL import Image, UnidentifiedImageError
from torch.utils.data import RandomSampler

from bundle.data.image_io.decoding import FORMATS
from bundle.data.image_io.pictures import picture_size
from bundle.data.lists import MPP, Entry
from bundle.data.message_text import pluralize
from bundle.types import IMAGE, LABEL

logger = logging.getLogger(__name__)

GIB = 2**30
ENTRY_BYTES = 16 * 1024
"""Size of MONAI's metadata of each tile: names, affines, applied operations."""
COLORS = 3
FLOAT_BYTES = 4
"""Validation tiles are cached as float32, training tiles as uint8."""
BYTE_MODES = ("1", "L", "P")
"""Pillow modes of label files with one byte per pixel."""
TRIM_EVERY = 32
"""Number of tiles after which free memory is returned to the system."""


class TileCache(CacheDataset):
    """MONAI's ``CacheDataset``, with unused memory returned to the system.

    Decoding fragments the heap. The allocator of Linux (glibc) keeps the free memory, a third of the size of the cache
    for GlaS, until ``malloc_trim`` is called. Other systems have no such function and do not need it.

    Arguments and errors are those of ``CacheDataset``, by default without progress bar and without copies: transforms
    of this bundle do not change their input.
    """

    def __init__(self, data: Sequence[Any], transform: Any, **settings: Any) -> None:
        super().__init__(data, transform, **({"progress": False, "copy_cache": False} | settings))

    def _load_cache_item(self, idx: int) -> Any:
        item = super()._load_cache_item(idx)
        if idx % TRIM_EVERY == 0:
            _trim_memory()
        return item

    def _fill_cache(self, indices: Sequence[int] | None = None) -> list[Any]:
        items = super()._fill_cache(indices)
        _trim_memory()
        return items


class TileLoader(DataLoader):
    """MONAI's ``DataLoader`` that forks its workers on Linux and pins memory for CUDA.

    Args:
        dataset: as for ``DataLoader``.
        num_workers: as for ``DataLoader``.
        num_samples: images of an epoch, drawn at random, each once before any is repeated; not used if ``settings``
            has a sampler.
        **settings: as for ``DataLoader``.
    """

    def __init__(self, dataset: Any, num_workers: int = 0, num_samples: int | None = None, **settings: Any) -> None:
        if num_samples is not None and settings.get("sampler") is None:
            settings["sampler"] = RandomSampler(dataset, num_samples=num_samples)
        context = "fork" if num_workers > 0 and sys.platform == "linux" else None
        usual = {"multiprocessing_context": context, "pin_memory": torch.cuda.is_available()}
        super().__init__(dataset, num_workers=num_workers, **(usual | settings))


def cached_share(
    labeled: Sequence[Entry],
    unlabeled: Sequence[Entry],
    validation: Sequence[Entry],
    memory_gib: float,
    pixel_size: float,
    crop_size: Sequence[int],
) -> float:
    """Return the largest ``cache_rate`` of all three parts for which they fit into memory together.

    It is estimated from image headers, at the working resolution: training tiles as converted by ``ToUint8d`` and
    ``SmallestIntegerd`` (3 bytes a pixel, and 1 for the label, or 2 if its file has more than 8 bits), padded to the
    crop size; validation images as float32, their labels as stored. A tile whose size cannot be read counts as the mean
    of the others; it raises an error when it is loaded. Rank 0 logs what is cached, the memory that it takes, and how
    many tiles are decoded in each epoch.

    The memory is that of one process: each rank has its own cache, which its loader workers share. During decoding, a
    few tiles in full size are added.

    Args:
        labeled: entries with ``image``, ``label`` and optionally ``mpp`` (um/px).
        unlabeled: entries without label; empty if they are not used.
        validation: entries for validation.
        memory_gib: memory for all cached tiles of this process (GiB); 0 caches nothing.
        pixel_size: working resolution (um/px).
        crop_size: (px, px), the smallest size of a training tile.

    Returns:
        Share in [0, 1].

    Raises:
        ValueError: if ``memory_gib`` is not a number of 0 or more.
    """
    memory = _memory_bytes(memory_gib)
    parts = {"labeled": labeled, "unlabeled": unlabeled, "validation": validation}
    least_size = ensure_tuple_rep(crop_size, 2)
    costs = [
        *(_costs(part, lambda entry: _training_bytes(entry, pixel_size, least_size)) for part in (labeled, unlabeled)),
        _costs(validation, lambda entry: _validation_bytes(entry, pixel_size)),
    ]
    sums = [[0.0, *accumulate(cost)] for cost in costs]

    def cached_bytes(share: float) -> float:
        return sum(total[int((len(total) - 1) * share)] for total in sums)

    shares = sorted({1.0, *(k / len(cost) for cost in costs for k in range(len(cost)))})
    share = shares[max(bisect_right(shares, memory, key=cached_bytes) - 1, 0)]
    if idist.get_rank() == 0:
        _log_summary({name: len(part) for name, part in parts.items()}, share, cached_bytes, memory)
    return share


def _memory_bytes(memory_gib: float) -> float:
    try:
        value = float(memory_gib)
    except (TypeError, ValueError):
        value = math.nan
    if not value >= 0.0:
        raise ValueError(f"cache_gib is {memory_gib!r}; give the memory for cached tiles in GiB, or 0 for no cache")
    return value * GIB


def _costs(entries: Sequence[Entry], measure: Callable[[Entry], float]) -> list[float]:
    """Return the bytes of each entry; one that cannot be measured counts as the mean of the others."""
    measured = [_try_measure(entry, measure) for entry in entries]
    known = [cost for cost in measured if cost is not None]
    mean = sum(known) / len(known) if known else 0.0
    return [mean if cost is None else cost for cost in measured]


def _try_measure(entry: Entry, measure: Callable[[Entry], float]) -> float | None:
    try:
        return measure(entry)
    except (OSError, ValueError, TypeError, KeyError):  # loading the tile will raise the error
        return None


def _training_bytes(entry: Entry, pixel_size: float, least_size: Sequence[int]) -> float:
    height, width = _working_size(entry, pixel_size)
    # MONAI's arrays have the width first.
    return max(width, least_size[0]) * max(height, least_size[1]) * (COLORS + _label_bytes(entry)) + ENTRY_BYTES


def _validation_bytes(entry: Entry, pixel_size: float) -> float:
    label = math.prod(picture_size(entry[IMAGE])) if LABEL in entry else 0
    return math.prod(_working_size(entry, pixel_size)) * COLORS * FLOAT_BYTES + label + ENTRY_BYTES


def _working_size(entry: Entry, pixel_size: float) -> tuple[int, int]:
    """Return (H, W) in px of ``pixel_size``."""
    scale = float(entry.get(MPP) or pixel_size) / pixel_size
    height, width = picture_size(entry[IMAGE])
    return math.ceil(height * scale), math.ceil(width * scale)


def _label_bytes(entry: Entry) -> int:
    """Return the bytes per pixel of the label: 1 for files of 8 bits, else 2 for values above 255."""
    if LABEL not in entry:
        return 0
    with open(entry[LABEL], "rb") as file:
        try:
            return 1 if Image.open(file, formats=FORMATS).mode in BYTE_MODES else 2
        except (UnidentifiedImageError, Image.DecompressionBombError):  # NIfTI, and TIFFs that Pillow does not support
            return 2


def _log_summary(counts: dict[str, int], share: float, cached_bytes: Callable[[float], float], memory: float) -> None:
    total = sum(counts.values())
    cached = sum(int(count * share) for count in counts.values())
    part_counts = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    memory_used = f"in about {cached_bytes(share) / GIB:.2g} GiB of at most {memory / GIB:g} (--data#cache_gib)"
    ranks = f" in each of {idist.get_world_size()} processes" if idist.get_world_size() > 1 else ""
    if cached == total:
        logger.info("Cached: all %s (%s) %s%s.", pluralize(total, "tile"), part_counts, memory_used, ranks)
        return
    logger.info(
        "Cached: %d of %s (%s) %s%s; the other %d are decoded each time. All would take %.2g GiB.",
        *(cached, pluralize(total, "tile"), part_counts, memory_used, ranks, total - cached, cached_bytes(1.0) / GIB),
    )


def _trim_memory() -> None:
    """Return glibc's free memory to the system; does nothing if the C library has no ``malloc_trim``."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
