"""Label maps: instances and classes from masks of all kinds."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.data_preparation.label_maps import NUMBERED, RENUMBERED, as_classes, as_instances, has_split_numbers

TWO = np.array([[9, 9, 0, 0], [0, 0, 9, 0], [0, 0, 0, 0], [9, 0, 0, 0]])
"""Two components: the upper three pixels touch at a corner."""


@pytest.mark.parametrize("value", [1, 9, 255])
def test_one_value_is_numbered_by_piece(value: int) -> None:
    label, note = as_instances(np.where(TWO > 0, value, 0))
    assert note == NUMBERED
    np.testing.assert_array_equal(label, [[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0], [2, 0, 0, 0]])


def test_full_and_empty_masks() -> None:
    assert (as_instances(np.full((2, 3), 255))[0] == 1).all()
    label, note = as_instances(np.zeros((2, 3), int))
    assert not label.any()
    assert note is None


def test_numbers_stay_as_they_are() -> None:
    numbers = np.array([[1, 1, 0], [7, 7, 300]])
    label, note = as_instances(numbers)
    assert note is None
    np.testing.assert_array_equal(label, numbers)


@pytest.mark.parametrize("lowest", [0, 5])
def test_large_numbers_are_renumbered(lowest: int) -> None:
    label, note = as_instances(np.array([[lowest, 70000], [100000, 7]]))
    assert note == RENUMBERED
    first = int(lowest > 0)
    np.testing.assert_array_equal(label, [[first, first + 2], [first + 3, first + 1]])


def test_classes_are_kept_or_refused() -> None:
    label, note = as_classes(np.array([[0, 1], [2, 2]]), 3)
    assert note is None
    assert label.max() == 2
    with pytest.raises(ValueError, match="the highest value is 2, but 2 classes have values up to 1"):
        as_classes(np.array([[0, 1], [2, 2]]), 2)
    with pytest.raises(ValueError, match="the highest value is 255, but 3 classes"):
        as_classes(np.array([[0, 255]]), 3)


@pytest.mark.parametrize("mask", [[[0, 255]], [[255, 255]]])
def test_two_classes_may_be_0_and_255(mask: list[list[int]]) -> None:
    label, note = as_classes(np.array(mask), 2)
    assert note == "255 read as class 1"
    np.testing.assert_array_equal(label, np.array(mask) // 255)


def test_split_numbers_are_found() -> None:
    glands = np.array([[1, 1, 0, 2], [0, 1, 0, 2]])
    assert not has_split_numbers(glands)
    assert not has_split_numbers(glands > 0)
    assert has_split_numbers(np.array([[1, 0, 1, 2]]))
    assert not has_split_numbers(np.array([[5, 0, 900, 900]]))
