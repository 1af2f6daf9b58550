"""Readings for the pipeline: dictionary transforms that turn a prediction into numbered glands."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from monai.config.type_definitions import KeysCollection, NdarrayOrTensor
from monai.transforms.transform import MapTransform
from monai.utils import convert_to_dst_type, convert_to_numpy, ensure_tuple_rep

from bundle.inference.instances import (
    Plane,
    check_areas,
    check_levels,
    component_instances,
    watershed_instances,
)


class ComponentInstancesd(MapTransform):
    """Dictionary transform that adds the connected pieces of a prediction; see :func:`component_instances`."""

    def __init__(
        self,
        keys: KeysCollection = "pred",
        target_key: KeysCollection = "pred_instances",
        connectivity: int = 2,
        min_area: float = 0,
        hole_area: float = 0,
        allow_missing_keys: bool = False,
    ) -> None:
        """Make the transform.

        Args:
            keys: class indices or masks (1, H, W), any value above 0 is gland, or scores (C, H, W), of which the
                largest counts and class 0 is background.
            target_key: where the instances go, one for each of ``keys``.
            connectivity: 1 joins pixels by their sides, 2 by their corners too.
            min_area: pieces of fewer px are dropped.
            hole_area: holes of at most so many px are filled first, 0 fills none.
            allow_missing_keys: whether a record may lack the prediction.

        Raises:
            ValueError: for another connectivity or an area below 0.
        """
        super().__init__(keys, allow_missing_keys)
        check_areas(connectivity, min_area=min_area, hole_area=hole_area)
        self.target_keys = ensure_tuple_rep(target_key, len(self.keys))
        self.settings: dict[str, Any] = {"connectivity": connectivity, "min_area": min_area, "hole_area": hole_area}

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Give a copy of the record with instances (1, H, W) int32, of the prediction's kind and with its metadata.

        Raises:
            ValueError: for a prediction that is not (C, H, W).
        """
        record = dict(data)
        for key, target in self.key_iterator(record, self.target_keys):
            instances = component_instances(_foreground(record[key], key), **self.settings)
            record[target] = _like(instances, record[key])
        return record


class WatershedInstancesd(MapTransform):
    """Dictionary transform that adds the glands of a watershed; see :func:`watershed_instances`.

    It needs the signed distance and the boundary of the same pixels beside the segmentation, as
    :class:`StackedHeads` and :class:`UnstackHeadsd` bring them there.
    """

    def __init__(
        self,
        keys: KeysCollection = "pred",
        distance_key: Hashable = "pred_sdf",
        boundary_key: Hashable = "pred_boundary",
        target_key: KeysCollection = "pred_watershed",
        seed_level: float = 0.3,
        boundary_level: float = 0.5,
        boundary_weight: float = 1.0,
        min_seed_area: float = 0,
        min_area: float = 0,
        hole_area: float = 0,
        connectivity: int = 2,
        allow_missing_keys: bool = False,
    ) -> None:
        """Make the transform.

        Args:
            keys: class indices or masks (1, H, W), or scores (C, H, W), as for :class:`ComponentInstancesd`.
            distance_key: signed distance (1, H, W) in [-1, 1].
            boundary_key: probability of a boundary (1, H, W) in [0, 1].
            target_key: where the instances go, one for each of ``keys``.
            seed_level: distance above which a pixel may be a seed, in [-1, 1).
            boundary_level: probability above which a pixel is none, in [0, 1].
            boundary_weight: height of a boundary in the landscape, in units of the distance, 0 or more.
            min_seed_area: seeds of fewer px are dropped.
            min_area: glands of fewer px are joined to a neighbor, or dropped where they have none.
            hole_area: holes of at most so many px are filled first, 0 fills none.
            connectivity: 1 joins pixels by their sides, 2 by their corners too.
            allow_missing_keys: whether a record may lack the prediction.

        Raises:
            ValueError: for a setting outside its range.
        """
        super().__init__(keys, allow_missing_keys)
        check_levels(seed_level, boundary_level, boundary_weight)
        check_areas(connectivity, min_seed_area=min_seed_area, min_area=min_area, hole_area=hole_area)
        self.target_keys = ensure_tuple_rep(target_key, len(self.keys))
        self.distance_key, self.boundary_key = distance_key, boundary_key
        self.settings: dict[str, Any] = {
            "seed_level": seed_level,
            "boundary_level": boundary_level,
            "boundary_weight": boundary_weight,
            "min_seed_area": min_seed_area,
            "min_area": min_area,
            "hole_area": hole_area,
            "connectivity": connectivity,
        }

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Give a copy of the record with instances (1, H, W) int32, of the prediction's kind and with its metadata.

        Raises:
            KeyError: where the record lacks the distance or the boundary.
            ValueError: for maps that are not (C, H, W), or not of the same pixels.
        """
        record = dict(data)
        for key, target in self.key_iterator(record, self.target_keys):
            foreground = _foreground(record[key], key)
            distance, boundary = (_single(record, name) for name in (self.distance_key, self.boundary_key))
            instances = watershed_instances(foreground, distance, boundary, **self.settings)
            record[target] = _like(instances, record[key])
        return record


def _foreground(prediction: NdarrayOrTensor, key: Hashable) -> Plane:
    """Foreground (H, W), bool, of class indices (1, H, W) or scores (C, H, W)."""
    if prediction.ndim != 3 or prediction.shape[0] < 1:
        raise ValueError(f"{key!r} has the shape {tuple(prediction.shape)}; a prediction of one image has (C, H, W)")
    array = convert_to_numpy(prediction)
    return array[0] > 0 if len(array) == 1 else array.argmax(0) > 0


def _single(record: Mapping[Hashable, Any], key: Hashable) -> Plane:
    """The one plane (H, W) of a map (1, H, W)."""
    if key not in record:
        raise KeyError(
            f"no {key!r} in the record, which has {sorted(map(str, record))}; the watershed reads the signed distance "
            "and the boundary beside the segmentation, see configs/postprocessing/watershed.yaml"
        )
    value = record[key]
    if value.ndim != 3 or value.shape[0] != 1:
        raise ValueError(f"{key!r} has the shape {tuple(value.shape)}; the watershed wants (1, H, W)")
    return convert_to_numpy(value)[0]


def _like(instances: np.ndarray, prediction: NdarrayOrTensor) -> NdarrayOrTensor:
    """Instances (1, H, W) int32 as the prediction comes: array, tensor or MetaTensor with its metadata."""
    return convert_to_dst_type(instances[None], prediction, dtype=np.int32)[0]
