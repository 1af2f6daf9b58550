"""Measurement of uncertainty maps: numbers computed by hand, and the table for a network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import softmax

from bundle.inference import consensus_entropy
from bundle.networks import SemiMoE

ROOT = Path(__file__).resolve().parents[3]
FILES = [str(ROOT / "configs" / name) for name in ("train.json", "evaluate.json")]


@pytest.fixture(scope="module")
def program(load_program: Callable[[str], ModuleType]) -> ModuleType:
    """The program as a module."""
    return load_program("measure_disagreement")


@pytest.fixture
def arguments(tiny: dict[str, Any]) -> list[str]:
    """Arguments of an evaluation of an untrained model."""
    folder = Path(tiny["ckpt_dir"])
    folder.mkdir()
    torch.manual_seed(7)
    torch.save(SemiMoE(widths=tiny["network_def#widths"]).state_dict(), folder / "model.pt")
    return [
        "--config_file",
        str(FILES),
        *(argument for key, value in tiny.items() for argument in (f"--{key}", str(value))),
    ]


def test_figures_by_hand(program):
    wrong = [np.array([False, True, False, False]), np.array([True, True, False, False]), np.zeros(4, bool)]
    perfect = [fault + 0.1 * number for number, fault in enumerate(wrong)]
    area, share, _ = program.figures([fault.astype(float) for fault in wrong], wrong)
    assert (area, share) == (1.0, pytest.approx(1 / 3)), "5 % of 12 pixels is one"
    assert program.figures([1.0 - fault for fault in wrong], wrong)[0] == 0.0
    assert program.figures([np.zeros(4)] * 3, wrong)[0] == 0.5
    ranks = program.figures([np.full(4, mean) for mean in (0.5, 0.9, 0.1)], wrong)[2]
    assert ranks == pytest.approx(1.0)
    assert program.figures(perfect, [np.zeros(4, bool)] * 3) == pytest.approx((np.nan,) * 3, nan_ok=True)


@pytest.mark.parametrize("classes", [2, 3])
def test_the_last_candidate_is_the_map_of_the_bundle(program, classes):
    torch.manual_seed(1)
    scores = {name: torch.randn(classes, 4, 5) * 3 for name in ("seg", "fused_seg")}
    distances = {name: torch.rand(1, 4, 5) * 2 - 1 for name in ("sdf", "fused_sdf")}
    maps = {name: softmax(score.numpy(), axis=0) for name, score in scores.items()}
    maps |= {name: program._probabilities(distance.numpy(), "tanh") for name, distance in distances.items()}
    name, candidate = list(program.CANDIDATES.items())[-1]
    assert name == "entropy of the mean of 4"
    own = consensus_entropy([item[None] for item in scores.values()], [item[None] for item in distances.values()])
    np.testing.assert_allclose(candidate(maps), own[0, 0].numpy(), atol=1e-5)


def test_it_prints_a_line_for_each_candidate_and_writes_nothing(program, arguments, tmp_path, capsys):
    assert program.main(arguments) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["uncertainty", "map", "AUROC", "in", "5", "%", "images"]
    assert len(lines) == len(program.CANDIDATES)
    for line, name in zip(lines, program.CANDIDATES, strict=True):
        assert line.startswith(name)
        area, share, correlation = map(float, line.removeprefix(name).split())
        assert 0 <= area <= 1
        assert 0 <= share <= 1
        assert -1 <= correlation <= 1
    assert not (tmp_path / "output").exists()


def test_what_it_cannot_do_is_one_sentence(program, arguments, capsys):
    assert program.main([*arguments, "--validate#dataset#data", "[]"]) == 1
    assert "--part selects the images from the data list; omit --validate#dataset#data" in capsys.readouterr().err
    supervised = str([FILES[0], str(ROOT / "configs" / "methods" / "supervised.yaml"), FILES[1]])
    assert program.main(["--config_file", supervised, *arguments[2:]]) == 1
    assert "does not fit this UNet" in capsys.readouterr().err
