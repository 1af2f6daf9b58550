"""Targets compared with hand-drawn 7 x 7 masks, scipy and results of the authors' code."""

from __future__ import annotations

import os
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor, list_data_collate
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, distance_transform_edt

from bundle.transforms import (
    Boundaryd,
    ForegroundClassd,
    SignedDistanced,
    boundary_band,
    foreground_class,
    signed_distance,
)


def drawn(text: str) -> NDArray[np.int64]:
    """Convert a drawing, one digit for each pixel and a dot for 0, to (1, H, W)."""
    return np.array([[int(digit.replace(".", "0")) for digit in row] for row in text.split()])[None]


SQUARE = drawn("....... ....... ..111.. ..111.. ..111.. ....... .......")
CUT = drawn("111.... 111.... 111.... 111.... 111.... 111.... 111....")
TOUCHING = drawn("....... ....... .11222. .11222. .11222. ....... .......")
CORNER = drawn("11..... 11..... ..22... ..22... ....... ....... .......")
EMPTY = np.zeros((1, 7, 7), np.int64)
FULL = np.ones((1, 7, 7), np.int64)


def disk(radius: int) -> NDArray[np.bool_]:
    """Draw a disk by its definition."""
    rows, columns = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return rows**2 + columns**2 <= radius**2


def reference() -> Any:
    """Open the results of the authors' code, if they are available."""
    folder = os.environ.get("REFERENCE_FIXTURES")
    if not folder:
        pytest.skip("REFERENCE_FIXTURES does not name the folder of semi_moe_reference.npz")
    return np.load(Path(folder) / "semi_moe_reference.npz")


def test_clip_has_sign_and_unit() -> None:
    """A 3 x 3 gland: half a pixel on either side of its edge, the center 1.5 px inside."""
    distance = signed_distance(SQUARE, "clip", 4.0)[0]
    assert distance.dtype == np.float32
    np.testing.assert_allclose(distance[3] * 4, [-1.5, -0.5, 0.5, 1.5, 0.5, -0.5, -1.5])
    np.testing.assert_allclose(distance[2] * 4, [-1.5, -0.5, 0.5, 0.5, 0.5, -0.5, -1.5])
    assert distance[0, 0] * 4 == pytest.approx(0.5 - 8**0.5)
    np.testing.assert_array_equal(distance > 0, SQUARE[0] > 0)


def test_clip_is_clipped_at_one() -> None:
    """Farther than the maximum distance is +-1."""
    distance = signed_distance(SQUARE, "clip", 1.0)[0]
    np.testing.assert_allclose(distance[3], [-1, -0.5, 0.5, 1, 0.5, -0.5, -1])


def test_maximum_scales_each_side() -> None:
    """Gland edge 0, center +1, outermost corner -1."""
    distance = signed_distance(SQUARE, "maximum")[0]
    farthest = 8**0.5
    np.testing.assert_allclose(distance[3], np.array([-2, -1, 0, farthest, 0, -1, -2]) / farthest, rtol=1e-6)
    assert distance[0, 0] == -1


@pytest.mark.parametrize("mode", ["clip", "maximum"])
def test_image_border_is_not_a_boundary(mode: Any) -> None:
    """The distance inside a gland cut by the border is largest at the border; all rows are equal."""
    distance = signed_distance(CUT, mode, 10.0)[0]
    expected = {
        "clip": [0.25, 0.15, 0.05, -0.05, -0.15, -0.25, -0.35],
        "maximum": [1, 2 / 3, 0, -0.25, -0.5, -0.75, -1],
    }
    np.testing.assert_allclose(distance, np.tile(expected[mode], (7, 1)), rtol=1e-6)
    np.testing.assert_array_equal(boundary_band(CUT)[0], np.tile([0, 0, 0, 1, 1, 0, 0], (7, 1)))


@pytest.mark.parametrize("maximum_distance", [20.0, 500.0])
@pytest.mark.parametrize("mode", ["clip", "maximum"])
def test_empty_and_full_masks(mode: Any, maximum_distance: float) -> None:
    """An empty mask is -1, a full mask +1, and neither has a boundary."""
    assert (signed_distance(EMPTY, mode, maximum_distance) == -1).all()
    assert (signed_distance(FULL, mode, maximum_distance) == 1).all()
    assert not boundary_band(EMPTY).any()
    assert not boundary_band(FULL).any()


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (2, 3)])
def test_small_planes(size: tuple[int, int]) -> None:
    """Planes smaller than the disk and the distance work too."""
    mask = np.zeros(size, np.uint8)
    mask[0, 0] = 1
    for mode in ("clip", "maximum"):
        assert np.isfinite(signed_distance(mask, mode)).all()
    assert boundary_band(mask, radius=3).sum() == min(mask.size - 1, 3 if mask.shape != (2, 3) else 5)


def test_boundary_is_the_outer_band() -> None:
    """With radius 2, the band around a 3 x 3 gland does not reach the corners of the 7 x 7 plane."""
    expected = drawn("..111.. .11111. 11...11 11...11 11...11 .11111. ..111..")
    np.testing.assert_array_equal(boundary_band(SQUARE), expected)
    np.testing.assert_array_equal(boundary_band(SQUARE * 255), expected)
    np.testing.assert_array_equal(boundary_band(SQUARE, radius=1), drawn(
        "....... ..111.. .1...1. .1...1. .1...1. ..111.. ......."
    ))  # fmt: skip


