"""The demo from the command line, with few small tiles and one epoch: it writes a table, a figure and a report."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image


@pytest.mark.slow
def test_the_demo_ends_with_a_table_a_picture_and_a_page(
    repository_root: Path, phantom_dir: Path, python: Callable[..., Any], tmp_path: Path
) -> None:
    output = tmp_path / "demo"
    shutil.copytree(phantom_dir, output / "dataset")
    arguments = ["--output", str(output), "--max-epochs", "1", "--images", "2"]
    completed = python(repository_root / "scripts" / "demo.py", *arguments, timeout=900)
    assert completed.returncode == 0, completed.stdout + completed.stderr
    head, *rows = completed.stdout[completed.stdout.index("test, 3 tiles") :].splitlines()[:3]
    assert head.split()[3:] == ["pooled_dice", "pooled_jaccard", "mean_dice", "mean_jaccard", "training"]
    assert [row.split()[0] for row in rows] == ["supervised", "semi_moe_plus"]
    assert all(0 <= float(score) <= 1 for row in rows for score in row.split()[1:5])
    picture, page = output / "comparison.png", output / "report" / "report.html"
    assert f"on test tiles: {picture}\n" in completed.stdout
    assert f"Report (HTML): {page}\n" in completed.stdout
    with Image.open(picture) as opened:
        assert opened.width > 3 * 48
    for method in ("supervised", "semi_moe_plus"):
        assert len(list((output / "masks" / method).glob("*_mask.png"))) == 3
    text = page.read_text(encoding="utf-8")
    assert re.search("<h1>supervised and semi_moe_plus on phantom: .*(leads by|are tied)", text)
    assert "scores are computed on 3 test images." in text
    assert text.count("data:image/webp;base64,") == 4, "the worst and the best tile of each method"


def test_a_step_that_fails_ends_the_demo(repository_root: Path, python: Callable[..., Any]) -> None:
    completed = python(repository_root / "scripts" / "demo.py", "--output", str(repository_root / "bundle" / "demo"))
    assert completed.returncode == 2
    assert "give a separate folder" in completed.stderr
    assert completed.stderr.splitlines()[-1] == "demo: a command failed with exit code 2; see its output above"
    assert not (repository_root / "bundle" / "demo").exists()
