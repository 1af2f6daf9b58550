"""Sparse labels: only some glands of an image are annotated.

The setting of weakly supervised learning from sparse annotations (Khan, Chen, Niazi 2026, arXiv 2603.08605), simulated
from full labels.
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
from skimage.measure import label as connected_components

from bundle.transforms.distance import UNKNOWN, distance_within
from bundle.types import LABEL


def sparse_label(label: NDArray[Any], selected: NDArray[np.bool_], margin: float) -> NDArray[np.int32]:
    """Set a label to unknown except for selected glands and a band of background around them.

    Args:
        label: (H, W), 0 is background, values above 0 are glands, values below 0 unknown.
        selected: (H, W), bool, the pixels of the selected glands.
        margin: width of the band (px); pixels of other glands in it become unknown too.

    Returns:
        (H, W): the values of the label on the selected glands, 0 on the band, ``UNKNOWN`` elsewhere.
    """
    near = distance_within(~selected, math.floor(margin) + 1) <= margin
    return np.where(selected, label, np.where(near & (label == 0), 0, UNKNOWN)).astype(np.int32)


class KeepInstancesd(MapTransform):
    """Dictionary transform that keeps some glands of each label and sets the rest to unknown.

    It keeps a share or a number of the image's glands and a band of background around each. All other pixels become
    ``UNKNOWN``, which the targets turn into ``IGNORE``; this includes background far from the kept glands, which is
    not annotated. If an image keeps no gland, all of it is unknown.

    The selection depends only on the seed and the file name: it is the same in every epoch, process and run, and the
    glands of a smaller share are among those of a larger one. Place it before the random transforms, so that it is
    cached, and after resampling, so that ``margin`` is in px of the working resolution.

    Glands are the instance numbers of the label or, if it has only one value, such as 255, its connected components
    (8-connected).
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
            keys: label maps (1, H, W), each a ``MetaTensor`` with a file name.
            keep: how many glands of each image are kept: a share, such as ``25%``, or a number; all if there are fewer.
                If a share is not a whole number of glands, it is randomly rounded up or down, so that the share holds
                over all images.
            margin: width of the band of background (px), 0 or more.
            seed: seed of the selection.
            connected: whether each connected component of a value is a gland, for labels whose values are classes.
            allow_missing_keys: whether a record may lack the label (unlabeled images).

        Raises:
            ValueError: if ``keep`` is neither a share nor a number, or ``margin`` is below 0.
        """
        super().__init__(keys, allow_missing_keys)
        if not 0.0 <= margin < math.inf:
            raise ValueError(f"margin is {margin} px; it must be 0 or more and finite")
        self.share, self.number = _parse_amount(keep)
        self.margin = margin
        self.seed = seed
        self.connected = connected

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of the record with sparse label maps (1, H, W), int32; a ``MetaTensor`` keeps its metadata.

        Raises:
            ValueError: if a label has another shape or no file name.
        """
        record = dict(data)
        for key in self.key_iterator(record):
            label = record[key]
            if label.ndim != 3 or label.shape[0] != 1:
                raise ValueError(f"{key!r} has the shape {tuple(label.shape)}; a label map must have (1, H, W)")
            plane = convert_to_numpy(label)[0]
            sparse = sparse_label(plane, self._select(plane, _file_name(label, key)), self.margin)
            record[key] = convert_to_dst_type(sparse[None], label, dtype=np.int32)[0]
        return record

    def _select(self, plane: NDArray[Any], name: str) -> NDArray[np.bool_]:
        """Return the mask (H, W) of the selected glands."""
        glands = np.where(plane > 0, plane, 0)
        numbers = np.unique(glands[glands > 0])
        if self.connected or len(numbers) == 1:
            glands = connected_components(glands.astype(np.int64), background=0, connectivity=2)
            numbers = np.arange(1, glands.max(initial=0) + 1)
        generator = np.random.default_rng([self.seed, zlib.crc32(name.encode())])
        draw = generator.random()
        order = generator.permutation(numbers)
        count = self.number + math.floor(round(self.share * len(numbers), 9) + draw)
        return np.isin(glands, order[:count])


def _parse_amount(keep: str | int) -> tuple[float, int]:
    """Return a share in [0, 1] and a number of glands, one of which is 0."""
    if isinstance(keep, str) and re.fullmatch(r"[0-9]+(\.[0-9]+)?%", keep) and float(keep[:-1]) <= 100.0:
        return float(keep[:-1]) / 100.0, 0
    if isinstance(keep, int) and not isinstance(keep, bool) and keep >= 0:
        return 0.0, keep
    raise ValueError(f"keep is {keep!r}; give a share from 0% to 100%, such as 25%, or a number of glands")


def _file_name(label: Any, key: Hashable) -> str:
    """Return the file name of a label, without its folder."""
    path = getattr(label, "meta", {}).get("filename_or_obj", "")
    if not isinstance(path, str) or not path:
        raise ValueError(f"{key!r} has no file name, which the selection depends on; read it with LoadImaged")
    return PurePath(path).name
