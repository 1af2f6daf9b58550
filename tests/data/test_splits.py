"""Splits: nested, stratified, by patient, and reproducible."""

from __future__ import annotations

import random
from collections import Counter
from itertools import combinations

import pytest

from bundle.data.splits import draw_split, heldout_lists, nested_draws, patient_folds, share_count


def make_entries(grades: dict[str, int]) -> list[dict[str, str]]:
    """Numbers of images of each grade, two of each patient, in mixed order."""
    names = [grade for grade, count in grades.items() for _ in range(count)]
    random.Random(0).shuffle(names)
    return [
        {"image": f"image/{number}.png", "label": f"label/{number}.png", "grade": grade, "patient": str(number // 2)}
        for number, grade in enumerate(names)
    ]


@pytest.mark.parametrize("grades", [{"a": 37, "b": 48}, {"a": 1, "b": 9, "c": 20}, {"a": 5}, {"a": 2, "b": 3, "c": 70}])
def test_draws_are_nested_and_in_proportion(grades: dict[str, int]) -> None:
    entries = make_entries(grades)
    total = len(entries)
    draws = nested_draws(entries, range(1, total + 1), seed=3)
    for count, indices in draws.items():
        assert indices == sorted(set(indices))
        assert len(indices) == count
        assert set(indices) >= set(draws.get(count - 1, []))
        drawn = Counter(entries[index]["grade"] for index in indices)
        assert all(abs(drawn[grade] - count * size / total) < 1 for grade, size in grades.items())


def test_draws_follow_the_seed_alone() -> None:
    entries = make_entries({"a": 30, "b": 30})
    assert nested_draws(entries, [6, 20], seed=1) == nested_draws(entries, [20, 6], seed=1)
    assert nested_draws(entries, [6], seed=1)[6] == nested_draws(entries, [6, 20], seed=1)[6]
    assert nested_draws(entries, [6], seed=1) != nested_draws(entries, [6], seed=2)


def test_draws_by_another_key_and_without_one() -> None:
    entries = [{"image": str(number), "domain": "xy"[number % 2]} for number in range(20)]
    drawn = nested_draws(entries, [4], seed=0, by="domain")[4]
    assert Counter(entries[index]["domain"] for index in drawn) == {"x": 2, "y": 2}
    assert len(nested_draws(entries, [4], seed=0)[4]) == 4


@pytest.mark.parametrize("count", [0, 6])
def test_draws_refuse_an_impossible_count(count: int) -> None:
    with pytest.raises(ValueError, match=f"cannot draw {count} of 5 images; give a count from 1 to 5"):
        nested_draws(make_entries({"a": 5}), [count], seed=0)


def test_share_count_rounds_halves_up() -> None:
    assert [share_count(percent, 68) for percent in (5, 10, 20, 50, 100)] == [3, 7, 14, 34, 68]
    assert [share_count(percent, 85) for percent in (5, 10, 20, 50, 100)] == [4, 9, 17, 43, 85]
    assert share_count(1, 10) == 1


def test_folds_split_the_patients_evenly() -> None:
    entries = make_entries({"a": 40, "b": 44})
    folds = patient_folds(entries, folds=3, seed=0)
    assert sorted(index for fold in folds for index in fold) == list(range(84))
    assert folds == patient_folds(entries, folds=3, seed=0)
    patients = [{entries[index]["patient"] for index in fold} for fold in folds]
    assert all(not first & second for first, second in combinations(patients, 2))
    for fold in folds:
        assert abs(len(fold) - 28) <= 2
        assert abs(sum(entries[index]["grade"] == "a" for index in fold) - 40 / 3) <= 2


def test_folds_refuse_too_few_patients_and_none() -> None:
    with pytest.raises(ValueError, match="cannot make 3 folds of 2 patients"):
        patient_folds(make_entries({"a": 4}), folds=3)
    with pytest.raises(ValueError, match="an entry has no patient"):
        patient_folds([{"image": "a.png"}])


def test_lists_have_every_image_once() -> None:
    entries = make_entries({"a": 8, "b": 12})
    test = [{"image": "image/t.png", "label": "label/t.png"}]
    lists = heldout_lists(entries, test, draw_split(entries, range(4), (50, 100), (0, 7)))
    assert list(lists) == [f"heldout_{percent}_seed{seed}.json" for seed in (0, 7) for percent in (50, 100)]
    half = lists["heldout_50_seed7.json"]
    assert [len(half[part]) for part in ("training", "unlabeled", "validation", "test")] == [8, 8, 4, 1]
    images = [entry["image"] for part in ("training", "unlabeled", "validation") for entry in half[part]]
    assert sorted(images) == sorted(entry["image"] for entry in entries)
    assert all("label" in entry for part in ("training", "validation", "test") for entry in half[part])
    assert not any("label" in entry for entry in half["unlabeled"])
    assert lists["heldout_100_seed0.json"]["unlabeled"] == []
    assert all("label" in entry for entry in entries)


def test_a_split_without_validation_has_no_such_list() -> None:
    entries = make_entries({"a": 4})
    lists = heldout_lists(entries, [], draw_split(entries, [], (50,), (0,)), "authors")
    assert list(lists["authors_50_seed0.json"]) == ["training", "unlabeled", "test"]


def test_inconsistent_splits_are_refused() -> None:
    entries = make_entries({"a": 4})
    with pytest.raises(ValueError, match="validation takes every image"):
        draw_split(entries, range(4), (50,), (0,))
    with pytest.raises(ValueError, match="two images have the same name"):
        draw_split([entries[0], entries[0]], [], (50,), (0,))
    with pytest.raises(ValueError, match="the split names x, which"):
        heldout_lists(entries, [], {"validation": [], "labeled": {"0": {"50": ["x"]}}})
