"""Output of a slide: mask and polygons, assembled block by block."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.inference.geojson import GeoJSONWriter
from bundle.inference.polygons import Outline, outlines
from bundle.slides.pyramid import LAYOUTS, MaskPyramid
from bundle.slides.region_grid import Box
from bundle.slides.resampling import Scale
from bundle.slides.stitching import OutlineJoiner

FOREGROUND = 255
"""Gland value in masks of two classes; masks of more classes hold class indices."""
NO_MASK = "none"
"""Layout that writes no mask."""
MASKS = (*LAYOUTS, NO_MASK)
"""Layouts of the mask."""


def output_paths(folder: Path, name: str, layout: str, limits: Box | None = None) -> tuple[Path | None, Path]:
    """Return the paths of the mask, if there is one, and of the polygons of a slide.

    Args:
        folder: folder of all files.
        name: name of the slide, without suffix.
        layout: layout of the mask, one of ``MASKS``.
        limits: predicted part of the slide, px; its position becomes part of the names.
    """
    if limits is not None:
        name = f"{name}_x{limits.x0}_y{limits.y0}_w{limits.width}_h{limits.height}"
    polygons, *masks = (folder / (name + ending) for ending in output_endings(layout))
    return masks[0] if masks else None, polygons


def output_endings(layout: str) -> list[str]:
    """Return what the names of the files of a slide have after that of the slide: polygons, and the mask if any."""
    return [".geojson", *([] if layout == NO_MASK else ["_mask.ome.tif" if layout == "ome" else "_mask.tif"])]


class SlideResults:
    """Context manager that writes mask and polygons of a slide atomically, once all blocks are added.

    Args:
        mask: path of the mask; ``None`` writes none.
        polygons: path of the GeoJSON file.
        layout: layout of the mask.
        scale: scale of the slide.
        classes: number of classes, with background.
        cores: cores of all blocks, native px.
        feature: function that converts an outline to a GeoJSON feature.
        min_area: smaller polygons are left out, native px.
        simplify: maximum distance of a simplified polygon from the pixel edges, native px.

    Attributes:
        glands: number of polygons written.

    Raises:
        OSError: if a file cannot be written; with its path.
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
        """Add the class map (H, W) of the core of a block."""
        box = self._cores[number]
        if self._pyramid is not None:
            self._pyramid.put(box.x0, box.y0, classes * FOREGROUND if self._classes == 2 else classes)
        self._joiner.put(number, outlines(classes, (box.x0, box.y0)))

    def finish(self) -> None:
        """Write the remaining glands and the mask."""
        self._joiner.close()
        if self._pyramid is not None and self._mask is not None:
            self._pyramid.write(self._mask, self._layout)

    def _emit(self, outline: Outline) -> None:
        self.glands += 1
        self._writer.write(self._feature(outline))
