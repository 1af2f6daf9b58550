"""docs/settings.md: every row is a setting of the configs, with its default and an argument that changes it."""

from __future__ import annotations

import ast
import json
import re
import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml
from fire.parser import DefaultParseValue
from monai.bundle import ConfigParser, ConfigWorkflow

from bundle.engines.error_summary import sentence

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
COMMAND = re.compile(r"^    python -m monai\.bundle run (\w+) --config_file (.+)$", re.MULTILINE)
NO_SETTINGS = {"bundle_root", "method", "protocol", "postprocessing"}
"""Plain keys of the configs that no table has: the page tells of the first, overlays and torchrun set the others."""
EXPECTED = {
    "training": {"dataset_dir", "data_list", "output_dir", "ckpt_dir", "device", "amp", "num_workers", "data#cache_gib"}
    | {"network_def#widths", "objective#ramp#maximum", "objective#gamma", "train#ema#decay", "crop_size", "classes"},
    "evaluating": {"output_dir", "ckpt_dir", "components#min_area", "components#hole_area"},
    "inference": {"dataset_dir", "output_dir", "ckpt_dir", "device", "amp", "num_workers", "crop_size", "classes"}
    | {"network_def#widths", "glands#min_area", "glands#hole_area", "mpp", "overwrite"},
}
"""Settings that have to be there, by what is run; plain keys of the configs come to them."""


@dataclass(frozen=True)
class Row:
    """A row of a table: a setting, its defaults with and without CUDA, and arguments that change it."""

    key: str
    with_cuda: Any
    without_cuda: Any
    arguments: list[str]


@dataclass(frozen=True)
class Section:
    """A section with a table, its command and its rows."""

    title: str
    run_id: str
    files: list[str]
    rows: list[Row]


def read_row(line: str) -> Row:
    """Read a row of a table of five columns; meaning and unit must not be empty."""
    key, meaning, _, default, arguments = (cell.strip() for cell in line.strip("|").split("|"))
    assert meaning
    values = [DefaultParseValue(text) for text in re.findall(r"`([^`]+)`", default)]
    assert len(values) == (2 if "with CUDA, else" in default else 1), line
    return Row(key.strip("`"), values[0], values[-1], shlex.split(arguments.strip("`")))


def read_section(text: str) -> Section:
    title = text.partition("\n")[0]
    (command,) = COMMAND.findall(text)
    (files,) = shlex.split(command[1])
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    names = ast.literal_eval(files) if files.startswith("[") else [files]
    return Section(title, command[0], names, [read_row(line) for line in lines])


SECTIONS = [read_section(text) for text in PAGE.split("\n## ")[1:]]


def parsed(section: Section, **overrides: Any) -> ConfigParser:
    """Return the configs of a section, read by MONAI."""
    parser = ConfigParser()
    parser.read_config([str(ROOT / file) for file in section.files])
    parser.update(overrides)
    return parser


def resolved(parser: ConfigParser, key: str) -> Any:
    """Return the resolved value of a key, as written on the command line."""
    value = parser.get_parsed_content(key)
    return as_said(str(value) if isinstance(value, torch.device) else value)


def as_said(value: Any) -> Any:
    return str(Path(value)) if isinstance(value, str) else value


each_section = pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.title)


def test_the_page_is_that_of_the_program(load_program: Callable[[str], ModuleType]) -> None:
    program = load_program("list_settings")
    assert program.main(["--check"]) == 0
    page = program.PAGE.read_text(encoding="utf-8")
    assert program.updated(page.replace("| `0.001` |", "| `0.01` |")) == page
    with pytest.raises(ValueError, match="section 'Unknown' needs a command, a table, and an entry"):
        program.updated(f"{page}\n## Unknown\n")


