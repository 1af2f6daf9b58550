"""Drawing of tiles as changed by a view."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def program(load_program: Callable[[str], ModuleType]) -> ModuleType:
    """The program as a module."""
    return load_program("show_views")


@pytest.fixture
def arguments(tiny: dict[str, Any]) -> list[str]:
    """Arguments for a small figure of small tiles."""
    changes = {key: tiny[key] for key in ("dataset_dir", "crop_size", "data_list", "num_workers")}
    sizes = ["--tiles", "2", "--draws", "3", "--cell", "40"]
    return [*sizes, *(word for key, value in changes.items() for word in (f"--{key}", str(value)))]


def test_it_draws_each_tile_and_its_views_the_same_for_a_seed(program, arguments, tmp_path, capsys):
    drawn = []
    for name, seed in (("one", "0"), ("again", "0"), ("other", "1")):
        picture = tmp_path / "new" / f"{name}.png"
        assert program.main(["--picture", str(picture), "--seed", seed, *arguments]) == 0
        assert str(picture) in capsys.readouterr().out
        with Image.open(picture) as opened:
            drawn.append(np.asarray(opened.convert("RGB")))
    assert drawn[0].shape == (58 + 2 * (22 + 40 + 8), 4 * (40 + 8) + 8, 3)
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert (drawn[0] != drawn[2]).any()
    cells = [drawn[0][80:120, left : left + 40] for left in range(8, 4 * 48, 48)]
    assert all((cells[0] != cell).any() for cell in cells[1:])


def test_an_unknown_view_is_the_last_line(program, arguments, tmp_path, capsys):
    picture = tmp_path / "views.png"
    assert program.main(["--picture", str(picture), "--view", "weaker_view", *arguments]) == 1
    assert "the configs do not contain `weaker_view`" in capsys.readouterr().err.splitlines()[-1]
    assert not picture.exists()
