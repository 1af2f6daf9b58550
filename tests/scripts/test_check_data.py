"""Tests of the check of a data list on the command line."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import shutil
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "scripts" / "prepare_data.py"
LIST = "heldout_50_seed0.json"


@pytest.fixture
def program(load_program: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program as a module."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    return load_program("prepare_data")


@pytest.fixture
def data(phantom_dir: Path, tmp_path: Path) -> Path:
    """A phantom that a test may damage."""
    return Path(shutil.copytree(phantom_dir, tmp_path / "data"))


def test_a_clean_list_is_0_and_ends_with_a_sentence(
    program: ModuleType, phantom_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.main(["check", str(phantom_dir / LIST)]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[-1].startswith(f"{LIST} has no problem and ")
    assert lines[-1].endswith("; it can be used.")
    assert next(line for line in lines if line.startswith("images")).split() == ["images", "4", "4", "2", "3", "13"]
    assert err == ""


def test_json_stands_alone_and_is_stable(
    program: ModuleType, phantom_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = []
    for workers in ("1", "3"):
        assert program.main(["check", str(phantom_dir / LIST), "--json", "-", "--workers", workers]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]
    content = json.loads(texts[0])
    assert content["usable"]
    assert content["problems"] == []
    assert [len([item for item in content["images"] if item["part"] == part]) for part in content["parts"]] == [
        4,
        4,
        2,
        3,
    ]


def test_problems_are_1_and_all_told(program: ModuleType, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = json.loads((data / LIST).read_text(encoding="utf-8"))
    (data / content["training"][0]["image"]).unlink()
    mask = data / content["test"][0]["label"]
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(mask)
    report = data.parent / "report.json"
    assert program.main(["check", str(data / LIST), "--json", str(report)]) == 1
    out, err = capsys.readouterr()
    assert "- 1 file missing (" in out
    assert "- 1 mask of another size than the image (" in out
    last = err.splitlines()[-1]
    assert last.startswith("prepare_data: ")
    assert "has 2 problems (missing_file, size_mismatch); fix the problems listed above" in last
    reported = json.loads(report.read_text(encoding="utf-8"))
    assert not reported["usable"]
    assert [(problem["kind"], problem["count"]) for problem in reported["problems"]] == [
        ("missing_file", 1),
        ("size_mismatch", 1),
    ]
    assert program.main(["check", str(data / LIST), "--json", "-"]) == 1
    assert json.loads(capsys.readouterr().out) == reported


def test_a_sheet_is_drawn_of_what_can_be_read(program: ModuleType, data: Path) -> None:
    content = json.loads((data / LIST).read_text(encoding="utf-8"))
    for entry in content["validation"]:
        (data / entry["image"]).write_bytes(b"no picture")
    sheet = data.parent / "sheet.png"
    assert program.main(["check", str(data / LIST), "--sheet", str(sheet)]) == 1
    with Image.open(sheet) as picture:
        picture.load()
        assert picture.format == "PNG"
        assert picture.width == 8 + 6 * (240 + 8)
    assert sorted(file.name for file in data.parent.iterdir()) == ["data", "sheet.png"]


def test_classes_are_read_as_classes(
    program: ModuleType, phantom_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.main(["check", str(phantom_dir / LIST), "--classes", "200"]) == 0
    assert "masks: classes" in capsys.readouterr().out
    assert program.main(["check", str(phantom_dir / LIST), "--classes", "2"]) == 1
    assert "2 classes have values up to 1" in capsys.readouterr().out


def test_a_wrong_path_is_one_sentence(program: ModuleType, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in (
        ([str(data)], "is a folder; give the path of a data list (it holds"),
        ([str(data / "no.json")], "no data list"),
        ([str(data / LIST), "--json", str(data / "nowhere" / "a.json")], "No such file or directory"),
    ):
        assert program.main(["check", *arguments]) == 1
        err = capsys.readouterr().err.splitlines()
        assert len(err) == 1
        assert err[0].startswith("prepare_data: ")
        assert message in err[0]


@pytest.mark.parametrize("arguments", [[], ["a", "b"], ["a", "--workers", "0"], ["a", "--classes", "two"]])
def test_a_wrong_command_line_is_2(
    program: ModuleType, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        program.main(["check", *arguments])
    assert ended.value.code == 2
    assert "usage:" in capsys.readouterr().err


def read(terminal: int) -> bytes:
    """Return the output of a program on a terminal; empty if it has ended."""
    try:
        return os.read(terminal, 1000)
    except OSError:  # the other end is closed
        return b""


def test_ctrl_c_ends_with_130_and_without_a_traceback(data: Path) -> None:
    """On a terminal, while files are decoded, which the progress bar shows."""
    content = json.loads((data / LIST).read_text(encoding="utf-8"))
    noise = np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8)
    for number in range(1000):
        if number < 6:
            Image.fromarray(noise + np.uint8(number)).save(data / f"large_{number}.png", compress_level=1)
        else:
            os.link(data / f"large_{number % 6}.png", data / f"large_{number}.png")
    content["unlabeled"] = [{"image": f"large_{number}.png"} for number in range(1000)]
    (data / "large.json").write_text(json.dumps(content), encoding="utf-8")
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))  # no bar is drawn on 0 columns
    command = [sys.executable, str(PROGRAM), "check", str(data / "large.json"), "--workers", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, text=True) as running:
        os.close(theirs)
        printed = b""
        while b"file/s" not in printed and (more := read(ours)):
            printed += more
        running.send_signal(signal.SIGINT)
        out, _ = running.communicate(timeout=60)
        while more := read(ours):
            printed += more
    os.close(ours)
    assert running.returncode == 130, printed.decode()
    assert out == ""
    assert printed.decode().splitlines()[-1].endswith("prepare_data: stopped; nothing was written")
    assert b"Traceback" not in printed
