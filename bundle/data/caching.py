"""Decoded tiles kept in memory: how many fit into what may be used, and a cache that takes no more than it holds."""

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

from bundle.data.decoding import FORMATS
from bundle.data.lists import MPP, Entry
from bundle.data.pictures import picture_size
from bundle.data.sentences import counted
from bundle.types import IMAGE, LABEL

logger = logging.getLogger(__name__)

GIB = 2**30
ENTRY_BYTES = 16 * 1024
"""What MONAI keeps with each tile: names, affines, what was done to it."""
COLORS = 3
FLOAT_BYTES = 4
"""Validation tiles are cached as they go to the network; training tiles in 8 bits a color."""
BYTE_MODES = ("1", "L", "P")
"""Pillow's names of label files whose numbers fit into one byte."""
TRIM_EVERY = 32
"""After how many tiles free memory goes back to the system."""


class TileCache(CacheDataset):
    """MONAI's ``CacheDataset`` that gives back what decoding took.

    Decoding leaves holes between the tiles that stay. The allocator of Linux (glibc) keeps such memory, a third of the
    cache at the size of GlaS; asked, it gives it back. Other systems have no such call and need none.

    Args, errors: as for ``CacheDataset``. What happens while a tile is decoded keeps its cause.
    """

    def _load_cache_item(self, idx: int) -> Any:
        item = super()._load_cache_item(idx)
        if idx % TRIM_EVERY == 0:
            _give_back_memory()
        return item

    def _fill_cache(self, indices: Sequence[int] | None = None) -> list[Any]:
        items = super()._fill_cache(indices)
        _give_back_memory()
        return items


class TileLoader(DataLoader):
    """MONAI's ``DataLoader`` that forks its workers on Linux and pins memory for CUDA.

    Args, errors: as for ``DataLoader``.
    """

    def __init__(self, dataset: Any, num_workers: int = 0, **settings: Any) -> None:
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
    """Share of each part that is cached, the ``cache_rate`` of all three, so that together they fit into memory.

    Estimated from the headers of the pictures, at the resolution at which they are kept: training tiles as
    ``EightBitd`` and ``SmallestIntegerd`` leave them (3 bytes a pixel, and 1 for the label, or 2 where its file has
    more than 8 bits), padded to a crop; validation images as float32, their labels as they are. A tile whose size
    cannot be read counts as the mean of the others; reading it will say what is wrong. One line in the log, of rank 0,
    says what is cached, the memory that it takes, and how many tiles are decoded each time that they are wanted.

    The memory is that of one process: with several ranks each caches all of its own. Loader workers share it. While
    tiles are decoded, a few in full size come on top.

    Args:
        labeled: entries with ``image``, ``label`` and perhaps ``mpp`` (um/px).
        unlabeled: entries without label; empty where nothing wants them.
        validation: entries that are judged.
        memory_gib: what all cached tiles of this process may take (GiB); 0 caches nothing.
        pixel_size: working resolution (um/px).
        crop_size: (px, px), the least size of a training tile.

    Returns:
        In [0, 1].

    Raises:
        ValueError: where ``memory_gib`` is no number from 0 on.
    """
    memory = _bytes_of(memory_gib)
    parts = {"labeled": labeled, "unlabeled": unlabeled, "validation": validation}
    least = ensure_tuple_rep(crop_size, 2)
    costs = [
        *(_costs(part, lambda entry: _training_bytes(entry, pixel_size, least)) for part in (labeled, unlabeled)),
        _costs(validation, lambda entry: _validation_bytes(entry, pixel_size)),
    ]
    sums = [[0.0, *accumulate(cost)] for cost in costs]

    def together(share: float) -> float:
        return sum(total[int((len(total) - 1) * share)] for total in sums)

    shares = sorted({1.0, *(k / len(cost) for cost in costs for k in range(len(cost)))})
    share = shares[max(bisect_right(shares, memory, key=together) - 1, 0)]
    if idist.get_rank() == 0:
        _tell({name: len(part) for name, part in parts.items()}, share, together, memory)
    return share


def _bytes_of(memory_gib: float) -> float:
    try:
        value = float(memory_gib)
    except (TypeError, ValueError):
        value = math.nan
    if not value >= 0.0:
        raise ValueError(f"cache_gib is {memory_gib!r}; give GiB of memory for cached tiles, 0 caches none")
    return value * GIB


def _costs(entries: Sequence[Entry], measure: Callable[[Entry], float]) -> list[float]:
    """Bytes of each entry; one that cannot be measured counts as the mean of the others."""
    found = [_measured(entry, measure) for entry in entries]
    known = [cost for cost in found if cost is not None]
    mean = sum(known) / len(known) if known else 0.0
    return [mean if cost is None else cost for cost in found]


def _measured(entry: Entry, measure: Callable[[Entry], float]) -> float | None:
    try:
        return measure(entry)
    except (OSError, ValueError, TypeError, KeyError):  # whoever reads the tile says what is wrong with it
        return None


def _training_bytes(entry: Entry, pixel_size: float, least: Sequence[int]) -> float:
    height, width = _working_size(entry, pixel_size)
    # The first axis of MONAI's arrays is the width.
    return max(width, least[0]) * max(height, least[1]) * (COLORS + _label_bytes(entry)) + ENTRY_BYTES


def _validation_bytes(entry: Entry, pixel_size: float) -> float:
    label = math.prod(picture_size(entry[IMAGE])) if LABEL in entry else 0
    return math.prod(_working_size(entry, pixel_size)) * COLORS * FLOAT_BYTES + label + ENTRY_BYTES


def _working_size(entry: Entry, pixel_size: float) -> tuple[int, int]:
    """(H, W) in px of ``pixel_size``."""
    scale = float(entry.get(MPP) or pixel_size) / pixel_size
    height, width = picture_size(entry[IMAGE])
    return math.ceil(height * scale), math.ceil(width * scale)


def _label_bytes(entry: Entry) -> int:
    """Bytes a pixel of the label: numbers above 255 need two, and a file of 8 bits has none."""
    if LABEL not in entry:
        return 0
    with open(entry[LABEL], "rb") as file:
        try:
            return 1 if Image.open(file, formats=FORMATS).mode in BYTE_MODES else 2
        except (UnidentifiedImageError, Image.DecompressionBombError):  # NIfTI, TIFFs that Pillow does not know
            return 2


def _tell(counts: dict[str, int], share: float, together: Callable[[float], float], memory: float) -> None:
    total = sum(counts.values())
    cached = sum(int(count * share) for count in counts.values())
    named = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    taken = f"in about {together(share) / GIB:.2g} GiB of at most {memory / GIB:g} (--cache_gib)"
    ranks = f" in each of {idist.get_world_size()} processes" if idist.get_world_size() > 1 else ""
    if cached == total:
        logger.info("Cached: all %s (%s) %s%s.", counted(total, "tile"), named, taken, ranks)
        return
    logger.info(
        "Cached: %d of %s (%s) %s%s; the other %d are decoded each time. All would take %.2g GiB.",
        *(cached, counted(total, "tile"), named, taken, ranks, total - cached, together(1.0) / GIB),
    )


def _give_back_memory() -> None:
    """Ask glibc for the free pages that it holds; a quiet no-op where the C library has no such call."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
