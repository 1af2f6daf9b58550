"""Benchmark of the training step, on a tiny network."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

from bundle.types import EXPERTS
from scripts.benchmarking.published_step import PublishedStep
from scripts.benchmarking.speed import upsampling

SETTINGS = ["model#widths=[4,4,4,4,4]", "num_workers=0", "data_list=heldout_50_seed0.json", "device=cpu", "amp=false"]


@pytest.fixture(scope="module")
def program(load_program: Callable[[str], ModuleType]) -> ModuleType:
    return load_program("benchmark_speed")


def arguments(data: Path, *more: str) -> list[str]:
    common = ["--dataset_dir", str(data), "--sizes", "32", "--steps", "1", "--rounds", "1", "--threads", "1"]
    return [*common, "--set", *SETTINGS, *more]


def test_it_compares_the_variants_and_saves_their_numbers(program, phantom_dir, tmp_path, capsys):
    output = tmp_path / "new" / "speed.json"
    variants = ["--variants", "published", "semi_moe", "--output", str(output)]
    assert program.main([*arguments(phantom_dir), *variants]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[-2:]] == ["published", "semi_moe"]
    content = json.loads(output.read_text(encoding="utf-8"))
    published, ours = content["results"]
    assert lines[-2].split()[2] == "1.00"
    assert published["parameters"] == ours["parameters"] + 3 - gate_parameters("paper") + gate_parameters("as_released")
    assert published["operations"] > ours["operations"]  # convolutions after upsampling, as they are defined
    for result in (published, ours):
        assert result["images"] == 4
        assert result["operations"] > 0
        assert sum(result["parts"].values()) == pytest.approx(result["step"])
        assert result["speed"] == pytest.approx(4 / result["step"])
        assert min(result[key] for key in ("loaded", "data", "rate")) > 0
    assert {"processor", "versions", "commit", "threads"} <= set(content)


def gate_parameters(kind: str) -> int:
    """Return the number of parameters of the gates of a network with four channels."""
    from bundle.networks.gate import Gate

    return 3 * sum(parameter.numel() for parameter in Gate(12, 3, kind).parameters())


def test_the_published_step_trains_all_parts():
    torch.manual_seed(0)
    network = PublishedStep([4, 4, 4, 4, 4])
    network.make_optimizers()
    assert len(network.optimizers) == len(EXPERTS) + 2
    labeled = {"image": torch.randn(2, 3, 32, 32), "label": torch.randint(0, 2, (2, 1, 32, 32))}
    labeled |= {"sdf": torch.rand(2, 1, 32, 32), "boundary": torch.randint(0, 2, (2, 1, 32, 32))}
    before = {name: value.clone() for name, value in network.named_parameters()}
    stages: list[str] = []
    first = network.run(labeled, {"image": torch.randn(2, 3, 32, 32)}, stages.append)
    assert stages == ["forward", "backward", "forward", "backward", "optimizer"]
    unchanged = [name for name, value in network.named_parameters() if torch.equal(before[name], value)]
    assert all("conv.bias" in name for name in unchanged), unchanged  # of a bias before batch normalization
    for _ in range(10):
        last = network.run(labeled, {"image": torch.randn(2, 3, 32, 32)}, stages.append)
    assert last < first


def test_convolutions_after_upsampling_are_timed_both_ways():
    (row,) = upsampling(torch.device("cpu"), [(4, 2, 8)], repeats=1)
    assert min(row["defined"], row["transposed"]) > 0


def test_a_sweep_measures_each_value(program):
    options = program.parse(["--sweep", "batch_size=2,4", "--sizes", "64"])
    assert list(program.points(options)) == [["crop_size=[64, 64]", f"batch_size={size}"] for size in (2, 4)]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--overlays", "data/none.yaml"], "no file configs/data/none.yaml"),
        (["--set", "batch_size"], "'batch_size' must have the form KEY=VALUE"),
        (["--sweep", "batch_size"], "'batch_size' must have the form KEY=VALUE"),
        (["--set", "crop_size=[32"], "a value is not valid YAML"),
        (["--steps", "0"], "must be at least 1"),
        (["--variants", "other"], "invalid choice: 'other'"),
    ],
)
def test_a_wrong_command_line_is_refused(program, more, message, capsys):
    with pytest.raises(SystemExit) as caught:
        program.main(more)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_a_failed_measurement_is_one_sentence(program, phantom_dir, capsys):
    assert program.main([*arguments(phantom_dir, "data#cache_gib=much"), "--variants", "default"]) == 1
    assert "benchmark_speed: " in capsys.readouterr().err
