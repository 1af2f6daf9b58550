"""The program scripts/report.py: once in a separate process, otherwise in this process."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def program(load_program: Callable[[str], ModuleType]) -> ModuleType:
    """Return the program as a module."""
    return load_program("report")


def test_the_description_of_a_method_is_its_whole_title(program: ModuleType) -> None:
    assert program.method_words("semi_moe").endswith("the fused predictions label the experts on unlabeled images.")
    assert program.method_words("none") == ""


def test_a_report_is_written(
    make_cells: Callable[..., Path], repository_root: Path, python: Any, tmp_path: Path
) -> None:
    arguments = ["--cells", str(make_cells()), "--output", str(tmp_path / "report"), "--tiles", "1"]
    completed = python(repository_root / "scripts" / "report.py", *arguments)
    assert completed.returncode == 0, completed.stderr
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == ["report.html", "table.md"]
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/webp;base64,") == 8, "worst and best of two methods at two shares"
    table = (tmp_path / "report" / "table.md").read_text(encoding="utf-8")
    assert table.startswith("Data phantom, protocol heldout: 8 runs of 100 steps")
    assert "| 10 | semi_moe | 2 | 0.760 ± 0.000 |" in table
    assert "Notes:" not in table
    assert table.strip() in completed.stdout


def test_the_demo_shows_its_cells_as_a_table_and_as_the_page(
    make_cells: Callable[..., Path], load_program: Callable[[str], ModuleType]
) -> None:
    demo = load_program("demo")
    scores = {"pooled_dice": 0.8, "pooled_jaccard": 0.7, "mean_dice": 0.75, "mean_jaccard": 0.65}
    output = make_cells(methods=demo.METHODS, metrics=scores)
    lines = demo.table(demo.finished(output)).splitlines()
    assert [line.split() for line in lines] == [
        ["test,", "3", "tiles", "pooled_dice", "pooled_jaccard", "mean_dice", "mean_jaccard", "training"],
        ["supervised", "0.8000", "0.7000", "0.7500", "0.6500", "60", "s"],
        ["semi_moe_plus", "0.8000", "0.7000", "0.7500", "0.6500", "60", "s"],
    ]
    page = demo.report(output)
    assert page == output / "report" / "report.html"
    text = page.read_text(encoding="utf-8")
    assert "<h1>supervised and semi_moe_plus on phantom: supervised and semi_moe_plus are tied" in text
    assert "<dt>supervised</dt><dd>Supervised: " in text


def test_unfinished_runs_are_listed_on_the_page(
    make_cells: Callable[..., Path], program: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cells, output = make_cells(), tmp_path / "report"
    failed = cells / "cells" / "semi_moe-10-seed1"
    (failed / "cell.json").rename(failed / "plan.json")
    assert program.main(["--cells", str(cells), "--output", str(output), "--tiles", "0"]) == 0
    sentence = "1 of 8 runs are missing (semi_moe-10-seed1); started but not finished: semi_moe-10-seed1"
    assert sentence in capsys.readouterr().err
    assert sentence in (output / "report.html").read_text(encoding="utf-8").split("<nav")[0]
    arguments = ["--cells", str(cells), "--output", str(output), "--tiles", "0", "--methods", "supervised"]
    assert program.main(arguments) == 0
    assert "missing" not in capsys.readouterr().err


def test_without_the_data_the_rest_is_reported(
    make_cells: Callable[..., Path], program: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = make_cells(dataset_dir=str(tmp_path / "moved"))
    arguments = ["--cells", str(cells), "--output", str(tmp_path / "report"), "--methods", "semi_moe"]
    assert program.main(arguments) == 0
    assert "are shown: no data folder" in capsys.readouterr().err
    assert "Worst and best" not in (tmp_path / "report" / "report.html").read_text(encoding="utf-8")


def test_test_images_of_training_patients_are_reported_once_everywhere(
    make_cells: Callable[..., Path],
    program: ModuleType,
    phantom_dir: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data, output = tmp_path / "known", tmp_path / "report"
    shutil.copytree(phantom_dir, data)
    file = data / "heldout_50_seed0.json"
    parts = json.loads(file.read_text(encoding="utf-8"))
    for entry in (parts["training"][0], parts["test"][0]):
        entry["patient"] = "the same"
    file.write_text(json.dumps(parts), encoding="utf-8")
    cells = make_cells(dataset_dir=str(data))
    assert program.main(["--cells", str(cells), "--output", str(output), "--tiles", "1"]) == 0
    sentence = "heldout_50_seed0.json: 1 of 3 test images are of training patients"
    assert capsys.readouterr().err.count(sentence) == 1
    assert all((output / name).read_text(encoding="utf-8").count(sentence) == 1 for name in ("report.html", "table.md"))


def test_missing_masks_are_reported_everywhere(
    make_cells: Callable[..., Path], program: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cells, output = make_cells(), tmp_path / "report"
    shutil.rmtree(cells / "cells" / "semi_moe-10-seed0" / "evaluation" / "masks")
    masks = sorted((cells / "cells" / "supervised-10-seed0" / "evaluation" / "masks").iterdir())
    for mask in masks[1:]:
        mask.unlink()
    assert program.main(["--cells", str(cells), "--output", str(output), "--labels", "10"]) == 0
    output_text = capsys.readouterr().err
    page, table = ((output / name).read_text(encoding="utf-8") for name in ("report.html", "table.md"))
    for sentence in (
        f"No test images of semi_moe-10-seed0 are shown: {cells / 'cells' / 'semi_moe-10-seed0'}",
        "test images of supervised-10-seed0 are not shown:",
    ):
        assert sentence in output_text
        assert sentence in page
        assert sentence in table.split("Notes:")[1]
    assert page.count("data:image/webp;base64,") == 1
    assert program.main(["--cells", str(cells), "--output", str(output), "--labels", "10", "--tiles", "0"]) == 0
    assert "shown" not in capsys.readouterr().err


def test_the_table_of_the_authors_protocol_is_marked_as_optimistic(
    make_cells: Callable[..., Path], program: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--cells", str(make_cells(protocol="authors")), "--output", str(tmp_path / "report"), "--tiles", "0"]
    assert program.main(arguments) == 0
    output_text = capsys.readouterr().out
    for text in (output_text, (tmp_path / "report" / "table.md").read_text(encoding="utf-8")):
        assert text.startswith("Data phantom, protocol authors: 8 runs of 100 steps")
        assert "Optimistic: checkpoint and threshold were chosen on the test images" in text


def test_notes_are_below_the_table(
    make_cells: Callable[..., Path],
    edit_cell: Callable[..., None],
    program: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cells = make_cells()
    edit_cell(cells, "semi_moe-10-seed0", versions={"torch": "2.12.0"})
    assert program.main(["--cells", str(cells), "--output", str(tmp_path / "report"), "--tiles", "0"]) == 0
    note = "The runs used different versions: torch 2.12.0, 2.13.0."
    assert f"note: {note}" in capsys.readouterr().err.splitlines()
    assert f"Notes:\n- {note}\n" in (tmp_path / "report" / "table.md").read_text(encoding="utf-8")


def test_wrong_input_is_one_sentence_and_keeps_the_old_report(
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
        (cells, ["--metrics", "dicee"], "no cell has the metric 'dicee'; choose from pooled_dice"),
        (cells, ["--against", "foo"], "--against foo: no such method in these cells; choose from supervised, semi_moe"),
        (cells, ["--methods", "semi_moe", "--against", "supervised"], "choose from semi_moe"),
        (damaged, [], "cell.json is damaged"),
        (mixed, [], "differ in steps (7 and 100)"),
        (resized, [], "is 7 x 5 px, but its ground truth 64 x 48 px"),
    ):
        assert program.main(["--cells", str(folder), "--output", str(output), *more]) == 1
        last = capsys.readouterr().err.splitlines()[-1]
        assert last.startswith("report: ")
        assert sentence in last
        assert (output / "report.html").read_text() == "the old one"
    for arguments in ([], ["--output", str(output), "--tiles", "-2"]):
        with pytest.raises(SystemExit) as ended:
            program.main(["--cells", str(cells), *arguments])
        assert ended.value.code == 2
