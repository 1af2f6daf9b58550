"""The regions of a slide as a data set: worker processes read and resample them while the network works."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from bundle.inference.slides.grid import Region
from bundle.inference.slides.reader import open_slide
from bundle.inference.slides.scale import Scale, read_working, scale_of
from bundle.inference.slides.slide import Slide, SlideError
from bundle.types import IMAGE

REGION = "region"
"""In an item, the number of its region."""
SECONDS = "seconds"
"""In an item, how long its reading took."""


class BlockDataset(Dataset):
    """The padded rectangles of regions, read from one slide. Each process opens the slide once, when it first reads.

    Args:
        path: the slide.
        mpp: microns per pixel of level 0, whatever the file tells; ``None`` believes the file.
        pixel_size: microns per working pixel.
        regions: of the slide at the working resolution.
        backend: what reads the slide, one of ``BACKENDS``.
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
        self._opened: tuple[int, Slide, Scale] | None = None
        # Process that opened the slide, the slide, its scale.

    def __len__(self) -> int:
        return len(self.regions)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Read one region.

        Returns:
            ``image``, uint8 (3, W, H) RGB in [0, 255], a view whose colors lie together in memory; ``region``, its
            number; ``seconds``, how long reading took.

        Raises:
            SlideError: where the slide is damaged in this region; names file and place.
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
        """Close the slide; the next item opens it again."""
        if self._opened is not None and self._opened[0] == os.getpid():
            self._opened[1].close()
        self._opened = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": None}

    def _open(self) -> tuple[Slide, Scale]:
        """The slide, opened by this process: a forked one would share its place in the file with its parent."""
        if self._opened is None or self._opened[0] != os.getpid():
            slide = open_slide(self.path, self.backend)
            self._opened = (os.getpid(), slide, scale_of(slide, self.pixel_size, self.mpp, quiet=True))
        return self._opened[1:]


def block_loader(dataset: BlockDataset, num_workers: int = 0, pin: bool = False) -> DataLoader:
    """A loader that gives item after item, in the order of the regions, without a batch axis.

    Args:
        dataset: the blocks.
        num_workers: processes that read; 0 reads in this one.
        pin: whether to copy images to memory from which a CUDA device takes them faster.
    """
    return DataLoader(dataset, batch_size=None, num_workers=num_workers, pin_memory=pin)
