"""Sparse labels: which glands are kept, the background around them, and that the selection is reproducible."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray

from bundle.transforms import ForegroundClassd, KeepInstancesd, SmallestIntegerd
from bundle.transforms.distance import UNKNOWN
from bundle.types import IGNORE


def with_file_name(plane: NDArray[Any] | torch.Tensor, name: str = "/data/label/tile.png") -> MetaTensor:
    return MetaTensor(torch.as_tensor(plane)[None].float(), meta={"filename_or_obj": name})


def sparsify(
    plane: NDArray[Any] | torch.Tensor, name: str = "/data/label/tile.png", **settings: Any
) -> NDArray[np.int32]:
    result = KeepInstancesd(**settings)({"label": with_file_name(plane, name)})["label"]
    assert isinstance(result, MetaTensor)
    assert result.dtype == torch.int32
    return result.numpy()[0]


def glands(count: int, apart: int = 6) -> NDArray[np.int64]:
    """Glands 1 to ``count`` of 2 x 2 px in a row, one every ``apart`` px."""
    plane = np.zeros((apart, count * apart), int)
    for number in range(count):
        plane[2:4, number * apart + 2 : number * apart + 4] = number + 1
    return plane


def numbers(plane: NDArray[Any]) -> set[int]:
    return set(np.unique(plane[plane > 0]).tolist())


@pytest.mark.parametrize(("keep", "count"), [("50%", 4), ("12.5%", 1), ("0%", 0), ("100%", 8), (3, 3), (0, 0), (20, 8)])
def test_the_exact_number_of_glands_is_kept_completely(keep: str | int, count: int) -> None:
    plane = glands(8)
    sparse = sparsify(plane, keep=keep, margin=0)
    assert len(numbers(sparse)) == count
    here = np.isin(plane, list(numbers(sparse)))
    np.testing.assert_array_equal(sparse[here], plane[here])
    assert (sparse[~here] == UNKNOWN).all()


def test_a_band_of_background_is_known_and_nothing_beyond() -> None:
    """Margin 2 around a gland of one pixel: the disk of radius 2, except for other glands."""
    plane = np.zeros((7, 7), int)
    plane[3, 3], plane[3, 5], plane[0, 0] = 1, 2, 3
    for number in range(1, 4):
        names = (f"{index}.png" for index in range(50))
        name = next(name for name in names if numbers(sparsify(plane, name, keep=1)) == {number})
        sparse = sparsify(plane, name, keep=1, margin=2)
        distance = np.hypot(*np.subtract(np.indices(plane.shape), np.argwhere(plane == number)[0][:, None, None]))
        expected = np.where((distance <= 2) & (plane == 0), 0, UNKNOWN)
        expected[plane == number] = number
        np.testing.assert_array_equal(sparse, expected)


def test_the_selection_depends_only_on_name_and_seed() -> None:
    plane = glands(12)
    first = sparsify(plane, keep="50%")
    np.random.seed(5)
    torch.manual_seed(5)
    np.testing.assert_array_equal(sparsify(plane, "/elsewhere/tile.png", keep="50%"), first)
    assert any((sparsify(plane, f"{index}.png", keep="50%") != first).any() for index in range(3))
    assert any((sparsify(plane, keep="50%", seed=seed) != first).any() for seed in range(1, 4))


def test_the_selection_is_the_same_in_every_process() -> None:
    """Numbers from another process: file names are hashed by their bytes, not by Python's salted ``hash``."""
    assert numbers(sparsify(glands(12), keep=4)) == {1, 2, 3, 8}


def test_a_smaller_share_is_part_of_a_larger_one() -> None:
    sets = [numbers(sparsify(glands(11), keep=f"{share}%")) for share in range(0, 101, 10)]
    assert all(less <= more for less, more in pairwise(sets))


def test_a_small_share_is_kept_over_all_images() -> None:
    """10 % of 3 glands is less than one: about every third image keeps one, so that 10 % of all glands are kept."""
    counts = [len(numbers(sparsify(glands(3), f"{index}.png", keep="10%"))) for index in range(400)]
    assert set(counts) == {0, 1}
    assert sum(counts) / 1200 == pytest.approx(0.1, abs=0.025)


def test_glands_of_a_mask_with_one_value_are_its_components() -> None:
    """A mask of 0 and 255 has one gland for each connected component, corners included."""
    mask = np.where(glands(6) > 0, 255, 0)
    mask[4, 4] = 255  # a corner of the first
    sparse = sparsify(mask, keep=2, margin=1)
    assert numbers(sparse) == {255}
    record = ForegroundClassd()({"label": torch.as_tensor(sparse)[None]})
    assert (record["label"] == 1).sum() in (8, 9)
    whole = sparsify(mask, keep="100%", margin=1)
    np.testing.assert_array_equal(whole == 255, mask == 255)


def test_components_are_glands_if_values_are_classes() -> None:
    """Two classes in three pieces each: by number there are two glands, by piece six."""
    classes = np.where(glands(6) > 0, glands(6) % 2 + 1, 0)
    assert (sparsify(classes, keep=1, margin=0) > 0).sum() == 12
    assert (sparsify(classes, keep=1, margin=0, connected=True) > 0).sum() == 4


def test_more_than_254_glands_are_distinct() -> None:
    plane = np.pad(np.arange(1, 325).reshape(18, 18), 3)
    record = {"label": with_file_name(plane)}
    result = ForegroundClassd()(SmallestIntegerd()(KeepInstancesd(keep="50%", margin=3)(record)))["label"]
    assert (result == 1).sum() == 162
    assert {value.item() for value in result.unique()} == {0, 1, IGNORE}
    every = ForegroundClassd()(KeepInstancesd(keep="100%", margin=9)(record))["label"]
    assert torch.equal(every.as_tensor()[0] == 1, torch.as_tensor(plane > 0))
    assert not (every == IGNORE).any()


def test_unknown_pixels_stay_unknown() -> None:
    plane = glands(3)
    plane[:, :1] = UNKNOWN
    sparse = sparsify(plane, keep="100%", margin=9)
    np.testing.assert_array_equal(sparse, plane)


def test_an_image_without_gland_or_label() -> None:
    assert (sparsify(np.zeros((5, 6), int), keep="100%") == UNKNOWN).all()
    assert KeepInstancesd(allow_missing_keys=True)({"image": 1}) == {"image": 1}
    with pytest.raises(KeyError):
        KeepInstancesd()({"image": 1})


def test_wrong_settings_and_labels_are_refused() -> None:
    for wrong in ("50", "101%", "-1%", -1, 0.5, True, "half"):
        with pytest.raises(ValueError, match=r"keep is .* give a share from 0% to 100%, such as 25%, or"):
            KeepInstancesd(keep=wrong)  # type: ignore[arg-type]
    for margin in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="margin"):
            KeepInstancesd(margin=margin)
    with pytest.raises(ValueError, match="'label' has no file name"):
        KeepInstancesd()({"label": torch.zeros(1, 4, 4)})
    with pytest.raises(ValueError, match="shape"):
        KeepInstancesd()({"label": with_file_name(np.zeros((2, 4, 4)))[0]})
