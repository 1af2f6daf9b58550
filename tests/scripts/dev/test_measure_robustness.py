"""Measurement of robustness: changes of images, and the table for a network."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from bundle.networks import SemiMoE

ROOT = Path(__file__).resolve().parents[3]
FILES = [str(ROOT / "configs" / name) for name in ("train.json", "evaluate.json")]


@pytest.fixture(scope="module")
def program(load_program: Callable[[str], ModuleType]) -> ModuleType:
    return load_program("measure_robustness")


def test_each_change_gives_other_colors_of_the_same_size(program: ModuleType) -> None:
    picture = np.random.default_rng(0).integers(90, 230, (32, 24, 3)).astype(np.uint8)
    for name, change in program.CHANGES.items():
        changed = change(picture)
        assert (changed.shape, changed.dtype) == (picture.shape, np.uint8), name
        assert not np.array_equal(changed, picture), name
    assert np.array_equal(program.stained(1.0, 1.0)(picture), picture)
    assert np.array_equal(program.brightened(2.0)(np.full((1, 1, 3), 200, np.uint8)), np.full((1, 1, 3), 255))


def test_the_table_has_all_changes_and_their_differences(
    program: ModuleType,
    tiny: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(program, "CHANGES", {name: program.CHANGES[name] for name in ("blur, 2 px", "eosin x 0.75")})
    folder = Path(tiny["ckpt_dir"])
    folder.mkdir()
    torch.manual_seed(7)
    torch.save(SemiMoE(widths=tiny["network_def#widths"]).state_dict(), folder / "model.pt")
    arguments = [
        "--config_file",
        str(FILES),
        *(word for key, value in tiny.items() for word in (f"--{key}", str(value))),
    ]
    assert program.main([*arguments, "--output", str(tmp_path / "scores.json")]) == 0
    scores = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    assert list(scores) == [program.UNCHANGED, *program.CHANGES, *program.PIXEL_SIZES]
    rows = capsys.readouterr().out.splitlines()[2:]
    assert len(rows) == len(scores)
    first, last = scores[program.UNCHANGED], scores["pixel size x 1.25"]
    assert f"{last['pooled_dice']:.3f} ({last['pooled_dice'] - first['pooled_dice']:+.3f})" in rows[-1]
    assert len({value["pooled_dice"] for value in scores.values()}) > 2
