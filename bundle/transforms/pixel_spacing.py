"""Pixel spacing: writes the resolution of a data list into the affine that MONAI resamples by."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

logger = logging.getLogger(__name__)

MOST_PIXELS = 2**26
"""Largest number of pixels to which an image is enlarged."""


class SetPixelSized(MapTransform):
    """Write the pixel size in um into the affine of images, so that ``Spacingd`` can resample them.

    The resolution is read from the data list (key ``mpp``, um/px, isotropic), because that in image files is not
    reliable. Images of unknown resolution get ``default``, the working resolution, and are not resampled.

    Args:
        keys: images and labels, each a ``MetaTensor`` (C, H, W).
        default: um/px if the entry has no ``mpp``.
        mpp_key: key of um/px in the entry.
        override: um/px for all images; takes precedence over their entries.
        allow_missing_keys: whether a key may be absent.

    Raises:
        ValueError: if a resolution is not a number above 0, or an image would be enlarged to more than
            ``MOST_PIXELS``, or reduced to nothing.
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
            raise ValueError(f"mpp is {override!r}; give the width of a pixel in um, a number above 0")
        self.default = default
        self.mpp_key = mpp_key
        self.override = override
        self._logged = False

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Set the affine of each image to diag(mpp, mpp, 1), and its metadata ``mpp`` if the resolution is known."""
        entry = dict(data)
        mpp = self.override if self.override is not None else entry.get(self.mpp_key)
        known = {} if mpp is None else {self.mpp_key: float(mpp)}
        if mpp is None:
            mpp = self.default
            if not self._logged:
                logger.info("The um/px of images is unknown: they are used as if at %s um/px.", self.default)
                self._logged = True
        if not float(mpp) > 0.0:
            raise ValueError(f"{self.mpp_key} must be above 0 um/px, got {mpp!r}")
        affine = torch.diag(torch.tensor([float(mpp), float(mpp), 1.0], dtype=torch.float64))
        for key in self.key_iterator(entry):
            image = entry[key]
            self._check_size(image, float(mpp))
            meta = {name: value for name, value in getattr(image, "meta", {}).items() if name != "affine"}
            entry[key] = MetaTensor(image, affine=affine.clone(), meta={**meta, **known})
        return entry

    def _check_size(self, image: Any, mpp: float) -> None:
        height, width = (max(side * mpp / self.default, 0.0) for side in image.shape[-2:])
        vanishes = max(height, width) < 1 < max(image.shape[-2:])  # an image of one pixel stays one
        if (mpp <= self.default or height * width <= MOST_PIXELS) and not vanishes:
            return
        name = getattr(image, "meta", {}).get("filename_or_obj", "the image")
        raise ValueError(
            f"{name} would have {width:.6g} x {height:.6g} px, resampled from {mpp:g} to {self.default:g} um/px; "
            f"correct its {self.mpp_key}"
        )
