"""Bringing images to one resolution: the pixel size of a data list becomes the affine that MONAI resamples by."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

logger = logging.getLogger(__name__)


class PixelSized(MapTransform):
    """Writes the size of a pixel, in um, into the affine of images, so that ``Spacingd`` can resample them.

    Pictures carry no trustworthy resolution, data lists do (key ``mpp``, um/px, isotropic). An image whose
    resolution nobody knows is taken to have ``default``, the working resolution: it is used as it is.

    Args:
        keys: images and labels, each a ``MetaTensor`` (C, H, W).
        default: um/px where the entry has no ``mpp``.
        mpp_key: key of the entry that holds um/px.
        override: um/px for all images, whatever their entries say.
        allow_missing_keys: whether a key may be absent.

    Raises:
        ValueError: for a resolution that is not positive.
    """

    def __init__(
        self,
        keys: KeysCollection,
        default: float,
        mpp_key: str = "mpp",
        override: float | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if isinstance(override, bool | str):
            raise ValueError(f"mpp is {override!r}; write the width of a pixel in um, a number above 0")
        self.default = default
        self.mpp_key = mpp_key
        self.override = override
        self._noted = False

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Set the affine of each image to diag(mpp, mpp, 1), and its metadata ``mpp`` where somebody knows it."""
        entry = dict(data)
        mpp = self.override if self.override is not None else entry.get(self.mpp_key)
        told = {} if mpp is None else {self.mpp_key: float(mpp)}
        if mpp is None:
            mpp = self.default
            if not self._noted:
                logger.info("No um/px known for the images: used as they are, as if at %s um/px.", self.default)
                self._noted = True
        if not float(mpp) > 0.0:
            raise ValueError(f"{self.mpp_key} must be above 0 um/px, got {mpp!r}")
        affine = torch.diag(torch.tensor([float(mpp), float(mpp), 1.0], dtype=torch.float64))
        for key in self.key_iterator(entry):
            image = entry[key]
            meta = {name: value for name, value in getattr(image, "meta", {}).items() if name != "affine"}
            entry[key] = MetaTensor(image, affine=affine.clone(), meta={**meta, **told})
        return entry
