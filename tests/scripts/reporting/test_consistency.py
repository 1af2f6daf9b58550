"""The table of pseudo-labels: means over seeds at three times of training."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.reporting.cells import Cell
from scripts.reporting.consistency import consistency_table


def cell(seed: int, last: float) -> Cell:
    curves = {
        "epoch": [1.0, 2.0, 3.0, 4.0, 5.0],
        "foreground/gates/seg": [0.5, 0.4, 0.3, 0.2, last],
        "counted/gates/seg": [1.0, 1.0, None, 0.5, 0.25],
        "unlabeled/gates/seg": [0.123456, 0.1, 0.1, 0.1, 0.05],
        "validation/pooled_dice": [None, None, None, None, 0.9],
    }
    return Cell(
        Path("."), {"method": "semi_moe", "labels": 10, "seed": seed, "steps": 50, "epochs": 5, "curves": curves}
    )


def test_a_row_per_column_with_the_mean_over_seeds():
    table = consistency_table([cell(0, 0.1), cell(1, 0.0)])
    assert list(table.columns) == ["method", "labels", "column", "first epoch", "middle", "last epoch"]
    assert table.to_numpy().tolist() == [
        ["semi_moe", "10 %", "counted/gates/seg", "100.0 %", "100.0 %", "25.0 %"],
        ["semi_moe", "10 %", "foreground/gates/seg", "50.0 %", "30.0 %", "5.0 %"],
    ]
    assert consistency_table([cell(0, 0.1)], ["unlabeled"]).to_numpy().tolist() == [
        ["semi_moe", "10 %", "unlabeled/gates/seg", "0.1235", "0.1", "0.05"]
    ]


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="unknown kind 'color'"):
        consistency_table([cell(0, 0.1)], ["color"])


def test_the_program_without_cells(load_program, tmp_path, capsys):
    program = load_program("show_consistency")
    assert program.main(["--cells", str(tmp_path / "none")]) == 1
    assert "no folder" in capsys.readouterr().err
