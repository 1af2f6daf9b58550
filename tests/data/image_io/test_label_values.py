"""Interpretation of mask values, and masks smoothed by JPEG or resizing."""

from __future__ import annotations

import io
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from bundle.data.image_io.label_values import label_kind
from bundle.data.image_io.pictures import read_label


def rings(height: int = 96, width: int = 128, count: int = 6) -> np.ndarray:
    """Numbered ellipses with holes; neighbors touch."""
    y, x = np.mgrid[:height, :width]
    label = np.zeros((height, width), np.uint8)
    for number in range(count):
        down, right = 24 + 44 * (number // 3), 22 + 42 * (number % 3)
        away = ((y - down) / 22) ** 2 + ((x - right) / 21) ** 2
        label[(away < 1) & (away > 0.15)] = number + 1
    return label


def binary() -> np.ndarray:
    return (rings() > 0) * np.uint8(255)


def jpeg(label: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(label).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def resized(label: np.ndarray, scale: float, how: Image.Resampling) -> np.ndarray:
    size = (round(label.shape[1] * scale), round(label.shape[0] * scale))
    return np.asarray(Image.fromarray(label).resize(size, how))


SQUARE = np.zeros((7, 9), np.int32)
SQUARE[2:5, 3:6] = 1


@pytest.mark.parametrize(
    ("label", "reading"),
    [
        (SQUARE * 0, "empty"),
        (SQUARE * 0 + 255, "full"),
        (SQUARE, "binary"),
        (SQUARE * 255, "binary"),
        (SQUARE * 70000, "binary"),
        (SQUARE.astype(bool), "binary"),
        (SQUARE.astype(bool) | True, "full"),
        (SQUARE.astype(np.float64), "binary"),
        (SQUARE.astype(np.uint16) * 300, "binary"),
        (SQUARE + 1, "instances"),
        (np.cumsum(SQUARE, 1), "instances"),
        (rings(), "instances"),
        (rings().astype(np.int32) * 1000, "instances"),
        (rings().astype(np.float32), "instances"),
        (rings().astype(">u2"), "instances"),
        (rings()[:, ::-1].T, "instances"),
        (np.arange(1, 6, dtype=np.uint8)[None].repeat(3, 0), "instances"),
        (np.arange(1, 6, dtype=np.uint8)[:, None], "instances"),
    ],
)
def test_the_interpretation_of_values(label: np.ndarray, reading: str) -> None:
    assert label_kind(label) == reading


@pytest.mark.parametrize(
    ("label", "classes", "reading"),
    [(SQUARE * 0, 3, "empty"), (SQUARE, 3, "classes"), (SQUARE * 2, 3, "classes"), (SQUARE * 0 + 2, 3, "classes")],
)
def test_with_a_number_of_classes_values_are_classes(label: np.ndarray, classes: int, reading: str) -> None:
    assert label_kind(label, classes) == reading


def test_classes_in_many_pieces_need_their_number() -> None:
    label = ((np.mgrid[:60, :60] // 6).sum(0) % 3).astype(np.uint8)
    assert label_kind(label, 3) == "classes"
    with pytest.raises(ValueError, match=r"2 values have .* pieces.*, or give the number of classes"):
        label_kind(label)


@pytest.mark.parametrize(
    ("label", "classes", "message"),
    [
        (SQUARE - 1, None, "the lowest value is -1; give a mask of integers, 0 for background"),
        (SQUARE * 0.5, None, "some values are fractions or not finite"),
        (np.full((7, 9), np.inf), None, "some values are fractions or not finite"),
        (SQUARE * 1j, None, "values have the type complex128"),
        (SQUARE * 3, 3, "the highest value is 3, but 3 classes have values up to 2"),
        (SQUARE * 255, 2, "the highest value is 255, but 2 classes"),
        (SQUARE.astype(np.int64) << 25, None, "the highest value is 33554432; number the glands 1, 2, 3 and so on, up"),
        (SQUARE[:0], None, "it has no pixels"),
    ],
)
def test_invalid_values_are_refused(label: np.ndarray, classes: int | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        label_kind(label, classes)


@pytest.mark.parametrize("quality", [5, 20, 50, 75, 90, 95, 100])
def test_a_mask_that_was_a_jpeg_is_refused(quality: int) -> None:
    with pytest.raises(ValueError, match="as in a mask smoothed by JPEG or resizing"):
        label_kind(jpeg(binary(), quality))


@pytest.mark.parametrize("quality", [50, 75, 90, 95])
def test_a_numbered_mask_that_was_a_jpeg_is_refused(quality: int) -> None:
    with pytest.raises(ValueError, match="as in a mask smoothed"):
        label_kind(jpeg(rings() * 20, quality))


@pytest.mark.parametrize("label", [binary(), rings(), (rings() == 2) * np.uint8(255)], ids=["all", "numbers", "one"])
@pytest.mark.parametrize("scale", [0.4, 0.8, 1.3, 2, 3.5])
@pytest.mark.parametrize("how", [Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS])
def test_a_mask_resized_with_smoothing_is_refused(label: np.ndarray, scale: float, how: Image.Resampling) -> None:
    with pytest.raises(ValueError, match="as in a mask smoothed"):
        label_kind(resized(label, scale, how))


@pytest.mark.parametrize("scale", [0.3, 0.8, 1.3, 2, 3.5])
def test_a_mask_resized_without_smoothing_is_accepted(scale: float) -> None:
    assert label_kind(resized(rings(), scale, Image.Resampling.NEAREST)) == "instances"
    assert label_kind(resized(binary(), scale, Image.Resampling.NEAREST)) == "binary"


def test_a_few_split_glands_are_accepted() -> None:
    label = rings()
    label[::31] = 0
    pieces = sum(ndimage.label(label == number)[1] for number in range(1, 7))
    assert pieces > 10
    assert label_kind(label) == "instances"


def test_numbered_specks_on_background_are_accepted() -> None:
    """Specks on background are numbered by annotation programs; those from smoothing touch other values."""
    label, count = ndimage.label(np.random.default_rng(0).random((80, 90)) < 0.1)
    assert count > 300
    assert label_kind(label) == "instances"


def test_touching_numbered_glands_are_accepted() -> None:
    label = (np.arange(60)[:, None] // 4 * 15 + np.arange(60) // 4 + 1).astype(np.int32)
    assert label_kind(label) == "instances"


def test_masks_of_the_phantom_are_accepted(phantom_dir: Path) -> None:
    masks = sorted((phantom_dir / "label").iterdir())
    assert {label_kind(read_label(mask).pixels) for mask in masks} <= {"instances", "binary"}
    assert len(masks) == 13


def test_masks_of_glas_are_accepted(glas_dir: Path) -> None:
    masks = sorted(file for file in glas_dir.iterdir() if file.stem.endswith("_anno"))
    readings = {mask.stem.removesuffix("_anno"): label_kind(read_label(mask).pixels) for mask in masks}
    assert len(readings) == 165
    assert set(readings.values()) == {"instances", "binary"}
    assert {readings[f"testB_{number}"] for number in (3, 11, 18, 19)} == {"binary"}


def test_it_is_fast() -> None:
    label = np.tile(rings().astype(np.int32), (6, 7))[:522, :775]
    label += (label > 0) * ((np.arange(522) // 96)[:, None] * 7 + np.arange(775) // 128) * 6
    seconds = []
    for _ in range(5):
        start = time.thread_time()
        label_kind(label)
        seconds.append(time.thread_time() - start)
    assert min(seconds) < 0.02  # 1.3 ms on a desktop core; ten times as long with scikit-image's label
