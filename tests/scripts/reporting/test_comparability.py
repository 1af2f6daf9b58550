"""Missing runs are listed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from scripts.reporting.cells import load_cells, unfinished
from scripts.reporting.comparability import missing_note


def test_missing_and_unfinished_runs_are_listed(make_cells: Callable[..., Path]) -> None:
    folder = make_cells()
    assert unfinished(folder) == []
    assert missing_note(load_cells(folder)) == []
    shutil.rmtree(folder / "cells" / "semi_moe-10-seed1")
    assert missing_note(load_cells(folder)) == ["1 of 8 runs are missing (semi_moe-10-seed1)."]
    for name, method, text in (
        ("semi_moe-10-seed1", "semi_moe", None),
        ("cps-10-seed0", "cps", None),
        ("damaged", "", "{"),
    ):
        path = folder / "cells" / name
        path.mkdir()
        plan = json.dumps({"name": name, "method": method, "labels": "10"})
        (path / "plan.json").write_text(text or plan)
    assert unfinished(folder) == ["cps-10-seed0", "damaged", "semi_moe-10-seed1"]
    assert unfinished(folder, ["semi_moe"], ["10"]) == ["damaged", "semi_moe-10-seed1"]
    assert unfinished(folder, labels=["100"]) == ["damaged"]
    (note,) = missing_note(load_cells(folder), ["cps-10-seed0", "semi_moe-10-seed1"])
    assert note == (
        "2 of 9 runs are missing (cps-10-seed0, semi_moe-10-seed1); started but not finished: cps-10-seed0, "
        "semi_moe-10-seed1, see their log.txt."
    )
