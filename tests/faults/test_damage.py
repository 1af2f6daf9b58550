"""Damaged files of all kinds: each gives a result, or an error of one sentence that names the file."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from tests.faults.counts import add_counts
from tests.faults.damage import MARKER, Case, all_cases, sample
from tests.faults.readers import read_all

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the limit of memory needs /proc")


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return all_cases()


@pytest.mark.parametrize(
    "share", [pytest.param(12, id="every twelfth"), pytest.param(1, id="all", marks=pytest.mark.slow)]
)
def test_damaged_files_end_in_a_result_or_a_sentence(
    share: int, cases: list[Case], load_program: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    chosen = sample(cases, share)
    outcomes = read_all(chosen, tmp_path, load_program("check_config"))
    assert len(outcomes) == len(chosen)
    if share == 1:
        assert len(chosen) >= 500
        for kind in dict.fromkeys(case.kind for case in chosen):
            ended = Counter(outcome.ended for outcome in outcomes if outcome.case.kind == kind)
            add_counts(
                f"damaged {kind.replace('_', ' ')}",
                sum(ended.values()),
                result=ended["result"],
                sentence=ended["sentence"],
            )
    faults = [f"{item.case.kind}: {item.case.fault}: {item.said[:300]}" for item in outcomes if item.ended == "fault"]
    assert faults == []
    undamaged = [item for item in outcomes if item.case.fault == "none"]
    assert {item.case.kind for item in undamaged} == {case.kind for case in cases} - {"journals"}
    assert {item.ended for item in undamaged if not item.case.name.endswith((".svs", ".ndpi", ".mrxs", ".scn"))} == {
        "result"
    }


def test_the_campaign_finds_faults(
    tmp_path: Path, load_program: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Readers that hang, crash, exceed the memory limit, execute code or give no message count as faults."""
    from tests.faults import readers

    bodies = {
        "hang": lambda path: [None for _ in iter(int, 1)],
        "memory": lambda path: bytes(3 * 2**30),
        "code": lambda path: path.with_name(MARKER).touch(),
        "silence": lambda path: [][0],
        "no name": lambda path: path.read_text(encoding="ascii"),
        "fine": lambda path: None,
    }
    monkeypatch.setattr(readers, "SECONDS", 1)
    monkeypatch.setattr(readers, "readers", lambda _: {kind: [body] for kind, body in bodies.items()})
    outcomes = read_all([Case(kind, kind, "a", b"\xff") for kind in bodies], tmp_path, load_program("check_config"))
    assert [item.ended for item in outcomes] == ["fault"] * 5 + ["result"]
    assert outcomes[0].said == "hangs for 1 s"
