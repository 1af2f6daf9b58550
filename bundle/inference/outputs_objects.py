"""Files of single glands that inference writes beside the mask: instance maps, outlines and GeoJSON objects."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tifffile
import torch
from numpy.typing import NDArray
from scipy import ndimage

from bundle.inference.geojson import OBJECT_TYPES, GeoJSONWriter, feature, plain_color
from bundle.inference.outputs import (
    Output,
    Record,
    load_picture,
    picture_path,
    pixel_size_of,
    probabilities,
    to_numpy,
    write_picture,
)
from bundle.inference.outputs_maps import check_names
from bundle.inference.polygons import outlines
from bundle.utils import atomic_path

logger = logging.getLogger(__name__)

FindInstances = Callable[[Record], Record]
"""Transform that adds instances to a record, with ``target_keys`` and ``settings``, such as ComponentInstancesd."""


class Glands(NamedTuple):
    """Glands of one picture.

    Args:
        numbers: (H, W), 0 background, 1..N.
        classes: (N + 1,), majority class of each gland over its pixels; 0 for background.
    """

    numbers: NDArray[np.int32]
    classes: NDArray[np.intp]


class GlandOutput(Output):
    """Base class of files of single glands; the first such output of a record computes the instances for all.

    Args:
        output_dir: folder of the file.
        postfix: added to the name of the picture.
        suffix: suffix of the file, with its dot.
        find_instances: transform that adds the instances under the first of its ``target_keys``.
        key: scores (C, W, H), class 0 is background.
    """

    def __init__(
        self, output_dir: str | os.PathLike[str], postfix: str, suffix: str, find_instances: Any, key: Hashable
    ) -> None:
        super().__init__(output_dir, postfix, suffix, key)
        self.find_instances: FindInstances = find_instances
        self.target_key: Hashable = find_instances.target_keys[0]
        self.settings = {"find_instances": type(find_instances).__name__, **find_instances.settings}

    def prepare(self, record: Record) -> Record:
        """Return the record with its instances."""
        return record if self.target_key in record else self.find_instances(record)

    def numbers(self, record: Record) -> NDArray[np.int32]:
        """Return the number of the gland at each pixel (H, W), 0 background."""
        instances = record[self.target_key]
        return np.ascontiguousarray(instances.as_subclass(torch.Tensor).cpu().numpy()[0].T.astype(np.int32))

    def glands(self, record: Record) -> Glands:
        """Return the glands with their classes."""
        numbers = self.numbers(record)
        scores = to_numpy(record[self.key])
        count, classes = int(numbers.max()) + 1, len(scores)
        pairs = numbers.ravel().astype(np.int64) * classes + scores.argmax(axis=0).ravel()
        votes = np.bincount(pairs, minlength=count * classes).reshape(count, classes)
        votes[:, 0] = 0  # a gland may contain background: a filled hole
        gland_classes = votes.argmax(axis=1)
        gland_classes[0] = 0
        return Glands(numbers, gland_classes)


class SaveInstancesd(GlandOutput):
    """Write NAME_instances.png: the number of the gland at each pixel, 16 bits, 0 background.

    More than 65,535 glands are written to NAME_instances.tif, 32 bits, with a log message.

    Args:
        output_dir: folder of the file.
        find_instances: transform that adds the instances.
        key: scores (C, W, H).
    """

    def __init__(self, output_dir: str | os.PathLike[str], find_instances: Any, key: Hashable = "pred") -> None:
        super().__init__(output_dir, "instances", ".png", find_instances, key)
        self.endings = ["_instances.png", "_instances.tif"]

    def write(self, record: Record, path: Path) -> Path:
        """Write the instance map."""
        numbers = self.numbers(record)
        if numbers.max() <= np.iinfo(np.uint16).max:
            return write_picture(numbers.astype(np.uint16), path)
        path = path.with_suffix(".tif")
        logger.info("%s has %d glands, too many for a PNG; writing %s", picture_path(record), numbers.max(), path)
        with atomic_path(path, path.suffix, clean=True) as temporary:
            tifffile.imwrite(temporary, numbers.astype(np.uint32), photometric="minisblack", compression="zlib")
        return path


class SaveContoursd(GlandOutput):
    """Write NAME_contours.png: the picture with the outline of each gland, centered on its border.

    Touching glands share one line. A gland that is cut by the border of the picture is outlined there too.

    Args:
        output_dir: folder of the file.
        find_instances: transform that adds the instances.
        reader: MONAI ``ImageReader`` for the pictures; returns (W, H, 3).
        class_colors: red, green, blue of each class without background, each 0 to 255; further colors are ignored.
        width: line width in px, 1 or more.
        key: scores (C, W, H).

    Raises:
        ValueError: if ``width`` is below 1.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        find_instances: Any,
        reader: Any,
        class_colors: Sequence[Sequence[int]],
        width: int = 2,
        key: Hashable = "pred",
    ) -> None:
        super().__init__(output_dir, "contours", ".png", find_instances, key)
        if width < 1:
            raise ValueError(f"width is {width!r} px; it must be 1 or more")
        self.reader, self.width = reader, width
        self.colors = [plain_color(color) for color in class_colors]
        self.settings = {**self.settings, "class_colors": self.colors, "width": width}

    def write(self, record: Record, path: Path) -> Path:
        """Draw the outlines.

        Raises:
            ValueError: if a class has no color.
        """
        glands = self.glands(record)
        check_colors(self.colors, len(record[self.key]))
        size = self.width + 1
        padded = np.pad(glands.numbers, size)  # glands also get an outline at the border of the picture
        is_outline = ndimage.maximum_filter(padded, size) != ndimage.minimum_filter(padded, size)
        classes = ndimage.maximum_filter(np.pad(glands.classes[glands.numbers], size), size)
        inner = np.s_[size:-size, size:-size]
        pixels = load_picture(record, self.reader)
        pixels[is_outline[inner]] = np.array([[0, 0, 0], *self.colors], np.uint8)[classes[inner][is_outline[inner]]]
        return write_picture(pixels, path)


