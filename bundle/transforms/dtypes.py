"""Small forms: pixels of 8 bits for the cache, and plain tensors on the way to the network."""

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
"""What label maps are kept in, smallest first; not uint16, which torch does half."""


class EightBitd(MapTransform):
    """Rounds colors to whole numbers of 8 bits, so that a cached tile takes a quarter of the memory.

    Place it last among the fixed transforms, and normalize after the random crop: fewer pixels, and the same numbers
    to within half a step of 256.

    Args:
        keys: images (C, H, W), values in [0, 255]; what resampling brought beyond is cut.
        allow_missing_keys: whether a key may be absent.
    """

    def __init__(self, keys: KeysCollection = IMAGE, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Give a copy of the record with images (C, H, W) uint8; a ``MetaTensor`` keeps its metadata."""
        record = dict(data)
        for key in self.key_iterator(record):
            if record[key].dtype != torch.uint8:
                record[key] = record[key].round().clamp(0, 255).to(torch.uint8)
        return record


class SmallestIntegerd(MapTransform):
    """Keeps label maps in the smallest of uint8, int8, int16 and int32 that holds their values.

    Each map has a type of its own; they lie in one batch once the targets are made.

    Args:
        keys: label maps (1, H, W), whole numbers.
        allow_missing_keys: whether a key may be absent (unlabeled images).

    Raises:
        ValueError: for values that are not whole, or beyond 32 bits.
    """

    def __init__(self, keys: KeysCollection = LABEL, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Give a copy of the record with label maps (1, H, W) of integers; a ``MetaTensor`` keeps its metadata."""
        record = dict(data)
        for key in self.key_iterator(record):
            record[key] = _smallest(record[key], key)
        return record


class PlainTensors(Transform):
    """Takes the metadata off: each ``MetaTensor`` of a record becomes a plain tensor.

    MONAI copies metadata in every operation, and through the pipe of a worker: 2 ms of the training's own process for
    each crop. Training needs none of it but the name of the file, for its errors. Place it after the last transform of
    MONAI (they put metadata on again), and before the targets.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Give a copy of the record with plain tensors, and under ``file`` the name of the image's file, if known."""
        record = dict(data)
        image = record.get(IMAGE)
        if isinstance(image, MetaTensor):
            record[FILE] = str(image.meta.get("filename_or_obj", ""))
        for key, value in record.items():
            if isinstance(value, MetaTensor):
                record[key] = value.as_tensor()
        return record


def _smallest(label: Tensor, key: Hashable) -> Tensor:
    low, high = (float(value) for value in label.aminmax()) if label.numel() else (0.0, 0.0)
    for dtype in INTEGERS:
        bounds = torch.iinfo(dtype)
        if bounds.min <= low and high <= bounds.max:
            small = label.to(dtype)
            if label.is_floating_point() and not torch.equal(small.to(label.dtype), label):
                raise ValueError(f"{key!r} holds values that are not whole; a label map has whole numbers")
            return small
    raise ValueError(f"{key!r} holds values from {low:g} to {high:g}; a label map has numbers of 32 bits at most")
