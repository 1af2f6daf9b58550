"""Pixel sizes: what cannot be resampled is refused before memory is taken."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor

from bundle.transforms import SetPixelSized


@pytest.mark.parametrize(("mpp", "size"), [(100, "100000 x 100000"), (1e-300, "1e-297 x 1e-297"), (1e300, "1e.303")])
def test_a_resolution_that_no_memory_holds_is_refused(mpp: float, size: str) -> None:
    image = MetaTensor(torch.zeros(1).expand(3, 1000, 1000), meta={"filename_or_obj": "tile.png"})
    with pytest.raises(ValueError, match=rf"tile.png would have {size}.* px, resampled from .*; correct its mpp"):
        SetPixelSized("image", default=1.0)({"image": image, "mpp": mpp})


@pytest.mark.parametrize("mpp", [None, 0.01, 1.0, 8.0])
def test_other_resolutions_are_accepted(mpp: float | None) -> None:
    image = SetPixelSized("image", default=1.0)({"image": torch.zeros(3, 1000, 1000), "mpp": mpp})["image"]
    assert image.pixdim.tolist()[:2] == [mpp or 1.0] * 2
