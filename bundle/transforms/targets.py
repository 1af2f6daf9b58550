"""Targets made from a label map: class index, signed distance and boundary.

The three targets of Semi-MoE (BMVC 2025), one for each expert, each as a function and as a MONAI dictionary transform.
Place the transforms after all spatial augmentations, on the crop that the network sees.

A label map may have unknown pixels, ``UNKNOWN`` or any value below 0. All targets have ``IGNORE`` there, and wherever
their value depends on an unknown pixel; all other values are those of the full label.
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
    map_planes,
    measure_known,
    pixel_distance,
    scaled_distance,
)
from bundle.types import BOUNDARY, IGNORE, LABEL, SDF, to_bool

DistanceMode = Literal["clip", "maximum"]


def _check_distance(mode: str, maximum_distance: float) -> None:
    if mode not in ("clip", "maximum"):
        raise ValueError(f"mode is {mode!r}; give 'clip' or 'maximum'")
    if not 0 < maximum_distance < math.inf:
        raise ValueError(f"maximum_distance is {maximum_distance} px; it must be above 0 and finite")


def _check_radius(radius: int) -> None:
    if radius < 1 or radius != int(radius):
        raise ValueError(f"radius is {radius} px; it must be an integer of at least 1")


def _check_shape(label: NdarrayOrTensor, key: Hashable) -> NdarrayOrTensor:
    if label.ndim != 3 or label.shape[0] != 1:
        raise ValueError(f"{key!r} has the shape {tuple(label.shape)}; a label map must have (1, H, W)")
    return label


def foreground_class(label: NdarrayOrTensor) -> NdarrayOrTensor:
    """Convert a label map (0/255, 0/1 or instances 1..N) to class indices: any value above 0 becomes 1.

    Args:
        label: (..., H, W), array or tensor.

    Returns:
        Array of the same shape and type, uint8: 0 background, 1 gland, ``IGNORE`` where ``label`` is below 0. It is the
        target of the head ``seg``, in the format of ``DiceLoss(to_onehot_y=True)``.
    """
    foreground, unknown = label > 0, label < 0
    return convert_to_dst_type(foreground + IGNORE * unknown if unknown.any() else foreground, label, dtype=np.uint8)[0]


def signed_distance(
    mask: NdarrayOrTensor, mode: DistanceMode = "clip", maximum_distance: float = 20.0
) -> NdarrayOrTensor:
    """Compute the signed distance to the gland boundary: positive inside, negative outside, in [-1, 1].

    Both modes use the Euclidean distance d (px, at least 1) between the centers of a pixel and of the nearest pixel of
    the other side. The image border is not a boundary.

    - ``clip``: (d - 1/2) / ``maximum_distance``, clipped at 1. The zero crossing is the edge between gland pixel and
      background pixel; the pixels on either side have +-0.5 px, so the value is above 0 exactly inside and never 0. The
      unit is the same in every crop, so windows can be stitched. Pixels nearer to the border of a crop than
      ``maximum_distance`` may be too far from 0, because boundaries outside the crop are unknown.
    - ``maximum``: as in the Semi-MoE code: d divided by its largest value in the image, separately inside and outside,
      and 0 on gland pixels with background among their 4 neighbors. The unit depends on the image. Differs from the
      code: empty and full masks do not crash.

    Args:
        mask: (..., H, W), array or tensor; any value above 0 is gland, instances are merged. Each plane is measured
            separately. GPU tensors are measured on the CPU.
        mode: ``clip`` or ``maximum``.
        maximum_distance: distance (px) that becomes 1, above 0; only for ``clip``.

    Returns:
        Array of the same shape and type, float32, in [-1, 1]; -1 everywhere without gland, +1 everywhere without
        background; ``IGNORE`` where it is unknown.

    Raises:
        ValueError: if ``mode`` is unknown, ``maximum_distance`` is not above 0 and finite, or ``mask`` has fewer than
            two dimensions.
    """
    _check_distance(mode, maximum_distance)

    def measure(plane: NDArray[Any]) -> NDArray[np.float32]:
        if not plane.any() or (plane > 0).all():
            return np.full(plane.shape, 1.0 if plane.any() else -1.0, np.float32)
        if mode == "maximum":
            signed, unknown = measure_known(plane, lambda label: pixel_distance(label != 0))
            distance = scaled_distance(signed, unknown)
        else:
            distance, unknown = measure_known(plane, lambda label: clipped_distance(label != 0, maximum_distance))
        distance[unknown] = IGNORE
        return distance

    return map_planes(mask, measure, np.float32)


def boundary_band(label: NdarrayOrTensor, radius: int = 2, instances: bool | str = True) -> NdarrayOrTensor:
    """Mark the outer band of each gland: its dilation by a disk, minus the gland itself.

    With ``instances`` it is the union of the bands of all glands, so it includes pixels of a gland within ``radius`` of
    another gland. Touching glands are separated by a band 2 x ``radius`` px thick, ``radius`` px on either side; across
    a gap narrower than ``radius``, the band is the gap and the pixels that the radius reaches beyond it. From radius 2
    on the band has no holes, even between glands that touch only at a corner.

    Without ``instances`` it is the target of the Semi-MoE code: the band is outside all glands, and there is no
    boundary between touching glands.

    Args:
        label: (..., H, W), array or tensor; 0 is background, each value above 0 one gland (a binary mask is one gland),
            values below 0 are unknown.
        radius: radius of the disk (px), at least 1; the disk is dx^2 + dy^2 <= radius^2.
        instances: whether different values are different glands; a switch, yes or no.

    Returns:
        Array of the same shape and type, uint8: 1 on the boundary, else 0; ``IGNORE`` where it is unknown, which may
        be up to ``radius`` px from an unknown pixel. The image border is not a boundary.

    Raises:
        ValueError: if ``radius`` is not an integer of at least 1, or ``label`` has fewer than two dimensions.
    """
    _check_radius(radius)
    separate = to_bool(instances, "instances")

    def measure(plane: NDArray[Any]) -> NDArray[np.uint8]:
        band, unknown = measure_known(plane, lambda label: band_between(label if separate else label != 0, int(radius)))
        return np.where(unknown, np.uint8(IGNORE), band)

    return map_planes(label, measure, np.uint8)


class ForegroundClassd(MapTransform):
    """Dictionary transform that converts label maps to class indices; see :func:`foreground_class`."""

    def __init__(self, keys: KeysCollection = LABEL, allow_missing_keys: bool = False) -> None:
        """Make the transform.

        Args:
            keys: label maps (1, H, W).
            allow_missing_keys: whether a record may lack them (unlabeled images).
        """
        super().__init__(keys, allow_missing_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of the record with class indices (1, H, W), uint8, instead of the label map."""
        record = dict(data)
        for key in self.key_iterator(record):
            record[key] = foreground_class(_check_shape(record[key], key))
        return record