def test_touching_glands_are_separated() -> None:
    """With instances, 2 px of either gland along the line where they touch; without, nothing inside."""
    separate, merged = boundary_band(TOUCHING)[0], boundary_band(TOUCHING, instances="false")[0]
    np.testing.assert_array_equal(separate[2:5], np.tile([1, 1, 1, 1, 1, 0, 1], (3, 1)))
    np.testing.assert_array_equal(merged[2:5], np.tile([1, 0, 0, 0, 0, 0, 1], (3, 1)))
    np.testing.assert_array_equal(separate[[0, 1, 5, 6]], merged[[0, 1, 5, 6]])


def test_glands_that_touch_at_a_corner_are_separated() -> None:
    """No remaining pixel of one gland touches one of the other."""
    remaining = np.where(boundary_band(CORNER)[0] > 0, 0, CORNER[0])
    neighbors = binary_dilation(remaining == 1, np.ones((3, 3)))
    assert not (neighbors & (remaining == 2)).any()


def test_band_is_the_union_of_each_glands_band() -> None:
    """Compared with the definition: dilation by a disk minus the gland, for each gland."""
    label = np.random.default_rng(0).integers(0, 4, (40, 30)).repeat(4, 0).repeat(3, 1)
    for radius in (1, 2, 3):
        glands = [label == instance for instance in (1, 2, 3)]
        expected = np.any([binary_dilation(gland, disk(radius)) & ~gland for gland in glands], axis=0)
        np.testing.assert_array_equal(boundary_band(label, radius), expected)


@pytest.mark.parametrize("maximum_distance", [0.3, 5.0, 20.5, 63.5, 64.0, 200.0])
def test_clip_agrees_with_scipy(maximum_distance: float) -> None:
    """The search in a limited range gives the distances of scipy."""
    generator = np.random.default_rng(1)
    for share in (0.001, 0.02, 0.5, 0.999):
        mask = generator.random((90, 70)) < share
        signed = distance_transform_edt(mask) - distance_transform_edt(~mask)
        expected = np.clip((signed - 0.5 * np.sign(signed)) / maximum_distance, -1, 1)
        np.testing.assert_allclose(signed_distance(mask, "clip", maximum_distance), expected, atol=1e-6)


def test_equals_the_authors_targets() -> None:
    """Their signed distance and boundary on six GlaS masks."""
    numbers = reference()
    mask = numbers["mask"][:, None]
    np.testing.assert_allclose(signed_distance(mask, "maximum")[:, 0], numbers["sdf"], atol=1e-6)
    np.testing.assert_array_equal(boundary_band(mask, instances=False)[:, 0], numbers["boundary"])


def test_planes_are_measured_separately() -> None:
    """A batch gives the results of its images."""
    batch = torch.as_tensor(np.stack([SQUARE, CUT, TOUCHING]))
    for mode in ("clip", "maximum"):
        together = signed_distance(batch, mode)
        assert isinstance(together, torch.Tensor)
        assert together.shape == (3, 1, 7, 7)
        for image, expected in zip(batch, together, strict=True):
            torch.testing.assert_close(signed_distance(image, mode), expected)


@pytest.mark.parametrize(
    "kind", [np.asarray, torch.as_tensor, lambda label: MetaTensor(torch.as_tensor(label).float())]
)
def test_transforms_keep_the_type_and_collate(kind: Any) -> None:
    """Arrays, tensors and MetaTensors keep their type, the input record is unchanged, and the batch has tensors."""
    record: dict[Hashable, Any] = {"label": kind(TOUCHING)}
    result = ForegroundClassd()(Boundaryd()(SignedDistanced()(record)))
    assert set(record) == {"label"}
    assert {key: str(value.dtype).removeprefix("torch.") for key, value in result.items()} == {
        "label": "uint8",
        "sdf": "float32",
        "boundary": "uint8",
    }
    assert all(type(value) is type(record["label"]) and value.shape == (1, 7, 7) for value in result.values())
    batch = list_data_collate([result, result])
    assert all(isinstance(value, torch.Tensor) and value.shape == (2, 1, 7, 7) for value in batch.values())
    np.testing.assert_array_equal(np.asarray(result["label"]), TOUCHING > 0)


def test_foreground_class_of_0_and_255() -> None:
    """Any value above 0 is class 1."""
    np.testing.assert_array_equal(foreground_class(SQUARE.astype(np.uint8) * 255), SQUARE)


def test_unlabeled_records_pass() -> None:
    """Without a label, nothing is added with allow_missing_keys; else a KeyError is raised."""
    assert SignedDistanced(allow_missing_keys=True)({"image": 0}) == {"image": 0}
    with pytest.raises(KeyError):
        Boundaryd()({"image": 0})


def test_wrong_settings_are_refused() -> None:
    """Invalid settings and shapes raise ValueError."""
    for wrong in ({"mode": "sigmoid"}, {"maximum_distance": 0.0}, {"maximum_distance": float("nan")}):
        with pytest.raises(ValueError, match=r"mode|maximum_distance"):
            SignedDistanced(**wrong)
    for radius in (0, 1.5):
        with pytest.raises(ValueError, match="radius"):
            Boundaryd(radius=radius)  # type: ignore[arg-type]
    for transform in (SignedDistanced(), Boundaryd(), ForegroundClassd()):
        with pytest.raises(ValueError, match="shape"):
            transform({"label": np.zeros((3, 7, 7))})
    with pytest.raises(ValueError, match="shape"):
        signed_distance(np.zeros(7))
