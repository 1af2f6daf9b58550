"""Plans of lists: contents of the lists, and plans that are impossible."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest

from bundle.data.splits import DataList
from scripts.data_preparation.held_out import patient_of
from scripts.data_preparation.split_plan import Plan, count_parts, draw_lists, patient_notes


def make_entries(labeled: int, bare: int = 0, per_patient: int = 0) -> list[dict[str, Any]]:
    """Images with and without label, alternating between two grades; 0 images per patient means no patients."""
    entries = []
    for number in range(labeled + bare):
        entry = {"image": f"image/{number:03d}.png", "grade": "xy"[number % 2]}
        entry |= {"label": f"label/{number:03d}.png"} if number < labeled else {}
        entry |= {"patient": f"p{number % labeled // per_patient}"} if per_patient else {}
        entries.append(entry)
    return entries


def patients(parts: DataList, *names: str) -> set[str]:
    return {patient_of(entry) for name in names for entry in parts.get(name, [])}


def images(parts: DataList, name: str) -> set[str]:
    return {entry["image"] for entry in parts[name]}


def test_by_default_one_list_with_all_labels() -> None:
    lists = draw_lists(make_entries(40, bare=10), Plan())
    expected = {"training": 24, "unlabeled": 10, "validation": 8, "test": 8}
    assert count_parts(lists) == {"heldout_100_seed0.json": expected}


def test_lists_are_nested_and_hold_the_same_out() -> None:
    plan = Plan(labeled=("10%", "50%", "7"), seeds=(0, 3), validation="10", test="10%")
    lists = draw_lists(make_entries(60), plan)
    assert list(lists) == [f"heldout_{name}_seed{seed}.json" for seed in (0, 3) for name in ("10", "50", "7images")]
    for seed in (0, 3):
        small, large, count = (lists[f"heldout_{name}_seed{seed}.json"] for name in ("10", "50", "7images"))
        assert [len(small["training"]), len(count["training"]), len(large["training"])] == [4, 7, 22]
        assert images(small, "training") < images(count, "training") < images(large, "training")
    for first, second in combinations(lists.values(), 2):
        assert first["validation"] == second["validation"]
        assert first["test"] == second["test"]
        assert [len(first["validation"]), len(first["test"])] == [10, 6]
    assert images(lists["heldout_10_seed0.json"], "training") != images(lists["heldout_10_seed3.json"], "training")


def test_no_patient_is_in_two_parts() -> None:
    """Images without a mask are left out if their patient is held out."""
    entries = make_entries(60, bare=60, per_patient=4)
    lists = draw_lists(entries, Plan(labeled=("20%",), folds=3))
    assert [name.split("_")[0] for name in lists] == ["heldout", "fold0", "fold1", "fold2"]
    for parts in lists.values():
        sides = [patients(parts, "training", "unlabeled"), patients(parts, "validation"), patients(parts, "test")]
        assert all(not first & second for first, second in combinations(sides, 2))
        assert len(set.union(*sides)) == 15
    (note,) = patient_notes(entries, lists)
    assert note == "24 images without a mask not used: their patients are in validation or test"


def test_folds_hold_each_image_out_once_and_share_the_test_part() -> None:
    lists = draw_lists(make_entries(50, per_patient=2), Plan(seeds=(5, 6), folds=3))
    folds = [lists[f"fold{number}_100_seed5.json"] for number in range(3)]
    assert len(lists) == 5
    held = [image for parts in folds for image in sorted(images(parts, "validation"))]
    assert len(held) == len(set(held)) == 40
    assert all(parts["test"] == lists["heldout_100_seed5.json"]["test"] for parts in folds)


def test_parts_may_be_left_out() -> None:
    (parts,) = draw_lists(make_entries(10), Plan(validation="0", test="0%")).values()
    assert {name: len(entries) for name, entries in parts.items()} == {"training": 10, "unlabeled": 0, "test": 0}


def test_missing_patients_are_reported() -> None:
    some = make_entries(10)
    assert patient_notes(some, draw_lists(some, Plan()))[0].startswith("no patients are known")
    some[0]["patient"] = "1"
    assert patient_notes(some, draw_lists(some, Plan())) == [
        "9 of 10 images have no patient; each counts as a separate patient"
    ]


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (Plan(validation="50%", test="50%"), r"validation \(50%\) and test \(50%\) take all of the 10 images"),
        (Plan(validation="20", test="0"), r"validation \(20 images\) take all of the 10 images with a mask"),
        (Plan(labeled=("9",)), "--labeled 9 is more than the 6 images with a mask that heldout leaves"),
        (Plan(labeled=("5",), folds=2), "--labeled 5 is more than the 4 images with a mask that fold0 leaves"),
        (Plan(labeled=("0%",)), "a list needs labeled images"),
        (Plan(labeled=()), "a list needs labeled images"),
        (Plan(labeled=("many",)), "'many' is not an amount"),
        (Plan(test="x"), "'x' is not an amount"),
        (Plan(seeds=(-1,)), "seeds must be integers of 0 or more"),
        (Plan(folds=1), "--folds is 1; give 2 or more"),
        (Plan(folds=9), "cannot make 9 folds of 8 patients"),
    ],
)
def test_plans_that_are_impossible_for_ten_images(plan: Plan, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        draw_lists(make_entries(10), plan)
    assert "\n" not in str(caught.value)


def test_too_few_patients_are_refused() -> None:
    with pytest.raises(ValueError, match=r"share no patient, so they need 3 patients, and the 10 images .* are of 2"):
        draw_lists(make_entries(10, per_patient=5), Plan())
