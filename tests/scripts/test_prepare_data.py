"""Preparation of data folders from the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bundle.data import phantom

ROOT = Path(__file__).resolve().parents[2]
PARTS = (("train", 85), ("testA", 60), ("testB", 20))

LoadProgram = Callable[[str], ModuleType]


@pytest.fixture
def run(python: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """Run the program in the temporary folder."""
    return partial(python, ROOT / "scripts" / "prepare_data.py", cwd=tmp_path)


def make_source(folder: Path) -> Path:
    """Make a folder in the layout of GlaS with tiny pictures."""
    folder.mkdir()
    rows = ["name,patient ID, grade (GlaS)"]
    for part, count in PARTS:
        for number in range(1, count + 1):
            Image.fromarray(np.full((4, 5, 3), number, np.uint8)).save(folder / f"{part}_{number}.bmp")
            Image.fromarray(np.full((4, 5), number % 3, np.uint8)).save(folder / f"{part}_{number}_anno.bmp")
            rows.append(f"{part}_{number},{number % 15}, {'benign' if number <= 37 else 'malignant'}")
    (folder / "Grade.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


def test_glas_is_prepared_from_any_folder(run: Callable[..., Any], tmp_path: Path) -> None:
    make_source(tmp_path / "source")
    completed = run("glas", "--source", "source", "--output", "data/glas", "--mpp", "0.465")
    assert completed.returncode == 0, completed.stderr
    lists = json.loads((tmp_path / "data/glas/heldout_10_seed0.json").read_text(encoding="utf-8"))
    assert [len(lists[part]) for part in ("training", "unlabeled", "validation", "test")] == [7, 61, 17, 80]
    assert lists["test"][0]["mpp"] == 0.465
    assert "research only" in completed.stdout
    assert completed.stdout.splitlines()[-1] == (
        "python -m monai.bundle run training --config_file "
        f"\"['configs/train.json','configs/data/glas.yaml']\" --dataset_dir {tmp_path / 'data/glas'}"
    )


def make_mine(folder: Path) -> Path:
    """Make a folder of 10 images with a mask and 2 without."""
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for number in range(12):
        name = f"tile {number:02d}.png"
        Image.fromarray(np.full((4, 5, 3), 9 * number, np.uint8)).save(folder / "images" / name)
        if number < 10:
            Image.fromarray(np.eye(4, 5, dtype=np.uint8) * 255).save(folder / "masks" / name)
    return folder


def test_a_folder_is_prepared_and_says_how_to_train(
    tmp_path: Path, load_program: LoadProgram, capsys: pytest.CaptureFixture[str]
) -> None:
    make_mine(tmp_path / "mine")
    program = load_program("prepare_data")
    arguments = ["folder", "--images", str(tmp_path / "mine/images"), "--masks", str(tmp_path / "mine/masks")]
    assert program.main([*arguments, "--output", str(tmp_path / "one")]) == 0
    output = capsys.readouterr().out.splitlines()
    assert output == [
        "Note: 10 of 10 masks: one value for all glands, connected components numbered.",
        "Note: no patients are known; if patients have several images, give --table, or scores are optimistic.",
        "Note: 12 of 12 images have no um/px, so they are not resampled; give it with --mpp.",
        "heldout_100_seed0.json: 6 training, 2 unlabeled, 2 validation, 2 test",
        "To train on heldout_100_seed0.json, the only data list in "
        + f"{tmp_path / 'one'}, run in the root of the repository:",
        "python -m monai.bundle run training --config_file \"['configs/train.json','configs/data/folder.yaml']\" "
        f"--dataset_dir {tmp_path / 'one'} --data_list heldout_100_seed0.json",
    ]
    more = ["--labeled", "10%", "4", "--seeds", "0", "1", "--validation", "3", "--test", "10%", "--folds", "2"]
    assert program.main([*arguments, "--output", str(tmp_path / "two"), *more, "--classes", "2", "--mpp", "1"]) == 0
    output = capsys.readouterr().out.splitlines()
    assert output[0] == "Note: 10 of 10 masks: 255 read as class 1."
    assert "heldout_4images_seed1.json: 4 training, 4 unlabeled, 3 validation, 1 test" in output
    assert output[-1].endswith(f"--dataset_dir {tmp_path / 'two'}")
    content = json.loads((tmp_path / "two/heldout_10_seed0.json").read_text(encoding="utf-8"))
    assert content["labels"] == {"0": "background", "1": "class_1"}
    nested = ["folder", "--images", str(tmp_path / "mine"), "--output", str(tmp_path / "three")]
    assert program.main([*nested, "--colors", "0,0,0=0", "255,255,255=1"]) == 0
    assert "Note: 10 of 10 masks: colors read as values." in capsys.readouterr().out.splitlines()
    assert (tmp_path / "three/label/tile 00.png").read_bytes() == (tmp_path / "one/label/tile 00.png").read_bytes()
    assert program.main([*nested[:-1], str(tmp_path / "four"), "--colors", "0,0,0=0", "0,0,0=1"]) == 1
    assert "gives a color twice" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        program.main([*nested[:-1], str(tmp_path / "four"), "--colors", "0,0,256=0"])
    assert "'0,0,256=0' is not RED,GREEN,BLUE=VALUE with numbers up to 255" in capsys.readouterr().err
    assert not (tmp_path / "four").exists()


def test_crag_is_prepared_with_its_terms(
    tmp_path: Path, load_program: LoadProgram, capsys: pytest.CaptureFixture[str]
) -> None:
    for part, begin, count in (("train", "train", 173), ("valid", "test", 40)):
        for kind in ("Images", "Annotation"):
            (tmp_path / "CRAG" / part / kind).mkdir(parents=True)
        for number in range(1, count + 1):
            name = f"{begin}_{number}.png"
            Image.fromarray(np.full((4, 5, 3), number, np.uint8)).save(tmp_path / "CRAG" / part / "Images" / name)
            Image.fromarray(np.eye(4, 5, dtype=np.uint8)).save(tmp_path / "CRAG" / part / "Annotation" / name)
    program = load_program("prepare_data")
    assert program.main(["crag", "--source", str(tmp_path / "CRAG"), "--output", str(tmp_path / "data")]) == 0
    output = capsys.readouterr().out.splitlines()
    assert "research only" in output[0]
    assert "not publish patients" in output[1]
    assert output[-1].endswith(f"'configs/data/crag.yaml']\" --dataset_dir {tmp_path / 'data'}")
    lists = json.loads((tmp_path / "data/heldout_10_seed0.json").read_text(encoding="utf-8"))
    assert [len(lists[part]) for part in ("training", "unlabeled", "validation", "test")] == [14, 124, 35, 40]


def test_phantom_is_drawn_and_a_used_folder_is_respected(
    tmp_path: Path, load_program: LoadProgram, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = {"training": (4, 20), "validation": (2, 2), "test": (2, 2)}
    monkeypatch.setattr(phantom, "write_phantom", partial(phantom.write_phantom, size=(32, 32), parts=small))
    program = load_program("prepare_data")
    assert program.main(["phantom", "--output", str(tmp_path / "new folder"), "--seed", "3"]) == 0
    lists = json.loads((tmp_path / "new folder/heldout_10_seed0.json").read_text(encoding="utf-8"))
    assert [len(lists[part]) for part in ("training", "unlabeled", "validation", "test")] == [2, 18, 2, 2]
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.endswith(f"'configs/data/phantom.yaml']\" --dataset_dir '{tmp_path / 'new folder'}'")
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "mine.txt").touch()
    assert program.main(["phantom", "--output", str(tmp_path / "used")]) == 1
    assert "used exists and is not a phantom" in capsys.readouterr().err.splitlines()[-1]


def test_errors_are_one_sentence_and_leave_nothing(
    tmp_path: Path, load_program: LoadProgram, capsys: pytest.CaptureFixture[str]
) -> None:
    source = make_source(tmp_path / "source")
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(source / "train_5_anno.bmp")
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "mine.txt").touch()
    (tmp_path / "bare").mkdir()
    before = sorted(tmp_path.iterdir())
    program = load_program("prepare_data")
    for folder, output, message in (
        ("nowhere", "new", "give --source"),
        ("bare", "new", "no Grade.csv in"),
        ("source", "new", "train_5_anno.bmp is 4 x 4 px"),
        ("source", "used", "used exists and is not empty"),
        ("source", "new#1", "new#1 holds #, which MONAI reads as a separator"),
    ):
        assert program.main(["glas", "--source", str(tmp_path / folder), "--output", str(tmp_path / output)]) == 1
        last = capsys.readouterr().err.splitlines()[-1]
        assert last.startswith("prepare_data: ")
        assert message in last
        assert sorted(tmp_path.iterdir()) == before


def test_an_error_ends_the_program_without_a_traceback(run: Callable[..., Any], tmp_path: Path) -> None:
    completed = run("glas", "--source", "nowhere", "--output", "new")
    assert completed.returncode == 1
    assert completed.stderr.splitlines()[-1].endswith(
        "nowhere; give --source, the folder that holds train_1.bmp and Grade.csv"
    )
    assert "Traceback" not in completed.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["glas"],
        ["unknown"],
        ["glas", "--source", "a", "--output", "b", "--mpp", "x"],
        ["folder", "--images", "a", "--output", "b", "--test", "many"],
    ],
)
def test_a_wrong_command_line_is_2(run: Callable[..., Any], arguments: list[str]) -> None:
    completed = run(*arguments)
    assert completed.returncode == 2
    assert "usage: prepare_data.py" in completed.stderr
