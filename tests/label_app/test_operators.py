from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

BUILT_FOR_ANOTHER = """
import torch

@torch.library.register_fake("torchvision::nms")
def describe(boxes, scores, threshold):
    return boxes
"""
"""What torchvision does first; torch refuses where the operator is missing."""
PROGRAM = """
import subprocess, sys
from lib.operators import prepare_torchvision

environment = {"PYTHONPATH": sys.argv[1], "PATH": ""}
print(prepare_torchvision(environment), prepare_torchvision({}), *environment["PYTHONPATH"].split(":"), flush=True)
lines = "import sys; print('torch' in sys.modules); import torchvision; print(torchvision.describe.__name__)"
subprocess.run([sys.executable, "-c", lines], env=environment, check=True)
"""


def run(program: str, folder: Path, torchvision: str) -> subprocess.CompletedProcess[str]:
    (folder / "torchvision").mkdir()
    (folder / "torchvision" / "__init__.py").write_text(torchvision, encoding="utf-8")
    app = Path(__file__).resolve().parents[2] / "scripts" / "label_app"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), str(app)])}
    return subprocess.run(
        [sys.executable, "-c", program, str(folder)], env=environment, capture_output=True, text=True, timeout=120
    )


def test_torchvision_for_another_torch_can_be_imported_here_and_in_later_processes(repository_root, tmp_path):
    completed = run(PROGRAM, tmp_path, BUILT_FOR_ANOTHER)
    assert completed.returncode == 0, completed.stderr
    stubs = repository_root / "scripts" / "label_app" / "stubs"
    assert completed.stdout.split() == ["True", "False", str(stubs), str(tmp_path), "False", "describe"]


@pytest.mark.parametrize(
    ("torchvision", "message"),
    [("", "False {}"), ("raise RuntimeError('another reason')", "RuntimeError: another reason")],
)
def test_nothing_is_done_where_torchvision_works_or_fails_for_another_reason(tmp_path, torchvision, message):
    program = "from lib.operators import prepare_torchvision as p; made = {}; print(p(made), made)"
    completed = run(program, tmp_path, torchvision)
    assert message in completed.stdout + completed.stderr
