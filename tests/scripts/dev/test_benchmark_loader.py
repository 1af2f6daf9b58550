"""Benchmark of the data loader from the command line, with tiny settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

SETTINGS = ["network_def#widths=[4,8,8,8,8]", "crop_size=[32,32]", "num_workers=0", "data_list=heldout_50_seed0.json"]


@pytest.fixture(scope="module")
def program(load_program: Callable[[str], ModuleType]) -> ModuleType:
    return load_program("benchmark_loader")


def arguments(data: Path, *more: str) -> list[str]:
    return ["--dataset_dir", str(data), "--seconds", "0.1", "--set", *SETTINGS, "device=cpu", "amp=false", *more]


def figures(text: str) -> dict[str, str]:
    """Return the printed lines by the name at their start."""
    return {line[:18].strip(): line[19:] for line in text.splitlines()}


def number(text: str) -> float:
    return float(text.split()[0])


def test_it_prints_speed_of_loader_and_training_and_their_ratio(program, phantom_dir, capsys):
    before = sorted(path.name for path in phantom_dir.rglob("*"))
    assert program.main(arguments(phantom_dir)) == 0
    result = figures(capsys.readouterr().out)
    assert result["labeled tiles"] == "4 of 4 cached, 12 KiB per tile"  # 48 x 64 px, 4 bytes each
    assert result["unlabeled tiles"] == "4 of 4 cached, 9 KiB per tile"
    assert number(result["loader, cached"]) > number(result["loader, uncached"]) > 0
    assert number(result["ratio"]) == pytest.approx(
        number(result["loader, cached"]) / number(result["training"]), rel=0.2
    )
    assert "crops/s" in result["one core"]
    assert number(result["cores"]) > 0
    assert sorted(path.name for path in phantom_dir.rglob("*")) == before


def test_a_method_without_unlabeled_images_has_one_stream(program, phantom_dir, capsys):
    assert program.main([*arguments(phantom_dir, "data#cache_gib=0"), "--overlays", "methods/supervised.yaml"]) == 0
    result = figures(capsys.readouterr().out)
    assert result["labeled tiles"] == "4, none cached"
    assert "unlabeled tiles" not in result


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--overlays", "data/none.yaml"], "no file configs/data/none.yaml"),
        (["--set", "batch_size"], "'batch_size' must have the form KEY=VALUE"),
        (["--set", "crop_size=[32"], "'crop_size=[32': the value is not valid YAML"),
        (["--seconds", "0"], "--seconds must be above 0"),
    ],
)
def test_a_wrong_command_line_is_refused(program, more, message, capsys):
    with pytest.raises(SystemExit) as caught:
        program.main(more)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_an_error_is_one_sentence(program, phantom_dir, capsys):
    assert program.main(arguments(phantom_dir, "data#cache_gib=much")) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("benchmark_loader: cache_gib is 'much'; give the memory")
    changed = ["data_list=missing.json", "data#datalist#_target_=bundle.data.load_data_list"]
    assert program.main(arguments(phantom_dir, *changed)) == 1
    assert f"no data list missing.json in {phantom_dir}" in capsys.readouterr().err
