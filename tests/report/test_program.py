"""The program scripts/report.py: once as a person runs it, the rest in this process."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def program(repository_root: Path) -> ModuleType:
    """The program as a module."""
    spec = importlib.util.spec_from_file_location("report_program", repository_root / "scripts" / "report.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_report_is_written(make_cells: Callable[..., Path], repository_root: Path, tmp_path: Path) -> None:
    words = ["--cells", str(make_cells()), "--output", str(tmp_path / "report"), "--tiles", "1"]
    command = [sys.executable, str(repository_root / "scripts" / "report.py"), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == ["report.html", "table.md"]
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/webp;base64,") == 8, "worst and best of two methods at two shares"
    table = (tmp_path / "report" / "table.md").read_text(encoding="utf-8")
    assert "| 10 | semi_moe | 2 | 0.760 ± 0.000 |" in table
    assert table.strip() in done.stdout


def test_without_the_data_the_rest_is_reported(
    make_cells: Callable[..., Path], program: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = make_cells(dataset_dir=str(tmp_path / "moved"))
    words = ["--cells", str(cells), "--output", str(tmp_path / "report"), "--methods", "semi_moe"]
    assert program.main(words) == 0
    assert "no data list heldout_50_seed0.json in" in capsys.readouterr().err
    assert "Worst and best" not in (tmp_path / "report" / "report.html").read_text(encoding="utf-8")


def test_wrong_input_ends_in_one_sentence_and_keeps_the_old_report(
    make_cells: Callable[..., Path],
    edit_cell: Callable[..., None],
    program: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cells, output = make_cells(), tmp_path / "report"
    output.mkdir()
    (output / "report.html").write_text("the old one")
    damaged, mixed, resized = (
        Path(shutil.copytree(cells, tmp_path / name)) for name in ("damaged", "mixed", "resized")
    )
    (damaged / "cells" / "semi_moe-10-seed0" / "cell.json").write_text("{")
    edit_cell(mixed, "semi_moe-10-seed0", steps=7)
    for mask in (resized / "cells" / "semi_moe-10-seed0" / "evaluation" / "masks").iterdir():
        Image.fromarray(np.zeros((5, 7), np.uint8)).save(mask)
    for folder, more, sentence in (
        (tmp_path / "nowhere", [], "give the output folder of scripts/benchmark.py"),
        (cells, ["--methods", "cps"], "no finished cell has the method 'cps'"),
        (cells, ["--metrics", "dicee"], "no cell has the score 'dicee'; there are pooled_dice"),
        (damaged, [], "cell.json is damaged"),
        (mixed, [], "differ in steps (7 and 100)"),
        (resized, [], "is 7 x 5 px and its truth 64 x 48 px"),
    ):
        assert program.main(["--cells", str(folder), "--output", str(output), *more]) == 1
        last = capsys.readouterr().err.splitlines()[-1]
        assert last.startswith("report: ")
        assert sentence in last
        assert (output / "report.html").read_text() == "the old one"
    with pytest.raises(SystemExit) as ended:
        program.main(["--cells", str(cells)])
    assert ended.value.code == 2
