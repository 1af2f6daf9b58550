"""Benchmark of inference: one row for each backend, equal outputs, and the machine that ran it."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from types import ModuleType

import pytest
import torch

TINY = ["--widths", "3", "3", "4", "4", "4", "--batch", "2", "--size", "32", "--repeats", "2", "--threads", "1"]
WAYS = ["torch", "torch, channels_last", "TorchScript", "TorchScript, frozen", "ONNX Runtime"]


@pytest.fixture(scope="module")
def program(load_program: Callable[[str], ModuleType]) -> ModuleType:
    return load_program("benchmark_inference")


@pytest.fixture(autouse=True)
def _cpu(monkeypatch):
    """Use the CPU only, and restore the number of threads."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_every_backend_has_a_speed_and_the_same_output(program, capsys):
    assert program.main([*TINY, "--format", "csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    output = [line for line in lines if line.startswith("# ")]
    assert f"torch {torch.__version__}" in output[1]
    assert "SemiMoE" in output[2]
    assert output[3] == "# batch 2 of 32 x 32 px, 2 repeats"
    rows = list(csv.DictReader(line for line in lines if line and not line.startswith("#")))
    assert [row["way"] for row in rows] == WAYS
    for row in rows:
        assert row["device"] == "cpu"
        assert 0 < float(row["slowest"]) <= float(row["megapixels/s"]) <= float(row["fastest"])
        assert float(row["differs by"]) < 1e-4


def test_without_onnx_runtime_its_row_is_left_out(program, repository_root, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    configs = [str(repository_root / "configs" / name) for name in ("train.json", "methods/supervised.yaml")]
    assert program.main([*TINY, "--config_file", str(configs)]) == 0
    reported = capsys.readouterr()
    assert "ONNX Runtime is skipped" in reported.err
    assert "- UNet, " in reported.out
    rows = [line for line in reported.out.splitlines() if line.startswith("| ")]
    assert len(rows) == 2 + len(WAYS) - 1
    assert rows[0] == "| device | way | megapixels/s | slowest | fastest | differs by |"


def test_the_table_is_in_megapixels_a_second(program):
    way = program.Way("cpu", "torch", lambda: None, seconds=[0.5, 0.25, 1.0], difference=2e-6)
    assert program.table([way], 2.0, "markdown")[-1] == "| cpu | torch | 4 | 2 | 8 | 2.0e-06 |"


def test_an_invalid_command_line_is_an_error(program, capsys):
    with pytest.raises(SystemExit):
        program.main(["--batch", "0"])
    assert "--batch must be at least 1" in capsys.readouterr().err
    assert program.main(["--widths", "4", "8"]) == 1
    assert "five levels" in capsys.readouterr().err
