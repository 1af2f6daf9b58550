"""Choice of the settings of the watershed on validation images."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from bundle.networks import SemiMoE

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("train.json", "evaluate.json", "postprocessing/watershed.yaml")
FILES = [str(ROOT / "configs" / name) for name in NAMES]
TRY = ["--try", "seed_level=-0.5,0.2", "--try", "boundary_level=0.5"]


@pytest.fixture(scope="module")
def program(load_program: Callable[[str], ModuleType]) -> ModuleType:
    """The program as a module."""
    return load_program("tune_postprocessing")


@pytest.fixture
def arguments(tiny: dict[str, Any]) -> list[str]:
    """Arguments of an evaluation of an untrained model in which objects of every size count."""
    folder = Path(tiny["ckpt_dir"])
    folder.mkdir()
    torch.manual_seed(7)
    torch.save(SemiMoE(widths=tiny["network_def#widths"]).state_dict(), folder / "model.pt")
    settings = {**tiny, "components#min_area": 5, "watershed#min_seed_area": 0}
    return [
        "--config_file",
        str(FILES),
        *(word for key, value in settings.items() for word in (f"--{key}", str(value))),
    ]


def test_it_prints_a_table_and_arguments_for_the_evaluation(program, arguments, tmp_path, capsys, phantom_dir):
    assert program.main([*arguments, *TRY]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("2 validation images, 3 settings, best object_dice first")
    assert lines[1].split() == ["seed_level", "boundary_level", "object_dice", "object_f1"]
    rows = [line.removeprefix("*").split() for line in lines[2:5]]
    assert {tuple(row[:2]) for row in rows} == {("0.75", "0.3"), ("-0.5", "0.5"), ("0.2", "0.5")}
    assert [float(row[2]) for row in rows] == sorted((float(row[2]) for row in rows), reverse=True)
    assert [line[0] for line in lines[2:5]].count("*") == 1
    assert lines[5].split()[0] == "components"
    assert lines[-1] == f"--watershed#seed_level {rows[0][0]} --watershed#boundary_level {rows[0][1]}"
    assert not (tmp_path / "output").exists(), "choosing writes nothing"
    last = [*arguments, *lines[-1].split()]
    capsys.readouterr()
    assert program.main([*last, *TRY]) == 0
    marked = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("* "))
    assert marked.split()[1:3] == rows[0][:2]


def test_the_best_is_the_smallest_of_a_distance(program, arguments, capsys):
    assert program.main([*arguments, *TRY, "--score", "object_hausdorff"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[2:] == ["object_hausdorff", "object_dice", "object_f1"]
    figures = [float(line.removeprefix("*").split()[2]) for line in lines[2:5]]
    assert figures == sorted(figures)


def test_the_scores_are_those_of_the_validation_part(program, arguments, tiny, capsys):
    """An evaluation of the validation part gives the same scores."""
    from monai.bundle import ConfigParser

    assert program.main([*arguments, "--try", "seed_level=0.2"]) == 0
    shown = [line.removeprefix("*").split() for line in capsys.readouterr().out.splitlines()[2:4]]
    shown = next(row for row in shown if row[0] == "0.2")
    parser = ConfigParser()
    parser.read_config(FILES)
    parser.update({**tiny, "components#min_area": 5, "watershed#min_seed_area": 0, "watershed#seed_level": 0.2})
    parser["validate#dataset#data"] = "$@data#datalist['validation']"
    parser["validate#handlers"] = parser["validate#handlers"][:1]
    evaluator = parser.get_parsed_content("validate#evaluator")
    evaluator.run()
    expected = [evaluator.state.metrics[f"watershed_{name}"] for name in ("object_dice", "object_f1")]
    assert [float(cell) for cell in shown[1:]] == pytest.approx(expected, abs=1e-4)


def said(program: ModuleType, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Return the error message of the program."""
    capsys.readouterr()
    assert program.main(arguments) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("tune_postprocessing: ")
    return last


def test_the_test_part_is_refused(program, arguments, tiny, capsys, phantom_dir):
    data = ["--validate#dataset#data", "$@data#datalist['test']"]
    assert "tuned on the validation part of the data list; omit --validate#dataset#data" in said(
        program, [*arguments, *data], capsys
    )
    entries = json.loads((phantom_dir / tiny["data_list"]).read_text(encoding="utf-8"))["test"]
    entries = [{key: str(phantom_dir / entry[key]) for key in ("image", "label")} for entry in entries]
    lists = {"training": [], "unlabeled": [], "validation": entries[:1], "test": entries}
    assert f"1 validation images are also test images, for example {entries[0]['image']}; tuning on them" in said(
        program, [*arguments, "--data#datalist", str(lists)], capsys
    )
    lists = {**lists, "validation": []}
    assert "validation" in said(program, [*arguments, "--data#datalist", str(lists)], capsys)


def test_what_is_wrong_is_the_last_line(program, arguments, capsys, tmp_path):
    plain = [str(FILES[:2]) if word == str(FILES) else word for word in arguments]
    assert "add 'configs/evaluate.json' and" in said(program, plain, capsys)
    assert "the watershed has no setting 'level'; choose from seed_level, " in said(
        program, [*arguments, "--try", "level=1"], capsys
    )
    assert "seed_level is 3; a signed distance needs" in said(program, [*arguments, "--try", "seed_level=3"], capsys)
    supervised = str([FILES[0], str(ROOT / "configs/methods/supervised.yaml"), *FILES[1:]])
    arguments = [supervised if word == str(FILES) else word for word in arguments]
    arguments[arguments.index("--ckpt_dir") + 1] = str(tmp_path / "nowhere")
    assert f"no model at {tmp_path / 'nowhere' / 'model.pt'}; train first" in said(program, arguments, capsys)


@pytest.mark.parametrize("stray", [["stray"], ["--seed"], ["--try", "seed_level"], ["--try", "seed_level=a,b"]])
def test_a_wrong_command_line_ends_with_2(program, arguments, stray, capsys):
    with pytest.raises(SystemExit) as ended:
        program.main([*arguments, *stray])
    assert ended.value.code == 2
