"""Dataset of the regions of a slide; worker processes read and resample them while the network runs."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from bundle.slides.reader import open_slide
from bundle.slides.region_grid import Region
from bundle.slides.resampling import Scale, read_working, scale_of
from bundle.slides.slide import Slide, SlideError
from bundle.types import IMAGE

REGION = "region"
"""Key of the region's number in an item."""
SECONDS = "seconds"
"""Key of the reading time of an item, s."""


class BlockDataset(Dataset):
    """Dataset of the padded rectangles of regions of one slide. Each process opens the slide at its first read.

    Args:
        path: path of the slide.
        mpp: um/px of level 0, in place of that of the file; ``None`` uses that of the file.
        pixel_size: um/px of the working resolution.
        regions: regions of the slide at the working resolution.
        backend: reader of the slide, one of ``BACKENDS``.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        mpp: float | None,
        pixel_size: float,
        regions: Sequence[Region],
        backend: str = "auto",
    ) -> None:
        self.path = Path(path)
        self.regions = list(regions)
        self.pixel_size = pixel_size
        self.mpp = mpp
        self.backend = backend
        # process id that opened the slide, slide, scale
        self._opened: tuple[int, Slide, Scale] | None = None

    def __len__(self) -> int:
        return len(self.regions)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Read one region.

        Returns:
            ``image``, uint8 (3, W, H) RGB in [0, 255], a transposed view of an array (H, W, 3); ``region``, its number;
            ``seconds``, the reading time.

        Raises:
            SlideError: if the slide is damaged in this region; with file and position.
        """
        started = time.perf_counter()
        box = self.regions[index].padded
        slide, scale = self._open()
        try:
            pixels = read_working(slide, scale, *box)
        except SlideError as error:
            raise SlideError(f"{error}; working pixels x {box.x0} to {box.x1}, y {box.y0} to {box.y1}") from error
        image = torch.from_numpy(pixels).permute(2, 1, 0)
        return {IMAGE: image, REGION: index, SECONDS: time.perf_counter() - started}

    def close(self) -> None:
        """Close the slide; it is opened again for the next item."""
        if self._opened is not None and self._opened[0] == os.getpid():
            self._opened[1].close()
        self._opened = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": None}

    def _open(self) -> tuple[Slide, Scale]:
        """Return the slide opened by this process, because a forked handle shares its file position with the parent."""
        if self._opened is None or self._opened[0] != os.getpid():
            slide = open_slide(self.path, self.backend)
            self._opened = (os.getpid(), slide, scale_of(slide, self.pixel_size, self.mpp, quiet=True))
        return self._opened[1:]


def block_loader(dataset: BlockDataset, num_workers: int = 0, pin: bool = False) -> DataLoader:
    """Return a loader that yields single items in the order of the regions, without a batch axis.

    Args:
        dataset: dataset of the blocks.
        num_workers: number of worker processes; 0 reads in the main process.
        pin: whether to copy images to pinned memory, for faster transfer to a CUDA device.
    """
    return DataLoader(dataset, batch_size=None, num_workers=num_workers, pin_memory=pin)
