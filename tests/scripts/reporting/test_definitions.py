"""Every score of a config has a definition, and every protocol a note."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from monai.bundle import ConfigParser

from scripts.reporting.definitions import (
    DATA,
    DEFINITIONS,
    PROTOCOLS,
    definition,
    describe_data,
    is_optimistic,
    key_metric,
    protocol_note,
)

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
HOLDERS = ("key_metric", "additional_metrics")


def keys(config: Any, path: str = "") -> Iterator[str]:
    """Return every key of a config with its parents, joined by ``#``."""
    if isinstance(config, dict):
        for name, value in config.items():
            yield f"{path}{name}"
            yield from keys(value, f"{path}{name}#")


def metric_names(file: Path) -> set[str]:
    """Return the names of the metrics in a config: the keys below a holder of metrics."""
    matches = set()
    for key in keys(ConfigParser.load_config_file(file)):
        parts = key.lstrip("+").split("#")
        matches |= {name for holder, name in pairwise(parts) if holder in HOLDERS}
    return matches


def config_files() -> list[Path]:
    return sorted({*CONFIGS.glob("*.json"), *CONFIGS.rglob("*.yaml")} - {CONFIGS / "metadata.json"})


def test_every_metric_of_every_config_has_a_definition():
    names = {name for file in config_files() for name in metric_names(file)}
    assert names >= {"pooled_dice", "mean_dice", "object_f1", "swept_dice", "swept_threshold", "class_mean_jaccard"}
    assert names >= {"watershed_object_dice", "calibration_error"}
    assert sorted(names - DEFINITIONS.keys()) == []
    assert sorted(DEFINITIONS.keys() - names) == [], "no config has them"
    titles = [element.title for element in DEFINITIONS.values()]
    assert len(set(titles)) == len(titles)


def test_a_score_has_a_better_direction():
    assert definition("pooled_dice").better == "higher is better"
    assert definition("watershed_object_hausdorff").better == "lower is better"
    assert definition("swept_threshold").better == "", "a setting has no better direction"
    assert definition("new_score").title == "new score"


def test_the_label_of_a_score_has_its_unit():
    assert definition("object_hausdorff").label == "object Hausdorff, px"
    assert definition("watershed_object_hausdorff").label == "object Hausdorff, watershed, px"
    assert definition("pooled_dice").label == "pooled Dice"


def test_every_data_set_is_described():
    assert sorted(DATA) == sorted(file.stem for file in (CONFIGS / "data").glob("*.yaml"))
    assert describe_data("somebody's own") == ""


def test_every_protocol_has_a_note_and_a_key_metric():
    files = sorted((CONFIGS / "protocols").glob("*.yaml"))
    assert sorted(PROTOCOLS) == [file.stem for file in files]
    of_training = metric_names(CONFIGS / "train.json")
    for file in files:
        assert key_metric(file.stem) in metric_names(file) | of_training
        assert protocol_note(file.stem).endswith(".")


@pytest.mark.parametrize(
    ("protocol", "metric", "optimistic"),
    [
        ("heldout", "pooled_dice", False),
        ("transfer", "pooled_dice", False),
        ("shift", "pooled_dice", False),
        ("authors", "swept_dice", True),
        ("class_mean", "class_mean_dice", False),
        ("somebody's own", "pooled_dice", False),
    ],
)
def test_the_protocol_sets_the_main_score(protocol, metric, optimistic):
    assert key_metric(protocol) == metric
    assert is_optimistic(protocol) is optimistic
    assert ("test images" in protocol_note(protocol) and "Optimistic" in protocol_note(protocol)) is optimistic
