"""Glands beside the mask: numbered, outlined on the picture, and as objects for a viewer."""

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

from bundle.inference.files import hidden_until_done
from bundle.inference.geojson import OBJECT_TYPES, GeoJSONWriter, feature, plain_color
from bundle.inference.outputs import (
    Output,
    Record,
    microns_of,
    picture_of,
    planes,
    probabilities,
    source_of,
    write_picture,
)
from bundle.inference.outputs_maps import check_names
from bundle.inference.polygons import outlines

logger = logging.getLogger(__name__)

FindInstances = Callable[[Record], Record]
"""Transform that adds numbered glands to a record, with ``target_keys`` and ``settings``: ComponentInstancesd, ..."""


class Glands(NamedTuple):
    """The glands of one picture.

    Args:
        numbers: (H, W), 0 background, 1..N.
        classes: (N + 1,) class of each gland: that of most of its pixels; 0 for background.
    """

    numbers: NDArray[np.int32]
    classes: NDArray[np.intp]


class GlandOutput(Output):
    """A file made of the numbered glands; the first output of a record reads them for all.

    Args:
        output_dir: folder of the file.
        postfix: what its name gets.
        suffix: how its name ends.
        find_instances: numbers the glands of a record, under the first of its ``target_keys``.
        key: scores (C, W, H), class 0 is background.
    """

    def __init__(
        self, output_dir: str | os.PathLike[str], postfix: str, suffix: str, find_instances: Any, key: Hashable
    ) -> None:
        super().__init__(output_dir, postfix, suffix, key)
        self.find_instances: FindInstances = find_instances
        self.target_key: Hashable = find_instances.target_keys[0]
        self.settings = {"find_instances": type(find_instances).__name__, **find_instances.settings}

    def prepared(self, record: Record) -> Record:
        """The record with its glands."""
        return record if self.target_key in record else self.find_instances(record)

    def numbers(self, record: Record) -> NDArray[np.int32]:
        """Number of the gland at each pixel (H, W), 0 background."""
        found = record[self.target_key]
        return np.ascontiguousarray(found.as_subclass(torch.Tensor).cpu().numpy()[0].T.astype(np.int32))

    def glands(self, record: Record) -> Glands:
        """The glands with their classes."""
        numbers = self.numbers(record)
        scores = planes(record[self.key])
        count, classes = int(numbers.max()) + 1, len(scores)
        pairs = numbers.ravel().astype(np.int64) * classes + scores.argmax(axis=0).ravel()
        votes = np.bincount(pairs, minlength=count * classes).reshape(count, classes)
        votes[:, 0] = 0  # background in a gland: a hole that was filled
        kinds = votes.argmax(axis=1)
        kinds[0] = 0
        return Glands(numbers, kinds)


class SaveInstancesd(GlandOutput):
    """Writes NAME_instances.png: the number of the gland at each pixel, 16 bits, 0 background.

    More glands than 65,535 go to NAME_instances.tif, 32 bits, which the log says.

    Args:
        output_dir: folder of the file.
        find_instances: numbers the glands.
        key: scores (C, W, H).
    """

    def __init__(self, output_dir: str | os.PathLike[str], find_instances: Any, key: Hashable = "pred") -> None:
        super().__init__(output_dir, "instances", ".png", find_instances, key)

    def write(self, record: Record, path: Path) -> Path:
        """Write the numbers."""
        numbers = self.numbers(record)
        if numbers.max() <= np.iinfo(np.uint16).max:
            return write_picture(numbers.astype(np.uint16), path)
        path = path.with_suffix(".tif")
        logger.info("%s has %d glands, too many for a PNG: %s", source_of(record), numbers.max(), path)
        with hidden_until_done(path) as place:
            tifffile.imwrite(place, numbers.astype(np.uint32), photometric="minisblack", compression="zlib")
        return path


