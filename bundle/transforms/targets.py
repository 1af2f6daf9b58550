"""Targets made from a label map: class index, signed distance and boundary.

The three targets of Semi-MoE (BMVC 2025), one for each expert. Each comes as a function on planes and as a MONAI
dictionary transform for the data pipeline; place the transforms after every spatial augmentation, on the crop that the
network sees.

A label map may hold pixels of which nothing is known, ``UNKNOWN`` or any number below 0. All targets have ``IGNORE``
there, and wherever their value depends on what an unknown pixel is: every other value is that of the full label.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any, Literal

import numpy as np
from monai.config.type_definitions import KeysCollection, NdarrayOrTensor
from monai.transforms.transform import MapTransform
from monai.utils import convert_to_dst_type, ensure_tuple_rep
from numpy.typing import NDArray

from bundle.transforms.distance import (
    band_between,
    clipped_distance,
    each_plane,
    pixel_distance,
    scaled_distance,
    settled,
)
from bundle.types import BOUNDARY, IGNORE, LABEL, SDF, as_switch

DistanceMode = Literal["clip", "maximum"]


def _check_distance(mode: str, maximum_distance: float) -> None:
    if mode not in ("clip", "maximum"):
        raise ValueError(f"mode is {mode!r}; write 'clip' or 'maximum'")
    if not 0 < maximum_distance < math.inf:
        raise ValueError(f"maximum_distance is {maximum_distance} px; it must be above 0 and finite")


def _check_radius(radius: int) -> None:
    if radius < 1 or radius != int(radius):
        raise ValueError(f"radius is {radius} px; it must be a whole number, at least 1")


def _checked(label: NdarrayOrTensor, key: Hashable) -> NdarrayOrTensor:
    if label.ndim != 3 or label.shape[0] != 1:
        raise ValueError(f"{key!r} has the shape {tuple(label.shape)}; a label map has (1, H, W)")
    return label


def foreground_class(label: NdarrayOrTensor) -> NdarrayOrTensor:
    """Turn a label map (0/255, 0/1 or instances 1..N) into class indices: any value above 0 becomes 1.

    Args:
        label: (..., H, W), array or tensor.

    Returns:
        The same shape and kind of array, uint8, 0 background and 1 gland: the target of head ``seg``, as
        ``DiceLoss(to_onehot_y=True)`` wants it; and ``IGNORE`` where ``label`` is below 0, which it does not know.
    """
    foreground, unknown = label > 0, label < 0
    return convert_to_dst_type(foreground + IGNORE * unknown if unknown.any() else foreground, label, dtype=np.uint8)[0]


def signed_distance(
    mask: NdarrayOrTensor, mode: DistanceMode = "clip", maximum_distance: float = 20.0
) -> NdarrayOrTensor:
    """Measure how far each pixel lies from the gland boundary: positive inside, negative outside, within [-1, 1].

    Both modes start from the Euclidean distance d (px, at least 1) between the centers of a pixel and of the nearest
    pixel of the other kind. The image border is no boundary: a gland that the image cuts goes on behind it.

    - ``clip``: (d - 1/2) / ``maximum_distance``, cut at 1. The zero crossing is the edge between a gland pixel and a
      background pixel; the pixels on either side have +-0.5 px, so the value is above 0 exactly inside and never 0.
      One unit is the same length in every crop, so windows can be stitched. Pixels nearer to the border of a crop than
      ``maximum_distance`` may lie too far from 0, because a boundary outside of the crop is not seen.
    - ``maximum``: the one of the Semi-MoE code: d divided by its largest value in the image, inside and outside each
      by its own, and 0 on the gland pixels with background among their 4 neighbors. The unit depends on what the
      image shows. Differs from the code: masks that are empty or full do not crash.

    Args:
        mask: (..., H, W), array or tensor, any value above 0 is gland; instances are not told apart. Each plane is
            measured on its own. Tensors of a GPU are measured on the CPU.
        mode: ``clip`` or ``maximum``.
        maximum_distance: distance that counts as 1 (px), above 0; only for ``clip``.

    Returns:
        The same shape and kind of array, float32, in [-1, 1]; -1 everywhere without gland, +1 everywhere without
        background; ``IGNORE`` where it is not known.

    Raises:
        ValueError: for another mode, a distance that is not above 0, or fewer than two dimensions.
    """
    _check_distance(mode, maximum_distance)

    def measure(plane: NDArray[Any]) -> NDArray[np.float32]:
        if not plane.any() or (plane > 0).all():
            return np.full(plane.shape, 1.0 if plane.any() else -1.0, np.float32)
        if mode == "maximum":
            signed, unknown = settled(plane, lambda label: pixel_distance(label != 0))
            distance = scaled_distance(signed, unknown)
        else:
            distance, unknown = settled(plane, lambda label: clipped_distance(label != 0, maximum_distance))
        distance[unknown] = IGNORE
        return distance

    return each_plane(mask, measure, np.float32)


def boundary_band(label: NdarrayOrTensor, radius: int = 2, instances: bool | str = True) -> NdarrayOrTensor:
    """Mark the outer band of each gland: its dilation by a disk, minus the gland itself.

    With instances it is the union of the bands of all glands, so that pixels of a gland count where another gland is
    within ``radius``. Touching glands are parted by a wall 2 x ``radius`` px thick, ``radius`` px of either side; where
    a gap thinner than ``radius`` parts them, the wall is the gap and what the radius reaches beyond it. From radius 2
    on the wall has no hole, even between glands that touch at a corner only.

    Without instances it is the target of the Semi-MoE code: the band lies outside of all glands, and touching glands
    have no boundary between them.

    Args:
        label: (..., H, W), array or tensor, 0 background, each value above one gland (a binary mask is one gland), any
            value below unknown.
        radius: of the disk (px), at least 1; it holds the pixels with dx^2 + dy^2 <= radius^2.
        instances: whether glands with different values are told apart; yes or no.

    Returns:
        The same shape and kind of array, uint8, 1 on the boundary, else 0; ``IGNORE`` where it is not known, which is
        also within ``radius`` px of an unknown pixel. The image border is no boundary.

    Raises:
        ValueError: for a radius below 1 or not whole, or fewer than two dimensions.
    """
    _check_radius(radius)
    apart = as_switch(instances, "instances")

    def measure(plane: NDArray[Any]) -> NDArray[np.uint8]:
        band, unknown = settled(plane, lambda label: band_between(label if apart else label != 0, int(radius)))
        return np.where(unknown, np.uint8(IGNORE), band)

    return each_plane(label, measure, np.uint8)


class ForegroundClassd(MapTransform):
    """Dictionary transform that replaces label maps by class indices; see :func:`foreground_class`."""

    def __init__(self, keys: KeysCollection = LABEL, allow_missing_keys: bool = False) -> None:
        """Make the transform.

        Args:
            keys: label maps (1, H, W).
            allow_missing_keys: whether a record may lack them (unlabeled images).
        """
        super().__init__(keys, allow_missing_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Give a copy of the record with class indices (1, H, W) uint8 in place of the label map."""
        record = dict(data)
        for key in self.key_iterator(record):
            record[key] = foreground_class(_checked(record[key], key))
        return record