class SaveGeoJSONd(GlandOutput):
    """Write NAME.geojson: each gland as an object for QuPath, in px of the picture.

    An object has the majority class of its pixels, its outline with holes, and the measurements ``Area px^2`` (its
    pixels), ``Area um^2`` if the pixel size is known, and ``Mean probability`` (of its class over its pixels).
    A picture without glands gives an empty collection.

    Args:
        output_dir: folder of the file.
        find_instances: transform that adds the instances.
        class_names: name of each class without background.
        class_colors: red, green, blue of each class without background, each 0 to 255.
        object_type: ``annotation``, which can be edited, or ``detection``, for large numbers of objects.
        simplify: maximum distance of a simplified outline from the pixel edges, in px; 0 keeps every step.
        mpp: um/px of all pictures; ``None`` takes it from their data list.
        key: scores (C, W, H).

    Raises:
        ValueError: if the type of object is unknown, or ``simplify`` is below 0.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        find_instances: Any,
        class_names: Sequence[str],
        class_colors: Sequence[Sequence[int]],
        object_type: str = "annotation",
        simplify: float = 0.5,
        mpp: float | None = None,
        key: Hashable = "pred",
    ) -> None:
        super().__init__(output_dir, "", ".geojson", find_instances, key)
        if object_type not in OBJECT_TYPES:
            raise ValueError(f"object_type is {object_type!r}; choose from {', '.join(OBJECT_TYPES)}")
        if not simplify >= 0:
            raise ValueError(f"simplify is {simplify!r} px; it must be 0 or more")
        self.names, self.colors = list(class_names), [plain_color(color) for color in class_colors]
        self.object_type, self.simplify, self.mpp = object_type, simplify, mpp
        settings = {
            "class_names": self.names,
            "class_colors": self.colors,
            "object_type": object_type,
            "simplify": simplify,
        }
        self.settings = {**self.settings, **settings}

    def write(self, record: Record, path: Path) -> Path:
        """Write an object for each gland.

        Raises:
            ValueError: if a class has no name or no color.
        """
        check_names(self.names, len(record[self.key]))
        check_colors(self.colors, len(record[self.key]))
        glands = self.glands(record)
        areas = np.bincount(glands.numbers.ravel())
        class_probabilities = probabilities(record[self.key])
        probability = np.take_along_axis(class_probabilities, glands.classes[glands.numbers][None], axis=0)[0]
        means = np.bincount(glands.numbers.ravel(), probability.ravel()) / np.maximum(areas, 1)
        mpp = pixel_size_of(record, self.mpp)
        with GeoJSONWriter(path) as file:
            for number, shape in outlines(glands.numbers, tolerance=self.simplify):
                class_index = glands.classes[number] - 1
                measurements = {"Area px^2": int(areas[number]), "Mean probability": float(means[number])}
                if mpp is not None:
                    measurements["Area um^2"] = float(areas[number]) * mpp**2
                name, color = self.names[class_index], self.colors[class_index]
                file.write(feature(shape, name, color, self.object_type, f"{name} {number}", measurements))
        return path


def check_colors(class_colors: Sequence[Sequence[int]], classes: int) -> None:
    """Check that there is a color for each class without background.

    Raises:
        ValueError: if not.
    """
    if len(class_colors) < classes - 1:
        raise ValueError(
            f"class_colors has {len(class_colors)} colors, but the network predicts {classes - 1} classes without "
            "background; give each class a color"
        )
