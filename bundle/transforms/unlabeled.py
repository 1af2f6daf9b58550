"""Transforms of images without label."""

from __future__ import annotations

import copy

from monai.transforms import Compose, MapTransform


def allow_missing_keys(transform: Compose) -> Compose:
    """Return a copy of a chain of dictionary transforms that skips keys which a record lacks.

    So unlabeled images get the transforms of labeled ones. The copy has its own random numbers: the crops of one stream
    do not depend on the other.
    """
    copied = copy.deepcopy(transform)
    for part in copied.flatten().transforms:
        if isinstance(part, MapTransform):
            part.allow_missing_keys = True
    return copied
