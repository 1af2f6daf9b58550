"""Tests of the program that draws tiles with touching glands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from bundle.handlers import drawing
from bundle.networks import SemiMoE

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = str(
    [str(ROOT / "configs" / name) for name in ("train.json", "evaluate.json", "postprocessing/watershed.yaml")]
)


@pytest.fixture(scope="module")
def program(load_program: Callable[[str], ModuleType]) -> ModuleType:
    """The program as a module."""
    return load_program("show_instances")


@pytest.fixture
def arguments(tiny: dict[str, Any]) -> list[str]:
    """Arguments of the program with an untrained model."""
    folder = Path(tiny["ckpt_dir"])
    folder.mkdir()
    torch.save(SemiMoE(widths=tiny["network_def#widths"]).state_dict(), folder / "model.pt")
    return [word for key, value in tiny.items() for word in (f"--{key}", str(value))]


def test_it_draws_each_tile_three_times(program, arguments, tmp_path, capsys):
    picture = tmp_path / "new" / "instances.png"
    sizes = ["--tiles", "2", "--cell", "60"]
    assert program.main(["--config_file", CONFIGS, "--picture", str(picture), *sizes, *arguments]) == 0
    assert str(picture) in capsys.readouterr().out
    with Image.open(picture) as drawn:
        assert drawn.mode == "P"
        assert drawn.width == 3 * 60 + 4 * 8
        rows = np.asarray(drawn.convert("RGB"))
    assert len(np.unique(rows.reshape(-1, 3), axis=0)) > 50


def test_touching_glands_are_told_and_colored_apart(program):
    glands = np.zeros((12, 12), int)
    glands[:6, :6], glands[:6, 6:], glands[6:, :6], glands[9:, 9:] = 5, 9, 12, 300
    assert program.touching(glands, 1) == {(5, 9), (5, 12)}
    assert program.touching(glands, 4) == {(5, 9), (5, 12), (9, 300), (12, 300)}
    colors = program.color_numbers(glands)
    assert set(colors) == {5, 9, 12, 300}
    assert all(colors[low] != colors[high] for low, high in program.touching(glands, 4))
    assert program.color_numbers(np.zeros((3, 3), int)) == {}


def test_many_glands_keep_their_numbers_when_made_small():
    glands = np.arange(1, 401).reshape(20, 20)
    assert drawing.resized(glands, (40, 10)).shape == (40, 10)
    assert drawing.resized(glands, (40, 20)).max() == 400
    np.testing.assert_array_equal(drawing.resized(glands, (20, 20)), glands)


def test_what_is_wrong_is_the_last_line(program, arguments, tmp_path, capsys):
    picture = ["--picture", str(tmp_path / "instances.png")]
    assert program.main(["--config_file", CONFIGS.replace(", ", ",").split(",")[0] + "]", *picture, *arguments]) == 1
    assert "the configs do not contain `components` and `watershed`" in capsys.readouterr().err.splitlines()[-1]
    arguments[arguments.index("--ckpt_dir") + 1] = str(tmp_path / "nowhere")
    assert program.main(["--config_file", CONFIGS, *picture, *arguments]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("show_instances: no model at")
    assert not Path(picture[1]).exists()
    with pytest.raises(SystemExit) as ended:
        program.main(["--config_file", CONFIGS, *picture, "stray"])
    assert ended.value.code == 2