@each_section
def test_the_arguments_of_a_row_change_its_setting_and_are_accepted(
    section: Section,
    load_program: Callable[[str], ModuleType],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """First one argument at a time with MONAI, then all together with the config checker."""
    for row in section.rows:
        option, text = row.arguments
        assert option == f"--{row.key}"
        value = as_said(DefaultParseValue(text))
        assert value not in (as_said(row.with_cuda), as_said(row.without_cuda)) or row.with_cuda != row.without_cuda
        assert resolved(parsed(section, **{row.key: DefaultParseValue(text)}), row.key) == value, row.key
    monkeypatch.setenv("PAGER", "cat")
    files = ["--config_file", str([str(ROOT / file) for file in section.files])]
    arguments = [argument for row in section.rows for argument in row.arguments]
    code = load_program("check_config").main([section.run_id, *files, *arguments])
    assert (code, capsys.readouterr().out) == (0, "check_config: no problems found\n")


@pytest.mark.parametrize("run_id", list(EXPECTED))
def test_no_setting_is_left_out(run_id: str) -> None:
    """The page has the expected rows, and every top-level key with a number, a text or a list of numbers."""
    sections = [section for section in SECTIONS if section.run_id == run_id]
    expected = set(EXPECTED[run_id])
    for file in {file for section in sections for file in section.files if "/methods/" not in file}:
        if run_id == "evaluating" and file == "configs/train.json":  # the page says that they count there too
            continue
        text = (ROOT / file).read_text(encoding="utf-8")
        content = json.loads(text) if file.endswith(".json") else yaml.safe_load(text)
        expected |= {key for key, value in content.items() if "#" not in key and is_plain(value)} - NO_SETTINGS
    assert expected - {row.key for section in sections for row in section.rows} == set()


def is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(isinstance(item, int | float) for item in value)
    return not isinstance(value, dict) and not str(value).startswith(("@", "$"))


# The check at the start of a run


def initialized(*names: str, run_id: str = "training", configs: Path = ROOT / "configs", **overrides: Any) -> None:
    """Build the workflow of a run as `monai.bundle run` does, and initialize it."""
    files = [str(configs / name) for name in names]
    ConfigWorkflow(config_file=files, run_id=run_id, logging_file=False, **overrides).initialize()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("max_epochs", "many", "max_epochs is 'many'; it must be an integer, at least 1 and at most 1000000"),
        ("max_epochs", None, "max_epochs is None; it must be an integer"),
        ("max_epochs", [], "max_epochs is []; it must be an integer"),
        ("max_epochs", 1e99, "max_epochs is 1e+99; it must be an integer"),
        ("batch_size", 0, "batch_size is 0; it must be an integer, at least 1"),
        ("crop_size", ["a", "b"], "crop_size is ['a', 'b']; it must be a list of 2 integers, at least 16"),
        ("pixel_size", 0, "pixel_size is 0; it must be a number, more than 0"),
        ("pixel_size", -1, "pixel_size is -1; it must be a number, more than 0"),
        ("pixel_size", float("nan"), "pixel_size is nan; it must be a number, more than 0"),
        ("learning_rate", "fast", "learning_rate is 'fast'; it must be a number, more than 0"),
        ("seed", "abc", "seed is 'abc'; it must be an integer, at least 0"),
        ("dataset_dir", None, "dataset_dir is None; it must be the path of a folder"),
        ("dataset_dir", "null", "dataset_dir is 'null'; it must be the path of a folder"),  # words of the command line
        ("output_dir", "o#1", "it must be the path of a folder, without #, which MONAI reads as a separator"),
        ("amp", "maybe", "amp is 'maybe'; it must be True or False"),
        ("train#handlers", 3, "train#handlers is 3; it must be a list"),
        ("lr", 0.1, "lr is not a setting of these configs"),
        ("bach_size", 4, "bach_size is not a setting of these configs; did you mean batch_size?"),
        ("train#handler", [], "train#handler is not a setting of these configs; did you mean train#handlers?"),
    ],
)
def test_a_wrong_setting_is_refused_before_the_run(key: str, value: Any, message: str) -> None:
    with pytest.raises(RuntimeError) as failed:
        initialized("train.json", **{key: value})
    assert message in sentence(failed.value)


def test_valid_settings_are_accepted() -> None:
    rates = {"train#optimizer#params#encoder_learning_rate": None, "data#cache_rate": 0.5}
    initialized("train.json", **rates, amp="off", crop_size=[64, 64], num_workers=2)
    initialized("inference.json", "inference/geojson.yaml", run_id="inference", mpp=0.25, data_list=None)
    initialized("train.json", output_dir=Path("o#1"), device=torch.device("cpu"))


def test_files_that_a_run_does_not_use_may_be_damaged(tmp_path: Path) -> None:
    for name in ("train.json", "metadata.json"):
        shutil.copy(ROOT / "configs" / name, tmp_path)
    (tmp_path / "mine.json").write_text('{"reserved": 1}', encoding="utf-8")
    damaged = {"cut.json": b'{"seed": ', "bytes.json": b"\xff\xfe{}", "deep.json": b"[" * 100_000, "list.json": b"[]"}
    for name, content in (damaged | {"cut.yaml": b"seed: [1\n"}).items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "lost.json").symlink_to(tmp_path / "nowhere.json")
    (tmp_path / "folder.json").mkdir()
    initialized("train.json", configs=tmp_path, reserved=2)
    with pytest.raises(RuntimeError) as failed:
        initialized("train.json", configs=tmp_path, unreserved=2)
    assert sentence(failed.value).startswith("unreserved is not a setting of these configs")


def test_an_overlay_before_its_base_config_is_refused() -> None:
    with pytest.raises(RuntimeError) as failed, pytest.warns(UserWarning, match="Can't merge entry"):
        initialized("inference/geojson.yaml", "inference.json", run_id="inference")
    assert re.fullmatch(
        r"\w+ is set before the base config; give train.json or inference.json first", sentence(failed.value)
    )
