"""Slices of NIfTI volumes: order, orientation, and one scaling for the whole volume."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from bundle.data.image_io.pictures import read_image, volume_slices

SHAPE = (4, 5, 6)
GRAY = np.arange(120, dtype=np.uint8).reshape(SHAPE)
RGB = np.random.default_rng(0).integers(0, 256, (*SHAPE, 3), dtype=np.uint8)
LABEL = (np.arange(120).reshape(SHAPE) // 30 * 300).astype(np.int16)


def save(path: Path, array: np.ndarray, slope: float | None = None) -> Path:
    image = nibabel.Nifti1Image(array, np.eye(4))
    if slope is not None:
        image.header.set_slope_inter(slope, 0)
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_slices_have_the_orientation_of_flat_pictures(axis: int, name: str, tmp_path: Path) -> None:
    path = save(tmp_path / name, GRAY)
    slices = list(volume_slices(path, axis))
    assert [index for index, _ in slices] == list(range(SHAPE[axis]))
    for index, pixels in slices:
        flat = save(tmp_path / "flat.nii", GRAY.take(index, axis))
        assert pixels.dtype == np.uint8
        np.testing.assert_array_equal(pixels, read_image(flat).pixels)
        np.testing.assert_array_equal(pixels[..., 0], GRAY.take(index, axis).T)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_of_colors(axis: int, tmp_path: Path) -> None:
    kind = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
    for array in (RGB, RGB[:, :, :, None], np.ascontiguousarray(RGB).view(kind)[..., 0]):
        for index, pixels in volume_slices(save(tmp_path / "a.nii", array), axis):
            np.testing.assert_array_equal(pixels, RGB.take(index, axis).transpose(1, 0, 2))


def test_transparent_parts_of_slices_are_white(tmp_path: Path) -> None:
    alpha = np.where(np.arange(5) < 2, 255, 0).astype(np.uint8)[None, :, None, None].repeat(4, 0).repeat(6, 2)
    for _, pixels in volume_slices(save(tmp_path / "a.nii", np.concatenate([RGB, alpha], 3)), 2):
        assert (pixels[2:] == 255).all()
        assert (pixels[:2] != 255).any()


def test_a_volume_has_one_scale(tmp_path: Path) -> None:
    """The first slice alone would be interpreted as 8 bits."""
    volume = np.stack([np.full((4, 5), value, np.uint16) for value in (200, 4000)], -1)
    first, last = (pixels for _, pixels in volume_slices(save(tmp_path / "a.nii", volume), 2))
    assert (first == round(200 / 4095 * 255)).all()
    assert (last == round(4000 / 4095 * 255)).all()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_of_labels_keep_their_numbers(axis: int, tmp_path: Path) -> None:
    for index, values in volume_slices(save(tmp_path / "a.nii.gz", LABEL), axis, "label"):
        assert values.dtype == np.int32
        np.testing.assert_array_equal(values, LABEL.take(index, axis).T)


def test_scaled_labels_are_their_scaled_numbers(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", (LABEL // 300).astype(np.int16), slope=2.0)
    for index, values in volume_slices(path, 2, "label"):
        np.testing.assert_array_equal(values, nibabel.load(path).get_fdata()[..., index].T)


def test_classes_of_slices_are_checked(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", LABEL // 300)
    assert len(list(volume_slices(path, 2, "label", classes=4))) == 6
    with pytest.raises(ValueError, match=r"a\.nii: the highest value is 3, but 3 classes"):
        list(volume_slices(path, 2, "label", classes=3))


@pytest.mark.parametrize(
    ("array", "axis", "kind", "message"),
    [
        (GRAY, 3, "image", "a volume has no axis 3; give 0, 1 or 2"),
        (GRAY, 0, "mask", "kind is 'mask'; give image or label"),
        (GRAY[0], 0, "image", r"a\.nii has the shape \(5, 6\); give a volume"),
        (GRAY[..., None].repeat(7, 3), 0, "image", r"shape \(4, 5, 6, 7\); give a volume"),
        (GRAY.astype(np.int16) - 100, 0, "image", "the lowest value is -100"),
        (GRAY.astype(np.int16) - 100, 0, "label", "the lowest value is -100"),
        (RGB, 0, "label", "a mask must have one channel"),
    ],
)
def test_other_shapes_are_refused(array: np.ndarray, axis: int, kind: str, message: str, tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", array)
    with pytest.raises(ValueError, match=message):
        list(volume_slices(path, axis, kind))


def test_a_truncated_volume_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii.gz", RGB)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"a\.nii\.gz is not a readable picture"):
        list(volume_slices(path, 0))
    with pytest.raises(FileNotFoundError, match="no file"):
        list(volume_slices(tmp_path / "b.nii", 0))
