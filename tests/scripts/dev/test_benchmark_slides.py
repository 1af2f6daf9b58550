"""Benchmark of slides: a complete run, and the total memory of a process and its children."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import tifffile
import torch

from bundle.networks import SemiMoE


@pytest.fixture
def program(load_program):
    return load_program("benchmark_slides")


def test_a_run_gives_its_figures(program, tmp_path, capfd):
    pixels = np.random.default_rng(0).integers(90, 200, (150, 200, 3), dtype=np.uint8)
    tags = {"resolution": (1e4, 1e4), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(tmp_path / "slide.tif", pixels, tile=(64, 64), photometric="rgb", **tags)
    torch.save(SemiMoE(widths=[4, 8, 8, 8, 8]).state_dict(), tmp_path / "model.pt")
    arguments = ["--slide", tmp_path / "slide.tif", "--output", tmp_path / "out", "--ckpt_dir", tmp_path]
    arguments += ["--network_def#widths", "[4, 8, 8, 8, 8]", "--crop_size", "[64, 64]", "--device", "cpu"]
    arguments += ["--tissue#least", "0.0", "--amp", "False"]
    assert program.main(list(map(str, arguments))) == 0
    output = capfd.readouterr().out
    assert "| slide | 200 x 150 px, 1.0 um/px |" in output
    peak = float(output.split("| peak resident memory | ")[1].split()[0])
    assert 100 < peak < 4000
    for name in ("reading", "network", "writing"):
        assert f"| {name} | " in output
    assert program.main([*map(str, arguments[:6]), "--overlays", "inference/onnx.yaml"]) == 1  # there is no ONNX file
    message = capfd.readouterr().err
    assert "model.onnx" in message
    assert "exit code" in message


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="reads /proc, which only Linux has")
def test_children_count(program):
    child = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'], stdin=sys.stdin)"
    with subprocess.Popen([sys.executable, "-c", child], stdin=subprocess.PIPE) as process:
        result: list[int] = []
        while len(result) < 2 and process.poll() is None:
            result = program.family(process.pid)
        assert result[0] == process.pid
        assert all(program.resident(number) > 0 for number in result)
        process.communicate(b"\n")
    assert program.resident(process.pid) == 0
