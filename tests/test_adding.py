"""docs/adding.md does what it says: its files, in a copy of the bundle, run by its commands."""

from __future__ import annotations

import csv
import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from bundle.data import write_phantom

FILE = re.compile(r"^File `([^`]+)`:\n\n((?:(?: {4}.*)?\n)+)", re.MULTILINE)
ORDINARY = ("_target_", "_requires_", "dataset_dir", "name")
COMMAND = re.compile(r"^ {4}(python .+)$", re.MULTILINE)


@pytest.fixture(scope="module")
def page(repository_root: Path) -> dict[str, str]:
    """Section of the page by its heading."""
    text = (repository_root / "docs" / "adding.md").read_text(encoding="utf-8")
    return {title: body for title, _, body in (part.partition("\n") for part in text.split("\n## ")[1:])}


@pytest.fixture(scope="module")
def run_command(python: Callable) -> Callable[[str, Path], None]:
    """Runs a command of the page."""

    def run(command: str, folder: Path) -> None:
        _, *arguments = shlex.split(command)
        ran = python(*arguments, cwd=folder)
        assert ran.returncode == 0, f"{command}\n{ran.stdout}\n{ran.stderr}"

    return run


@pytest.fixture(scope="module")
def follow(
    page: dict[str, str], copy_bundle: Callable, repository_root: Path, run_command: Callable
) -> Callable[..., Path]:
    """Writes the files of a section into a copy of the bundle, runs its commands there, and gives the copy."""

    def run(section: str, paths: dict[str, str], skip: str = "") -> Path:
        root: Path = copy_bundle(section.replace(" ", "_")).root
        for name in ("tests", "scripts"):
            left = shutil.ignore_patterns("__pycache__", "test_*.py")
            shutil.copytree(repository_root / name, root / name, ignore=left, dirs_exist_ok=True)
        shutil.copy(repository_root / "pyproject.toml", root)
        if "data#datalist#_target_" in page[section]:  # the settings of the embedded tiles are none of another set
            config = json.loads((root / "configs" / "train.json").read_text(encoding="utf-8"))
            config["data"]["datalist"] = {key: config["data"]["datalist"][key] for key in ORDINARY}
            (root / "configs" / "train.json").write_text(json.dumps(config), encoding="utf-8")
        files = FILE.findall(page[section])
        assert files, section
        for name, content in files:
            assert not (root / name).exists(), f"{name} is there already"
            (root / name).write_text(dedent(content), encoding="utf-8")
        commands = COMMAND.findall(FILE.sub("", page[section]))
        assert commands, section
        for command in commands:
            for name, path in paths.items():
                command = command.replace(name, path)
            if not (skip and skip in command):
                run_command(command, root)
        return root

    return run


def test_a_method(follow):
    root = follow("A method", {"tests/methods -k class_prior": "-q tests/methods/test_class_prior.py"})
    with (root / "runs" / "class_prior" / "training.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {float(row["regularizer/prior"]) > 0 for row in rows} == {True}


def test_a_data_set(follow, tmp_path):
    write_phantom(tmp_path / "drawn", size=[48, 64], parts={"training": [4, 8], "validation": [2, 2], "test": [2, 2]})
    (tmp_path / "source").mkdir()
    masks = sorted((tmp_path / "drawn").rglob("label/*.png"))
    assert len(masks) == 12
    for number, mask in enumerate(masks, start=1):
        shutil.copy(mask, tmp_path / "source" / f"tile_{number}_glands.png")
        shutil.copy(mask.parent.parent / "image" / mask.name, tmp_path / "source" / f"tile_{number}.png")
    paths = {"SOURCE": str(tmp_path / "source"), "DIR": str(tmp_path / "made")}
    root = follow("A data set", paths)
    assert (root / "runs" / "semi_moe_plus" / "model.pt").is_file()
    assert sorted(path.name for path in (tmp_path / "made").glob("*.json")) == [
        "heldout_100_seed0.json",
        "heldout_50_seed0.json",
    ]


def test_a_metric(follow, run_command):
    root = follow("A metric", {}, skip="evaluating")
    run_command("python -m monai.bundle run training --config_file configs/train.json --max_epochs 1", root)
    arguments = "\"['configs/train.json','configs/evaluate.json','configs/postprocessing/area.yaml']\""
    run_command(f"python -m monai.bundle run evaluating --config_file {arguments}", root)
    folder = root / "runs" / "semi_moe_plus" / "evaluation"
    with (folder / "per_image.csv").open(encoding="utf-8") as file:
        errors = [float(row["area_error"]) for row in csv.DictReader(file)]
    scores = dict(csv.reader((folder / "metrics.csv").read_text(encoding="utf-8").splitlines()))
    assert len(errors) == 3
    assert float(scores["area_error"]) == pytest.approx(sum(errors) / 3, abs=1e-4)
    assert 0.0 < max(errors) <= 1.0
