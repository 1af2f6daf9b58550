"""Transforms of unlabeled images: those of labeled ones, with a label that may be missing and own random numbers."""

from __future__ import annotations

import pytest
import torch
from monai.transforms import Compose, RandSpatialCropd

from bundle.transforms import ForegroundClassd, ToPlainTensors, allow_missing_keys


def test_a_copy_skips_the_missing_label_and_draws_for_itself():
    crops = RandSpatialCropd(["image", "label"], roi_size=(4, 4))
    labeled = Compose([crops, ToPlainTensors(), Compose([ForegroundClassd()])])
    unlabeled = allow_missing_keys(labeled)
    image = torch.arange(40.0 * 40).reshape(1, 40, 40)
    with pytest.raises(RuntimeError):
        labeled({"image": image})
    assert unlabeled({"image": image})["image"].shape == (1, 4, 4)
    record = {"image": image, "label": torch.ones_like(image)}
    labeled.set_random_state(seed=1)
    unlabeled.set_random_state(seed=2)
    drawn = labeled(record)["image"]
    assert not torch.equal(drawn, unlabeled(record)["image"])
    unlabeled.set_random_state(seed=1)
    assert torch.equal(drawn, unlabeled(record)["image"])
