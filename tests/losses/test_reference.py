"""Losses of MONAI and of this bundle, compared with values of the authors' code."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.losses import DiceLoss
from torch import Tensor

from bundle.losses import SignedDistanceLoss


@pytest.fixture
def numbers() -> dict[str, Tensor]:
    """Read the reference values; integer arrays become class indices (N, 1, H, W)."""
    folder = os.environ.get("REFERENCE_FIXTURES")
    if not folder:
        pytest.skip("REFERENCE_FIXTURES does not name the folder of semi_moe_reference.npz")
    with np.load(Path(folder) / "semi_moe_reference.npz") as arrays:
        result = {name: torch.as_tensor(arrays[name]) for name in arrays.files if name != "ids"}
    for name in ("mask", "boundary", "sdf"):
        result[name] = result[name][:, None]
    return result


def test_segmentation_dice(numbers: dict[str, Tensor]) -> None:
    """The loss S: squared denominators, smoothing 1, mean over images and both classes."""
    loss = DiceLoss(softmax=True, to_onehot_y=True, squared_pred=True, smooth_nr=1, smooth_dr=1)
    value = loss(numbers["seg_logits"].float(), numbers["mask"])
    assert value.item() == pytest.approx(numbers["loss_seg"].item(), abs=1e-6)


def test_boundary_dice(numbers: dict[str, Tensor]) -> None:
    """The loss B: plain denominators, smoothing 1e-8, mean over images and classes pooled as MONAI does."""
    loss = DiceLoss(softmax=True, to_onehot_y=True, squared_pred=False, smooth_nr=1e-8, smooth_dr=1e-8)
    value = loss(numbers["bnd_logits"].float(), numbers["boundary"])
    assert value.item() == pytest.approx(numbers["loss_bnd"].item(), abs=1e-6)


def test_signed_distance(numbers: dict[str, Tensor]) -> None:
    """The loss R, with the shapes made equal."""
    value = SignedDistanceLoss()(numbers["sdf_pred"], numbers["sdf"])
    assert value.item() == pytest.approx(numbers["loss_sdf"].item(), abs=1e-6)
