"""docs/reliability.md shows the counts of docs/faults.json."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def program(load_program: Callable[[str], ModuleType]) -> ModuleType:
    return load_program("list_faults")


def test_the_page_has_the_counts_of_the_record(program: ModuleType) -> None:
    assert program.main(["--check"]) == 0
    counts = json.loads(program.COUNTS.read_text(encoding="utf-8"))["counts"]
    damaged = [count for count in counts if count["what"].startswith("damaged ")]
    assert sum(count["cases"] for count in damaged) >= 500
    assert all(count["cases"] == count.get("result", 0) + count.get("sentence", 0) for count in counts)


def test_counts_of_a_campaign_become_the_table(
    program: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "reliability.md"
    page.write_text("Before\n<!-- faults -->\nold\n<!-- /faults -->\nAfter\n")
    for name, path in (("PAGE", page), ("COUNTS", tmp_path / "faults.json"), ("ROOT", tmp_path)):
        monkeypatch.setattr(program, name, path)
    lines = [{"what": "b", "cases": 2000, "result": 1500, "sentence": 498}, {"what": "a", "cases": 3, "result": 3}] * 2
    (tmp_path / "counts.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert program.main(["--counts", str(tmp_path / "counts.jsonl")]) == 0
    text = page.read_text()
    assert text.startswith(
        f"Before\n<!-- faults -->\n{program.HEAD}| a | 6 | 6 | 0 | 0 |\n| b | 4,000 | 3,000 | 996 | 4 |\n"
    )
    assert "\n4,006 cases of the campaign (`make test-faults`): " in text
    assert text.endswith("<!-- /faults -->\nAfter\n")
    assert program.main(["--check"]) == 0
    page.write_text(text.replace("3,000", "3,001"))
    assert program.main(["--check"]) == 1
    assert "reliability.md differs" in capsys.readouterr().err
