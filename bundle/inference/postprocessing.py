"""Dictionary transforms that turn a prediction into probabilities and instances."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from monai.config.type_definitions import KeysCollection, NdarrayOrTensor
from monai.transforms.transform import MapTransform
from monai.utils import convert_to_dst_type, convert_to_numpy, ensure_tuple_rep

from bundle.inference.components import Plane, check_areas, component_instances
from bundle.inference.watershed import check_levels, watershed_instances
from bundle.types import PRED


class ForegroundProbabilityd(MapTransform):
    """Dictionary transform that adds the probability of each foreground class of a prediction.

    Args:
        keys: logits (classes, H, W), background first.
        target_key: key of the probabilities (classes - 1, H, W), float32, one for each of ``keys``.
    """

    def __init__(self, keys: KeysCollection = PRED, target_key: KeysCollection = "probability") -> None:
        super().__init__(keys)
        self.target_keys = ensure_tuple_rep(target_key, len(self.keys))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of the record with the probabilities."""
        record = dict(data)
        for key, target in self.key_iterator(record, self.target_keys):
            record[target] = record[key].float().softmax(0)[1:]
        return record


class ComponentInstancesd(MapTransform):
    """Dictionary transform that adds the connected components of a prediction; see :func:`component_instances`."""

    def __init__(
        self,
        keys: KeysCollection = "pred",
        target_key: KeysCollection = "pred_instances",
        connectivity: int = 2,
        min_area: float = 0,
        hole_area: float = 0,
        allow_missing_keys: bool = False,
    ) -> None:
        """Create the transform.

        Args:
            keys: class indices or masks (1, H, W), values above 0 are gland; or scores (C, H, W), whose argmax is
                taken, class 0 is background.
            target_key: key of the instances, one for each of ``keys``.
            connectivity: 1 connects pixels by their sides, 2 also by their corners.
            min_area: components with fewer px are removed.
            hole_area: holes of at most this many px are filled first; 0 fills none.
            allow_missing_keys: whether a record may lack the prediction.

        Raises:
            ValueError: if a setting is outside its range.
        """
        super().__init__(keys, allow_missing_keys)
        check_areas(connectivity, min_area=min_area, hole_area=hole_area)
        self.target_keys = ensure_tuple_rep(target_key, len(self.keys))
        self.settings: dict[str, Any] = {"connectivity": connectivity, "min_area": min_area, "hole_area": hole_area}

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of the record with instances (1, H, W) int32, with the type and metadata of the prediction.

        Raises:
            ValueError: if a prediction is not (C, H, W).
        """
        record = dict(data)
        for key, target in self.key_iterator(record, self.target_keys):
            instances = component_instances(_foreground(record[key], key), **self.settings)
            record[target] = _like(instances, record[key])
        return record


class WatershedInstancesd(MapTransform):
    """Dictionary transform that adds the instances of a watershed; see :func:`watershed_instances`.

    The record must hold the signed distance and the boundary map beside the segmentation, as from
    :class:`StackedHeads` and :class:`UnstackHeadsd`.
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
        """Create the transform.

        Args:
            keys: class indices or masks (1, H, W), or scores (C, H, W), as for :class:`ComponentInstancesd`.
            distance_key: signed distance (1, H, W) in [-1, 1].
            boundary_key: boundary probability (1, H, W) in [0, 1].
            target_key: key of the instances, one for each of ``keys``.
            seed_level: minimum distance of a seed pixel (exclusive), in [-1, 1).
            boundary_level: maximum boundary probability of a seed pixel, in [0, 1].
            boundary_weight: height of a boundary in the landscape, in units of the distance, 0 or more.
            min_seed_area: seeds with fewer px are removed.
            min_area: glands with fewer px are merged into a neighbor, or removed if they have none.
            hole_area: holes of at most this many px are filled first; 0 fills none.
            connectivity: 1 connects pixels by their sides, 2 also by their corners.
            allow_missing_keys: whether a record may lack the prediction.

        Raises:
            ValueError: if a setting is outside its range.
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
        """Return a copy of the record with instances (1, H, W) int32, with the type and metadata of the prediction.

        Raises:
            KeyError: if the record lacks the distance or the boundary.
            ValueError: if a map is not (C, H, W), or the maps differ in size.
        """
        record = dict(data)
        for key, target in self.key_iterator(record, self.target_keys):
            foreground = _foreground(record[key], key)
            distance, boundary = (_single(record, name) for name in (self.distance_key, self.boundary_key))
            instances = watershed_instances(foreground, distance, boundary, **self.settings)
            record[target] = _like(instances, record[key])
        return record


def _foreground(prediction: NdarrayOrTensor, key: Hashable) -> Plane:
    """Return the foreground (H, W), bool, of class indices (1, H, W) or scores (C, H, W)."""
    if prediction.ndim != 3 or prediction.shape[0] < 1:
        raise ValueError(f"{key!r} has the shape {tuple(prediction.shape)}; a prediction of one image has (C, H, W)")
    array = convert_to_numpy(prediction)
    return array[0] > 0 if len(array) == 1 else array.argmax(0) > 0


def _single(record: Mapping[Hashable, Any], key: Hashable) -> Plane:
    """Return the only channel (H, W) of a map (1, H, W)."""
    if key not in record:
        raise KeyError(
            f"no {key!r} in the record, which has {sorted(map(str, record))}; the watershed needs the signed distance "
            "and the boundary beside the segmentation, see configs/postprocessing/watershed.yaml"
        )
    value = record[key]
    if value.ndim != 3 or value.shape[0] != 1:
        raise ValueError(f"{key!r} has the shape {tuple(value.shape)}; the watershed needs (1, H, W)")
    return convert_to_numpy(value)[0]


def _like(instances: np.ndarray, prediction: NdarrayOrTensor) -> NdarrayOrTensor:
    """Convert instances to (1, H, W) int32 in the type of the prediction: array, tensor or MetaTensor with metadata."""
    return convert_to_dst_type(instances[None], prediction, dtype=np.int32)[0]
