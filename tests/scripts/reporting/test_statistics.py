"""Mean, spread and paired comparison, compared with values computed by hand."""

from __future__ import annotations

import math

import pytest

from scripts.reporting.statistics import compare, mean_per_image, seed_interval, spread


def test_deviation_has_n_minus_1_in_the_denominator() -> None:
    result = spread([1.0, 2.0, 3.0])
    assert result.mean == 2.0
    assert result.deviation == pytest.approx(1.0)
    assert spread([0.5]).deviation is None
    assert spread([0.5, math.nan]).values == (0.5,)
    with pytest.raises(ValueError, match="no value"):
        spread([math.nan])


def test_the_score_of_an_image_is_the_mean_over_seeds() -> None:
    assert mean_per_image([{"a": 1.0, "b": 0.0}, {"a": 0.0, "c": 1.0}]) == {"a": 0.5}
    assert mean_per_image([]) == {}


def test_a_clear_difference() -> None:
    second = {f"image{number}": 0.5 + 0.01 * number for number in range(20)}
    first = {name: value + 0.1 + 0.001 * (index % 3) for index, (name, value) in enumerate(second.items())}
    result = compare(first, second)
    assert (result.images, result.better, result.worse) == (20, 20, 0)
    assert result.difference == pytest.approx(0.1 + 0.001 * 19 / 20, abs=1e-3)
    assert result.low is not None
    assert result.high is not None
    assert 0.1 <= result.low <= result.difference <= result.high <= 0.102
    # Twenty differences of one sign: the exact two-sided p is 2 / 2^20, with ties it is approximated.
    assert result.p < 1e-3


def test_the_interval_of_the_mean_agrees_with_theory() -> None:
    """For many differences it is close to mean +- 1.96 deviations / sqrt(n)."""
    differences = [math.sin(number * 12.9898) for number in range(400)]
    first = {str(number): value for number, value in enumerate(differences)}
    result = compare(first, dict.fromkeys(first, 0.0))
    deviation = spread(differences).deviation
    assert deviation is not None
    assert result.low == pytest.approx(result.difference - 1.96 * deviation / 20, abs=0.01)
    assert result.high == pytest.approx(result.difference + 1.96 * deviation / 20, abs=0.01)
    assert compare(first, dict.fromkeys(first, 0.0)) == result, "the bootstrap has a seed"


def test_the_interval_over_seeds_is_students() -> None:
    """Mean 0.2, deviation 0.1, t of 2 degrees of freedom at 97.5 % is 4.303: 0.2 +- 4.303 x 0.1 / sqrt(3)."""
    assert seed_interval([0.1, 0.2, 0.3]) == pytest.approx((0.2 - 0.2484, 0.2 + 0.2484), abs=1e-4)
    assert seed_interval([0.1, 0.1]) == (0.1, 0.1)
    with pytest.raises(ValueError, match="at least 2"):
        seed_interval([0.1])


def test_equal_methods_and_single_images_have_defined_values() -> None:
    same = {"a": 0.5, "b": 0.6}
    result = compare(same, same)
    assert (result.difference, result.low, result.high, result.p) == (0.0, 0.0, 0.0, 1.0)
    single = compare({"a": 0.7}, {"a": 0.5, "b": 0.1})
    assert (single.images, single.low, single.high) == (1, None, None)
    with pytest.raises(ValueError, match="no image in common"):
        compare({"a": 1.0}, {"b": 1.0})
