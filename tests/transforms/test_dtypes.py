"""Compact data types: rounding to 8 bits, the smallest integer type for labels, tensors without metadata."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor, list_data_collate
from monai.transforms import Compose, RandFlipd

from bundle.transforms import SmallestIntegerd, ToPlainTensors, ToUint8d


def meta(values: Any, dtype: torch.dtype = torch.float32) -> MetaTensor:
    affine = torch.diag(torch.tensor([0.5, 0.5, 1.0], dtype=torch.float64))
    return MetaTensor(torch.as_tensor(values, dtype=dtype), affine=affine, meta={"filename_or_obj": "/data/tile.png"})


def test_colors_are_rounded_and_not_cut_down():
    colors = meta([[[0.0, 0.4, 0.6, 127.49, 127.51, 254.6, 255.0]]])
    result = ToUint8d()({"image": colors})["image"]
    assert result.dtype == torch.uint8
    assert result.flatten().tolist() == [0, 0, 1, 127, 128, 255, 255]
    assert colors.dtype == torch.float32, "the input record is unchanged"


def test_colors_beyond_8_bits_do_not_wrap_around():
    result = ToUint8d()({"image": meta([[[-3.0, 255.4, 300.0]]])})["image"]
    assert result.flatten().tolist() == [0, 255, 255]


def test_8_bit_colors_pass_untouched():
    image = meta([[[1, 2, 255]]], torch.uint8)
    assert ToUint8d()({"image": image})["image"] is image


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([0, 255], torch.uint8),
        ([0, 256], torch.int16),
        ([-1, 3], torch.int8),
        ([-1, 128], torch.int16),
        ([0, 32767], torch.int16),
        ([0, 32768], torch.int32),
        ([-40000, 0], torch.int32),
    ],
)
def test_labels_take_the_smallest_type_that_holds_them(values, dtype):
    label = meta([[values]])
    result = SmallestIntegerd()({"label": label})["label"]
    assert result.dtype == dtype
    assert result.flatten().tolist() == values


def test_labels_that_are_not_integers_are_refused():
    with pytest.raises(ValueError, match="'label' has values that are not integers"):
        SmallestIntegerd()({"label": meta([[[0.0, 0.5]]])})
    with pytest.raises(ValueError, match="values of 32 bits at most"):
        SmallestIntegerd()({"label": meta([[[0, 2**40]]], torch.int64)})


def test_compact_pixels_keep_their_metadata():
    record = {"image": meta(np.ones((3, 2, 4)) * 7.3), "label": meta(np.ones((1, 2, 4)))}
    result = Compose([ToUint8d(), SmallestIntegerd()])(record)
    for key in ("image", "label"):
        assert isinstance(result[key], MetaTensor)
        assert result[key].affine[0, 0] == 0.5
        assert result[key].meta["filename_or_obj"] == "/data/tile.png"
        assert result[key].is_contiguous()


@pytest.mark.parametrize("transform", [ToUint8d, SmallestIntegerd])
def test_a_missing_key_is_allowed_if_set(transform):
    other = {"other": 1}
    assert transform(allow_missing_keys=True)(other) == other
    with pytest.raises(KeyError):
        transform()(other)


def test_plain_tensors_have_no_metadata_except_the_file_name():
    image, label = meta(np.ones((3, 2, 2))), meta(np.ones((1, 2, 2)))
    result = ToPlainTensors()({"image": image, "label": label, "grade": "benign"})
    assert {key: type(value) for key, value in result.items()} == {
        "image": torch.Tensor,
        "label": torch.Tensor,
        "grade": str,
        "file": str,
    }
    assert result["file"] == "/data/tile.png"
    assert torch.equal(result["image"], image.as_tensor())
    assert list_data_collate([result, result])["file"] == ["/data/tile.png"] * 2


def test_images_without_a_file_pass():
    assert set(ToPlainTensors()({"image": torch.ones(3, 2, 2)})) == {"image"}
    drawn = Compose([RandFlipd("image", prob=1.0), ToPlainTensors()])({"image": torch.ones(3, 2, 2)})
    assert type(drawn["image"]) is torch.Tensor
    assert drawn["file"] == ""
