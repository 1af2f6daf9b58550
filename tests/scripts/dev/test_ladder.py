"""The ladder: every step is a valid training, and its results form a table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml
from monai.bundle import ConfigParser

ROOT = Path(__file__).resolve().parents[3]
LADDER = yaml.safe_load((ROOT / "scripts" / "dev" / "ladder.yaml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def program(load_program: Callable[[str], ModuleType]) -> ModuleType:
    return load_program("ladder")


@pytest.mark.parametrize("name", LADDER["rungs"])
def test_a_rung_is_a_training_that_evaluates_what_it_says(name: str, tiny: dict[str, Any]) -> None:
    rung = LADDER["rungs"][name]
    parser = ConfigParser()
    parser.read_config([str(ROOT / "configs" / file) for file in ["train.json", *rung.get("overlays", [])]])
    small = {"max_epochs": 1, "train#trainer#epoch_length": 1, "network_def#encoder#pretrained": False}
    parser.update({key: value for key, value in tiny.items() if "network_def" not in key})
    parser.update({**rung.get("settings", {}), **small})
    trainer = parser.get_parsed_content("train#trainer")
    assert (trainer.step.labeled_view is not None) == ("color" in name)
    evaluated = parser.get_parsed_content("validate#network")
    assert (evaluated is not trainer.network) == ("ema" in name)
    if name == "supervised+ema+color":
        trainer.run()
        saved = torch.load(Path(tiny["ckpt_dir"]) / "model.pt", weights_only=True)
        assert all(torch.equal(value, evaluated.state_dict()[key]) for key, value in saved.items())


def test_the_table_has_a_mean_where_all_draws_are_there(program: ModuleType) -> None:
    entries = [
        {"rung": name, "seed": seed, "validation": {"pooled_dice": 0.8 + seed / 100}, "minutes": 6.0}
        for name, seeds in (("supervised", (0, 1, 2)), ("supervised+ema", (1,)))
        for seed in seeds
    ]
    assert program.table(entries, LADDER["rungs"], "pooled_dice").splitlines()[2:] == [
        "| `supervised` | 0.800 | 0.810 | 0.820 | 0.810 | 6 |",
        "| `supervised+ema` |  | 0.810 |  |  | 6 |",
    ]
    with pytest.raises(ValueError, match="rung 'supervised' has no score 'recall'; choose from pooled_dice"):
        program.table(entries, LADDER["rungs"], "recall")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--rungs", "supervised", "none"], "no rung none in "), (["--rungs", "supervised"], "--dataset_dir is missing")],
)
def test_a_wrong_command_line_is_refused(arguments: list[str], message: str, program: ModuleType, capsys: Any) -> None:
    with pytest.raises(SystemExit) as end:
        program.main(arguments)
    assert end.value.code == 2
    assert message in capsys.readouterr().err
