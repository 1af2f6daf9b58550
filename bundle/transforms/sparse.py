"""Sparse labels: some glands of an image are annotated, and nothing is known of the rest.

The setting of weakly supervised learning from sparse annotations (Khan, Chen, Niazi 2026, arXiv 2603.08605), made from
full labels.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Hashable, Mapping
from pathlib import PurePath
from typing import Any

import numpy as np
from monai.config.type_definitions import KeysCollection
from monai.transforms.transform import MapTransform
from monai.utils import convert_to_dst_type, convert_to_numpy
from numpy.typing import NDArray
from skimage.measure import label as connected_pieces

from bundle.transforms.distance import UNKNOWN, distance_within
from bundle.types import LABEL


def annotated(label: NDArray[Any], kept: NDArray[np.bool_], margin: float) -> NDArray[np.int32]:
    """Forget a label but for some glands and a band of background around them.

    Args:
        label: (H, W), 0 background, above 0 glands, below 0 unknown.
        kept: (H, W), the pixels of the glands that stay.
        margin: width of the band (px); a pixel of another gland is no background, and is forgotten there too.

    Returns:
        (H, W): the label's numbers on the kept glands, 0 on the band, ``UNKNOWN`` elsewhere.
    """
    near = distance_within(~kept, math.floor(margin) + 1) <= margin
    return np.where(kept, label, np.where(near & (label == 0), 0, UNKNOWN)).astype(np.int32)


class KeepInstancesd(MapTransform):
    """Dictionary transform that keeps some glands of each label and forgets the rest.

    What stays is a share or a number of the image's glands, as they are numbered, and a band of sure background around
    each. Every other pixel becomes ``UNKNOWN``, from which the targets make ``IGNORE``. Background far from all kept
    glands is unknown too, since nobody looked there. An image may keep no gland; then all of it is unknown.

    The choice is a function of the seed and the name of the image's file alone: the same in every epoch, process and
    run, and the glands of a smaller share are among those of a larger one. Place it before every random transform, so
    that it is cached, and after the last that resamples, so that ``margin`` is in px of the working resolution.

    Glands are the numbers of the label; where it has one number only, such as 255, its connected pieces (by sides and
    corners).
    """

    def __init__(
        self,
        keys: KeysCollection = LABEL,
        keep: str | int = "25%",
        margin: float = 10.0,
        seed: int = 0,
        connected: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        """Make the transform.

        Args:
            keys: label maps (1, H, W), each a ``MetaTensor`` that names its file.
            keep: how many glands of each image stay: a share, such as ``25%``, or a number, all where there are fewer.
                Where a share is no whole number of glands the image gets the next lower or higher one, by a draw, so
                that all images together have that share.
            margin: width of the band of sure background (px), 0 or more.
            seed: of the choice.
            connected: whether the connected pieces of each number are glands of their own, as where numbers are
                classes.
            allow_missing_keys: whether a record may lack the label (unlabeled images).

        Raises:
            ValueError: for another way to say how many, or a margin below 0.
        """
        super().__init__(keys, allow_missing_keys)
        if not 0.0 <= margin < math.inf:
            raise ValueError(f"margin is {margin} px; it must be 0 or more, and finite")
        self.share, self.number = _amount(keep)
        self.margin = margin
        self.seed = seed
        self.connected = connected

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Give a copy of the record with sparse label maps (1, H, W) int32; a ``MetaTensor`` keeps its metadata.

        Raises:
            ValueError: for another shape, or a label that names no file.
        """
        record = dict(data)
        for key in self.key_iterator(record):
            label = record[key]
            if label.ndim != 3 or label.shape[0] != 1:
                raise ValueError(f"{key!r} has the shape {tuple(label.shape)}; a label map has (1, H, W)")
            plane = convert_to_numpy(label)[0]
            sparse = annotated(plane, self._kept(plane, _file_name(label, key)), self.margin)
            record[key] = convert_to_dst_type(sparse[None], label, dtype=np.int32)[0]
        return record

    def _kept(self, plane: NDArray[Any], name: str) -> NDArray[np.bool_]:
        """Where the glands that stay are, (H, W)."""
        glands = np.where(plane > 0, plane, 0)
        numbers = np.unique(glands[glands > 0])
        if self.connected or len(numbers) == 1:
            glands = connected_pieces(glands.astype(np.int64), background=0, connectivity=2)
            numbers = np.arange(1, glands.max(initial=0) + 1)
        generator = np.random.default_rng([self.seed, zlib.crc32(name.encode())])
        draw = generator.random()
        order = generator.permutation(numbers)
        wanted = self.number + math.floor(round(self.share * len(numbers), 9) + draw)
        return np.isin(glands, order[:wanted])


def _amount(keep: str | int) -> tuple[float, int]:
    """A share in [0, 1] and a number, one of which is 0."""
    if isinstance(keep, str) and re.fullmatch(r"[0-9]+(\.[0-9]+)?%", keep) and float(keep[:-1]) <= 100.0:
        return float(keep[:-1]) / 100.0, 0
    if isinstance(keep, int) and not isinstance(keep, bool) and keep >= 0:
        return 0.0, keep
    raise ValueError(f"keep is {keep!r}; write a share from 0% to 100%, such as 25%, or a whole number of glands")


def _file_name(label: Any, key: Hashable) -> str:
    """Name of a label's file, without its folder."""
    path = getattr(label, "meta", {}).get("filename_or_obj", "")
    if not isinstance(path, str) or not path:
        raise ValueError(f"{key!r} names no file, by which its glands are drawn; read it by LoadImaged")
    return PurePath(path).name
