"""docs/settings.md: every row is a setting of the configs, with its default and words that change it."""

from __future__ import annotations

import ast
import json
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml
from fire.parser import DefaultParseValue
from monai.bundle import ConfigParser

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
COMMAND = re.compile(r"^    python -m monai\.bundle run (\w+) --config_file (.+)$", re.MULTILINE)
NO_SETTINGS = {"bundle_root", "method", "protocol", "postprocessing", "rank", "world_size"}
"""Plain keys of the configs that no table has: the page tells of the first, overlays and torchrun set the others."""
EXPECTED = {
    "training": {"dataset_dir", "data_list", "output_dir", "ckpt_dir", "device", "amp", "num_workers", "cache_gib"}
    | {"network_def#widths", "objective#ramp#maximum", "objective#gamma", "teacher#decay", "crop_size", "classes"},
    "evaluating": {"output_dir", "ckpt_dir", "components#min_area", "components#hole_area"},
    "inference": {"dataset_dir", "output_dir", "ckpt_dir", "device", "amp", "num_workers", "crop_size", "classes"}
    | {"network_def#widths", "glands#min_area", "glands#hole_area", "mpp", "overwrite"},
}
"""Settings that have to be there, by what is run; plain keys of the configs come to them."""


@dataclass(frozen=True)
class Row:
    """A line of a table: a setting, its default with and without CUDA as the page has them, and how to change it."""

    key: str
    with_cuda: Any
    without_cuda: Any
    words: list[str]


@dataclass(frozen=True)
class Section:
    """A section with a table, its command and its rows."""

    title: str
    run_id: str
    files: list[str]
    rows: list[Row]


def read_row(line: str) -> Row:
    """A line of a table of five columns, meaning and unit not empty where there are any."""
    key, meaning, _, default, words = (cell.strip() for cell in line.strip("|").split("|"))
    assert meaning
    values = [DefaultParseValue(text) for text in re.findall(r"`([^`]+)`", default)]
    assert len(values) == (2 if "with CUDA, else" in default else 1), line
    return Row(key.strip("`"), values[0], values[-1], shlex.split(words.strip("`")))


def read_section(text: str) -> Section:
    title = text.partition("\n")[0]
    (command,) = COMMAND.findall(text)
    (files,) = shlex.split(command[1])
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    names = ast.literal_eval(files) if files.startswith("[") else [files]
    return Section(title, command[0], names, [read_row(line) for line in lines])


SECTIONS = [read_section(text) for text in PAGE.split("\n## ")[1:]]


def parsed(section: Section, **overrides: Any) -> ConfigParser:
    """The configs of a section, read as MONAI reads them."""
    parser = ConfigParser()
    parser.read_config([str(ROOT / file) for file in section.files])
    parser.update(overrides)
    return parser


def resolved(parser: ConfigParser, key: str) -> Any:
    """What a key comes to, as the command line would say it."""
    value = parser.get_parsed_content(key)
    return as_said(str(value) if isinstance(value, torch.device) else value)


def as_said(value: Any) -> Any:
    return str(Path(value)) if isinstance(value, str) else value


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Lets the configs find a GPU, or none."""

    def tell(there: bool) -> None:
        monkeypatch.setattr("torch.cuda.is_available", lambda: there)
        monkeypatch.setattr("torch.cuda.device_count", lambda: int(there))

    monkeypatch.delenv("LOCAL_RANK", raising=False)
    return tell


each_section = pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.title)


@each_section
@pytest.mark.parametrize("there", [True, False], ids=["with CUDA", "without"])
def test_every_default_is_that_of_the_configs(section: Section, there: bool, cuda: Callable[[bool], None]) -> None:
    cuda(there)
    parser = parsed(section)
    assert len({row.key for row in section.rows}) == len(section.rows) > 1
    for row in section.rows:
        assert row.key in parser, f"{row.key} is no key of {section.files}"
        if there and row.with_cuda == row.without_cuda:
            continue
        told, found = as_said(row.with_cuda if there else row.without_cuda), resolved(parser, row.key)
        assert (found, isinstance(found, bool)) == (told, isinstance(told, bool)), row.key


@each_section
def test_the_words_of_a_row_change_its_setting_and_are_refused_by_nobody(
    section: Section,
    load_program: Callable[[str], ModuleType],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One at a time as MONAI takes them, then all together by the checker of configs."""
    for row in section.rows:
        option, text = row.words
        assert option == f"--{row.key}"
        value = as_said(DefaultParseValue(text))
        assert value not in (as_said(row.with_cuda), as_said(row.without_cuda)) or row.with_cuda != row.without_cuda
        assert resolved(parsed(section, **{row.key: DefaultParseValue(text)}), row.key) == value, row.key
    monkeypatch.setenv("PAGER", "cat")
    files = ["--config_file", str([str(ROOT / file) for file in section.files])]
    words = [word for row in section.rows for word in row.words]
    code = load_program("check_config").main([section.run_id, *files, *words])
    assert (code, capsys.readouterr().out) == (0, "check_config: no problems found\n")


@pytest.mark.parametrize("run_id", list(EXPECTED))
def test_no_setting_is_left_out(run_id: str) -> None:
    """What is expected, and every key at the top of a config that holds a number, a text or a list of numbers."""
    sections = [section for section in SECTIONS if section.run_id == run_id]
    wanted = set(EXPECTED[run_id])
    for file in {file for section in sections for file in section.files if "/methods/" not in file}:
        if run_id == "evaluating" and file == "configs/train.json":  # the page says that they count there too
            continue
        text = (ROOT / file).read_text(encoding="utf-8")
        content = json.loads(text) if file.endswith(".json") else yaml.safe_load(text)
        wanted |= {key for key, value in content.items() if "#" not in key and is_plain(value)} - NO_SETTINGS
    assert wanted - {row.key for section in sections for row in section.rows} == set()


def is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(isinstance(one, int | float) for one in value)
    return not isinstance(value, dict) and not str(value).startswith(("@", "$"))
