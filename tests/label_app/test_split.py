from __future__ import annotations

import pytest

pytest.importorskip("fastapi", reason="MONAI Label is not installed: make test-label")

from lib.split import TRAINING, VALIDATION, divided


def parts_of(parts: dict[str, str], part: str) -> set[str]:
    return {name for name, at in parts.items() if at == part}


@pytest.mark.parametrize(("count", "judging"), [(0, 0), (1, 0), (2, 1), (5, 1), (10, 2), (20, 4)])
def test_a_share_judges_and_at_least_one_teaches(count: int, judging: int) -> None:
    parts = divided([f"tile {number}" for number in range(count)], 0.2, {})
    assert len(parts_of(parts, VALIDATION)) == judging
    assert len(parts_of(parts, TRAINING)) == count - judging


def test_what_has_taught_never_judges() -> None:
    before = divided([f"tile {number}" for number in range(5)], 0.2, {})
    after = divided([f"tile {number}" for number in range(30)], 0.5, before)
    assert parts_of(before, TRAINING) <= parts_of(after, TRAINING)
    assert parts_of(before, VALIDATION) <= parts_of(after, VALIDATION)
    assert len(parts_of(after, VALIDATION)) == 15


def test_the_order_of_files_changes_nothing() -> None:
    names = [f"tile {number}" for number in range(9)]
    assert divided(names, 0.3, {}) == divided(reversed(names), 0.3, {})


def test_a_share_of_none_lets_all_teach_though_they_judged() -> None:
    names = ["a", "b", "c"]
    before = divided(names, 0.4, {})
    assert set(divided(names, 0.0, before).values()) == {TRAINING}


def test_where_all_that_taught_are_gone_one_teaches() -> None:
    assert divided(["a"], 0.2, {"a": VALIDATION}) == {"a": TRAINING}
    assert parts_of(divided(["a", "b"], 0.2, {"a": VALIDATION, "b": VALIDATION}), TRAINING)
