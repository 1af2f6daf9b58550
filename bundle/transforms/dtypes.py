"""Compact data types for the cache, and plain tensors for the network."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from torch import Tensor

from bundle.types import FILE, IMAGE, LABEL

INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32)
"""Types of label maps, smallest first; without uint16, which torch supports only in part."""


class ToUint8d(MapTransform):
    """Round colors to uint8, so that a cached tile takes a quarter of the memory.

    Place it last among the deterministic transforms and normalize after the random crop, on fewer pixels. Values change
    by at most half a step of 256.

    Args:
        keys: images (C, H, W), values in [0, 255]; values outside, from resampling, are clipped.
        allow_missing_keys: whether a key may be absent.
    """

    def __init__(self, keys: KeysCollection = IMAGE, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of the record with images (C, H, W), uint8; a ``MetaTensor`` keeps its metadata."""
        record = dict(data)
        for key in self.key_iterator(record):
            if record[key].dtype != torch.uint8:
                record[key] = record[key].round().clamp(0, 255).to(torch.uint8)
        return record


class SmallestIntegerd(MapTransform):
    """Convert label maps to the smallest of uint8, int8, int16 and int32 that holds their values.

    Types differ between maps; make the targets before the maps are collated to a batch.

    Args:
        keys: label maps (1, H, W), integer values.
        allow_missing_keys: whether a key may be absent (unlabeled images).

    Raises:
        ValueError: if values are not integers or exceed 32 bits.
    """

    def __init__(self, keys: KeysCollection = LABEL, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of the record with integer label maps (1, H, W); a ``MetaTensor`` keeps its metadata."""
        record = dict(data)
        for key in self.key_iterator(record):
            record[key] = _to_smallest_integer(record[key], key)
        return record


class ToPlainTensors(Transform):
    """Remove metadata: convert each ``MetaTensor`` of a record to a plain tensor.

    MONAI copies metadata in every operation and between worker and training process, which takes 2 ms of the training
    process for each crop. Training only needs the file name, for error messages. Place it after the last transform of
    MONAI, because these add metadata again, and before the targets.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of the record with plain tensors, and the image's path under ``file`` if it is known."""
        record = dict(data)
        image = record.get(IMAGE)
        if isinstance(image, MetaTensor):
            record[FILE] = str(image.meta.get("filename_or_obj", ""))
        for key, value in record.items():
            if isinstance(value, MetaTensor):
                record[key] = value.as_tensor()
        return record


def _to_smallest_integer(label: Tensor, key: Hashable) -> Tensor:
    """Return the label map in the smallest type that holds its values."""
    low, high = (float(value) for value in label.aminmax()) if label.numel() else (0.0, 0.0)
    for dtype in INTEGERS:
        bounds = torch.iinfo(dtype)
        if bounds.min <= low and high <= bounds.max:
            converted = label.to(dtype)
            if label.is_floating_point() and not torch.equal(converted.to(label.dtype), label):
                raise ValueError(f"{key!r} has values that are not integers; a label map must have integer values")
            return converted
    raise ValueError(f"{key!r} has values from {low:g} to {high:g}; a label map must have values of 32 bits at most")