class SaveContoursd(GlandOutput):
    """Writes NAME_contours.png: the picture with the outline of each gland, half inside of it and half outside.

    Where glands touch, one line parts them. A gland that the picture cuts is outlined along the picture's side too.

    Args:
        output_dir: folder of the file.
        find_instances: numbers the glands.
        reader: MONAI's ``ImageReader`` for the pictures, which gives (W, H, 3).
        class_colors: red, green, blue by class, without background, each 0 to 255; more than there are classes do no
            harm.
        width: of the line in px, 1 or more.
        key: scores (C, W, H).

    Raises:
        ValueError: for another width.
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
            raise ValueError(f"width is {width!r} px; an outline has 1 or more")
        self.reader, self.width = reader, width
        self.colors = [plain_color(color) for color in class_colors]
        self.settings = {**self.settings, "class_colors": self.colors, "width": width}

    def write(self, record: Record, path: Path) -> Path:
        """Draw the outlines.

        Raises:
            ValueError: where a class has no color.
        """
        glands = self.glands(record)
        check_colors(self.colors, len(record[self.key]))
        size = self.width + 1
        around = np.pad(glands.numbers, size)  # so that the side of the picture is a border too
        line = ndimage.maximum_filter(around, size) != ndimage.minimum_filter(around, size)
        kinds = ndimage.maximum_filter(np.pad(glands.classes[glands.numbers], size), size)
        inner = np.s_[size:-size, size:-size]
        pixels = picture_of(record, self.reader)
        pixels[line[inner]] = np.array([[0, 0, 0], *self.colors], np.uint8)[kinds[inner][line[inner]]]
        return write_picture(pixels, path)


class SaveGeoJSONd(GlandOutput):
    """Writes NAME.geojson: each gland an object for QuPath, in px of the picture.

    An object has the class of most of its pixels, its outline with holes, and the measurements ``Area px^2`` (its
    pixels), ``Area um^2`` where the size of a pixel is known, and ``Mean probability`` (of its class over its pixels).
    A picture without gland gives an empty collection.

    Args:
        output_dir: folder of the file.
        find_instances: numbers the glands.
        class_names: by class, without background.
        class_colors: red, green, blue by class, without background, each 0 to 255.
        object_type: ``annotation``, which a person may edit, or ``detection``, of which QuPath takes many.
        simplify: how far an outline may leave the sides of the pixels, in px; 0 keeps every step.
        mpp: um/px of all pictures; ``None`` takes it from their data list.
        key: scores (C, W, H).

    Raises:
        ValueError: for another type of object, or ``simplify`` below 0.
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
        own = {"class_names": self.names, "class_colors": self.colors, "object_type": object_type, "simplify": simplify}
        self.settings = {**self.settings, **own}

    def write(self, record: Record, path: Path) -> Path:
        """Write an object for each gland.

        Raises:
            ValueError: where a class has no name or no color.
        """
        check_names(self.names, len(record[self.key]))
        check_colors(self.colors, len(record[self.key]))
        glands = self.glands(record)
        areas = np.bincount(glands.numbers.ravel())
        chances = probabilities(record[self.key])
        own = np.take_along_axis(chances, glands.classes[glands.numbers][None], axis=0)[0]
        means = np.bincount(glands.numbers.ravel(), own.ravel()) / np.maximum(areas, 1)
        mpp = microns_of(record, self.mpp)
        with GeoJSONWriter(path) as file:
            for number, shape in outlines(glands.numbers, tolerance=self.simplify):
                kind = glands.classes[number] - 1
                measurements = {"Area px^2": int(areas[number]), "Mean probability": float(means[number])}
                if mpp is not None:
                    measurements["Area um^2"] = float(areas[number]) * mpp**2
                name, color = self.names[kind], self.colors[kind]
                file.write(feature(shape, name, color, self.object_type, f"{name} {number}", measurements))
        return path


def check_colors(class_colors: Sequence[Sequence[int]], classes: int) -> None:
    """Refuse colors that are fewer than the classes beside background.

    Raises:
        ValueError: says how many there must be.
    """
    if len(class_colors) < classes - 1:
        raise ValueError(
            f"class_colors has {len(class_colors)} colors, but the network tells {classes - 1} classes beside "
            "background; give each its color"
        )
