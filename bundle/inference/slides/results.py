"""What is written of a slide: its mask and its polygons, put together block by block."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.inference.geojson import GeoJSONWriter
from bundle.inference.polygons import Outline, outlines
from bundle.inference.slides.grid import Box
from bundle.inference.slides.pyramid import LAYOUTS, MaskPyramid
from bundle.inference.slides.scale import Scale
from bundle.inference.slides.stitching import OutlineJoiner

FOREGROUND = 255
"""What gland is in a mask of two classes; of more, a mask holds class indices."""
NO_MASK = "none"
"""The layout of a mask that is not written."""
MASKS = (*LAYOUTS, NO_MASK)
"""What a mask may be."""


def places(folder: Path, name: str, layout: str, limits: Box | None = None) -> tuple[Path | None, Path]:
    """Where the mask, if there is one, and the polygons of a slide go.

    Args:
        folder: for all files.
        name: of the slide, without its ending.
        layout: of the mask, one of ``MASKS``.
        limits: the part of the slide that is predicted, px; its files stand beside those of the whole slide.
    """
    if limits is not None:
        name = f"{name}_x{limits.x0}_y{limits.y0}_w{limits.width}_h{limits.height}"
    ending = "ome.tif" if layout == "ome" else "tif"
    return None if layout == NO_MASK else folder / f"{name}_mask.{ending}", folder / f"{name}.geojson"


class SlideResults:
    """Mask and polygons of a slide, for ``with``: the files stand there when all blocks came, or not at all.

    Args:
        mask: the file of the mask; ``None`` writes none.
        polygons: the GeoJSON file.
        layout: of the mask.
        scale: of the slide.
        classes: number of classes, background counted.
        cores: of all blocks that will come, native px.
        feature: makes a GeoJSON feature of an outline.
        min_area: polygons of fewer native px are left out.
        simplify: how far a polygon may leave the pixels' sides, native px.

    Attributes:
        glands: how many polygons were written.

    Raises:
        OSError: where a file cannot be written; names it.
    """

    def __init__(
        self,
        mask: Path | None,
        polygons: Path,
        layout: str,
        scale: Scale,
        classes: int,
        cores: Sequence[Box],
        feature: Callable[[Outline], dict[str, Any]],
        min_area: float,
        simplify: float,
    ) -> None:
        self.glands = 0
        self.files = [str(path) for path in (mask, polygons) if path is not None]
        self._mask, self._layout, self._classes, self._cores = mask, layout, classes, cores
        self._pyramid = None if mask is None else MaskPyramid(scale.size, scale.mpp, classes)
        self._joiner = OutlineJoiner(cores, self._emit, min_area, simplify)
        self._writer = GeoJSONWriter(polygons)
        self._feature = feature

    def __enter__(self) -> SlideResults:
        self._writer.__enter__()
        return self

    def __exit__(self, *raised: Any) -> None:
        self._writer.__exit__(*raised)

    def put(self, number: int, classes: NDArray[np.uint8]) -> None:
        """Take the classes of a block, (H, W) of its core."""
        box = self._cores[number]
        if self._pyramid is not None:
            self._pyramid.put(box.x0, box.y0, classes * FOREGROUND if self._classes == 2 else classes)
        self._joiner.put(number, outlines(classes, (box.x0, box.y0)))

    def finish(self) -> None:
        """Hand on the glands that still waited, and write the mask."""
        self._joiner.close()
        if self._pyramid is not None and self._mask is not None:
            self._pyramid.write(self._mask, self._layout)

    def _emit(self, outline: Outline) -> None:
        self.glands += 1
        self._writer.write(self._feature(outline))
