"""Ctrl-C while a program imports its modules: one line, no traceback."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
PROGRAMS = [path for path in sorted(SCRIPTS.glob("*.py")) if path.name != "interruption.py"]
PROGRAMS.append(SCRIPTS / "label_app" / "start.py")
SLOW = ("numpy", "torch", "monai", "monailabel", "torchvision", "yaml", "tqdm", "fire", "pandas", "matplotlib")


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_a_program_stopped_during_its_imports_says_one_line(program: Path, tmp_path: Path) -> None:
    for name in SLOW:
        (tmp_path / f"{name}.py").write_text("raise KeyboardInterrupt")
    arguments = ["--cells", "x", "--output", "x", "--methods", "x", "--dataset", "x", "--ckpt_dir", "x"]
    if program.stem in ("prepare_data", "demo", "check_config"):
        arguments = []
    if program.stem == "start":
        arguments = ["--studies", str(tmp_path), "--port", "0"]
    completed = subprocess.run(
        [sys.executable, str(program), *arguments],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert completed.returncode in (-signal.SIGINT, 130), completed.stderr
    assert re.fullmatch(rf"{program.stem}: stopped[^\n]*\n", completed.stderr)
