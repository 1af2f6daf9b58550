"""Held-out parts: whole patients, as near to the number as possible, and reproducible."""

from __future__ import annotations

from collections import Counter

import pytest

from scripts.data_preparation.held_out import Amount, draw_held_out, patient_of


def make_entries(sizes: dict[str, tuple[int, str]]) -> list[dict[str, str]]:
    """Images of patients: patient -> (number, grade)."""
    return [
        {"image": f"image/{patient}_{number}.png", "patient": patient, "grade": grade}
        for patient, (count, grade) in sizes.items()
        for number in range(count)
    ]


@pytest.mark.parametrize(
    ("text", "total", "count"),
    [("20%", 40, 8), ("12.5%", 40, 5), ("1%", 10, 1), ("0%", 10, 0), ("0", 10, 0), ("7", 10, 7), (" 50 %", 5, 3)],
)
def test_amounts_are_shares_or_numbers(text: str, total: int, count: int) -> None:
    assert Amount.parse(text).of(total) == count


@pytest.mark.parametrize("text", ["", "x", "-1", "1.5", "101%", "%"])
def test_invalid_amounts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not an amount|is above 100%"):
        Amount.parse(text)


def test_whole_patients_reach_the_number_if_possible() -> None:
    """9, 7, 5, 3 and 2 images: 10 is 7 + 3 or 5 + 3 + 2; nothing else."""
    entries = make_entries({"a": (9, "x"), "b": (7, "x"), "c": (5, "x"), "d": (3, "x"), "e": (2, "x")})
    for seed in range(5):
        held = draw_held_out(entries, 10, seed)
        patients = {entries[index]["patient"] for index in held}
        assert patients in ({"b", "d"}, {"c", "d", "e"})
        assert held == sorted(index for index, entry in enumerate(entries) if entry["patient"] in patients)
        assert held == draw_held_out(entries, 10, seed)


def test_the_nearest_number_is_used_if_none_matches() -> None:
    entries = make_entries({"a": (8, "x"), "b": (8, "x"), "c": (8, "x")})
    assert len(draw_held_out(entries, 3, seed=0)) == 8
    assert len(draw_held_out(entries, 13, seed=0)) == 16


def test_patients_to_keep_are_not_drawn() -> None:
    """Two images need two patients of one image, but then only one patient remains."""
    entries = make_entries({"a": (10, "x"), "b": (1, "x"), "c": (1, "x")})
    assert len(draw_held_out(entries, 2, seed=0, keep=1)) == 2
    assert len(draw_held_out(entries, 2, seed=0, keep=2)) == 1
    with pytest.raises(ValueError, match="cannot hold out images of 3 patients and keep 3"):
        draw_held_out(entries, 2, seed=0, keep=3)


def test_grades_keep_their_shares() -> None:
    """30 patients of 4 images, two thirds benign: of 24 held out 16 are benign, whichever the seed."""
    entries = make_entries({str(number): (4, "malignant" if number % 3 == 0 else "benign") for number in range(30)})
    draws = [draw_held_out(entries, 24, seed) for seed in range(4)]
    assert all(Counter(entries[i]["grade"] for i in held) == {"benign": 16, "malignant": 8} for held in draws)
    assert len({tuple(held) for held in draws}) == 4


def test_an_image_without_a_patient_is_its_own() -> None:
    entries = [{"image": f"image/{number}.png", "grade": "xy"[number % 2]} for number in range(20)]
    assert len({patient_of(entry) for entry in entries}) == 20
    held = draw_held_out(entries, 6, seed=0)
    assert Counter(entries[index]["grade"] for index in held) == {"x": 3, "y": 3}
    mixed = [*entries, *make_entries({"0": (5, "x")})]
    assert len(draw_held_out(mixed, 6, seed=0)) == 6
