from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image

from bundle.data import load_data_list, read_label

LIST = "heldout_50_seed0.json"


def test_masks_are_drawn_beside_the_image(
    load_program: Callable[[str], ModuleType], phantom_dir: Path, tmp_path: Path, capsys: Any
) -> None:
    program, entries = load_program("draw_comparison"), load_data_list(phantom_dir, LIST)["test"]
    for entry in entries:
        mask = (read_label(entry["label"]).pixels > 0).astype(np.uint8)
        Image.fromarray(mask).save(tmp_path / f"{Path(entry['image']).stem}_mask.png")
    arguments = ["--dataset_dir", str(phantom_dir), "--data_list", LIST, "--width", "96", "--every", "2"]
    picture = tmp_path / "picture.png"
    assert program.main([*arguments, "--masks", f"same={tmp_path}", "--picture", str(picture)]) == 0
    with Image.open(picture) as drawn:
        width, height = drawn.size
    assert width == 8 + 2 * (96 + 8)
    assert height == 58 + 2 * (22 + 72 + 8), "two of three tiles of 48 x 64 px"
    assert program.main([*arguments, "--masks", f"none={tmp_path / 'none'}", "--picture", str(tmp_path / "b.png")]) == 1
    assert "_mask.png" in capsys.readouterr().err
    assert not (tmp_path / "b.png").exists()