class SignedDistanced(MapTransform):
    """Dictionary transform that adds the signed distance to the gland boundary; see :func:`signed_distance`.

    Example::

        >>> import torch
        >>> label = torch.zeros(1, 1, 5, dtype=torch.uint8)
        >>> label[..., 2:] = 1
        >>> SignedDistanced(maximum_distance=2.0)({"label": label})["sdf"]
        tensor([[[-0.7500, -0.2500,  0.2500,  0.7500,  1.0000]]])
    """

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
            keys: label maps (1, H, W); values above 0 are gland, values below 0 unknown.
            target_key: key of the distance, one for each of ``keys``.
            mode: ``clip`` or ``maximum``.
            maximum_distance: distance (px) that becomes 1; only for ``clip``.
            allow_missing_keys: whether a record may lack the label (unlabeled images).

        Raises:
            ValueError: if ``mode`` is unknown or ``maximum_distance`` is not above 0 and finite.
        """
        super().__init__(keys, allow_missing_keys)
        _check_distance(mode, maximum_distance)
        self.target_keys = ensure_tuple_rep(target_key, len(self.keys))
        self.mode: DistanceMode = mode
        self.maximum_distance = maximum_distance

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of the record with the distance (1, H, W), float32, in the label's type, with its metadata."""
        record = dict(data)
        for key, target in self.key_iterator(record, self.target_keys):
            record[target] = signed_distance(_check_shape(record[key], key), self.mode, self.maximum_distance)
        return record


class Boundaryd(MapTransform):
    """Dictionary transform that adds the outer band of the glands; see :func:`boundary_band`.

    Place it before :class:`ForegroundClassd`, which merges the instances.
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
            keys: label maps (1, H, W); each value above 0 is one gland, values below 0 are unknown.
            target_key: key of the band, one for each of ``keys``.
            radius: radius of the disk (px), at least 1.
            instances: whether there is a boundary between touching glands.
            allow_missing_keys: whether a record may lack the label (unlabeled images).

        Raises:
            ValueError: if ``radius`` is not an integer of at least 1.
        """
        super().__init__(keys, allow_missing_keys)
        _check_radius(radius)
        self.target_keys = ensure_tuple_rep(target_key, len(self.keys))
        self.radius = radius
        self.instances = to_bool(instances, "instances")

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of the record with the band (1, H, W), uint8, in the label's type, with its metadata."""
        record = dict(data)
        for key, target in self.key_iterator(record, self.target_keys):
            record[target] = boundary_band(_check_shape(record[key], key), self.radius, self.instances)
        return record