class SignedDistanced(MapTransform):
    """Dictionary transform that adds the signed distance to the gland boundary; see :func:`signed_distance`."""

    def __init__(
        self,
        keys: KeysCollection = LABEL,
        target_key: KeysCollection = SDF,
        mode: DistanceMode = "clip",
        maximum_distance: float = 20.0,
        allow_missing_keys: bool = False,
    ) -> None:
        """Make the transform.

        Args:
            keys: label maps (1, H, W), any value above 0 is gland, any below 0 unknown.
            target_key: where the distance goes, one for each of ``keys``.
            mode: ``clip`` or ``maximum``.
            maximum_distance: distance that counts as 1 (px); only for ``clip``.
            allow_missing_keys: whether a record may lack the label (unlabeled images).

        Raises:
            ValueError: for another mode or a distance that is not above 0.
        """
        super().__init__(keys, allow_missing_keys)
        _check_distance(mode, maximum_distance)
        self.target_keys = ensure_tuple_rep(target_key, len(self.keys))
        self.mode: DistanceMode = mode
        self.maximum_distance = maximum_distance

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Give a copy of the record with the distance (1, H, W) float32, of the label's kind and with its metadata."""
        record = dict(data)
        for key, target in self.key_iterator(record, self.target_keys):
            record[target] = signed_distance(_checked(record[key], key), self.mode, self.maximum_distance)
        return record


class Boundaryd(MapTransform):
    """Dictionary transform that adds the outer band of the glands; see :func:`boundary_band`.

    Place it before :class:`ForegroundClassd`, which melts the instances.
    """

    def __init__(
        self,
        keys: KeysCollection = LABEL,
        target_key: KeysCollection = BOUNDARY,
        radius: int = 2,
        instances: bool | str = True,
        allow_missing_keys: bool = False,
    ) -> None:
        """Make the transform.

        Args:
            keys: label maps (1, H, W), each value above 0 one gland, any below 0 unknown.
            target_key: where the band goes, one for each of ``keys``.
            radius: of the disk (px), at least 1.
            instances: whether touching glands get a boundary between them.
            allow_missing_keys: whether a record may lack the label (unlabeled images).

        Raises:
            ValueError: for a radius below 1 or not whole.
        """
        super().__init__(keys, allow_missing_keys)
        _check_radius(radius)
        self.target_keys = ensure_tuple_rep(target_key, len(self.keys))
        self.radius = radius
        self.instances = as_switch(instances, "instances")

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Give a copy of the record with the band (1, H, W) uint8, of the label's kind and with its metadata."""
        record = dict(data)
        for key, target in self.key_iterator(record, self.target_keys):
            record[target] = boundary_band(_checked(record[key], key), self.radius, self.instances)
        return record
