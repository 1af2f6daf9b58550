"""Postprocessing overlays: scores of an evaluation with them; the segmentation stays the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser

from bundle.inference import StackedHeads, collect_predictions

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
EVALUATION = ("train.json", "evaluate.json")
WATERSHED = (*EVALUATION, "postprocessing/watershed.yaml")


def parsed(names: tuple[str, ...], settings: dict[str, Any]) -> ConfigParser:
    """Return the parser of an evaluation that loads no weights and writes no file."""
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / name) for name in names])
    parser.update({**settings, "pixel_size": 0.8, "validate#handlers": []})
    return parser


def answers(parser: ConfigParser, seed: int = 7) -> list[dict]:
    """Return the evaluator's output for each test image, from an untrained network that is the same for all configs."""
    torch.manual_seed(seed)
    parser.get_parsed_content("network")
    return collect_predictions(parser.get_parsed_content("validate#evaluator"))


def test_the_watershed_leaves_the_segmentation_as_it_is(tiny):
    plain, watershed = parsed(EVALUATION, tiny), parsed(WATERSHED, tiny)
    before, after = answers(plain), answers(watershed)
    assert len(before) == len(after) == 3
    for first, second in zip(before, after, strict=True):
        assert torch.equal(first["pred"], second["pred"])
        assert torch.equal(first["probability"], second["probability"])
        assert first["pred"].shape == (1, 64, 48)
        assert 0 < first["pred"].float().mean() < 1, "a map of one class shows nothing"
        assert second["pred_sdf"].shape == second["pred_boundary"].shape == (1, 64, 48)
        assert -1 <= second["pred_sdf"].min() < second["pred_sdf"].max() <= 1
        assert 0 <= second["pred_boundary"].min() < second["pred_boundary"].max() <= 1
    scores = [item.get_parsed_content("validate#evaluator").state.metrics for item in (plain, watershed)]
    assert scores[0].items() <= scores[1].items()


def test_both_postprocessings_show_the_same_glands_with_the_same_areas(tiny):
    parser = parsed(WATERSHED, {**tiny, "components#min_area": 20, "components#hole_area": 10})
    components, watershed = parser.get_parsed_content("components"), parser.get_parsed_content("watershed")
    assert {key: watershed.settings[key] for key in components.settings} == components.settings
    assert watershed.settings["min_area"] == 20
    for record in answers(parser):
        assert record["pred_watershed"].dtype == torch.int32
        plain = components(record)["pred_instances"]
        assert torch.equal(plain > 0, record["pred_watershed"] > 0)
        assert plain.max() > 0


def test_the_adapter_stands_in_the_evaluator_alone(tiny):
    parser = parsed(WATERSHED, tiny)
    evaluator, network = parser.get_parsed_content("validate#evaluator"), parser.get_parsed_content("validate#network")
    assert isinstance(evaluator.network, StackedHeads)
    assert evaluator.network.network is network
    assert not any(key.startswith("network.") for key in network.state_dict())


def test_a_method_without_the_heads_is_told_so(tiny):
    parser = parsed(("train.json", "methods/supervised.yaml", *WATERSHED[1:]), tiny)
    with pytest.raises(
        ValueError, match=r"UNet has no head 'fused_seg', 'fused_sdf', 'fused_boundary', only \['seg'\]"
    ):
        answers(parser)


def test_settings_are_changed_by_their_names(tiny):
    changes = {"watershed#seed_level": 0.1, "watershed#boundary_level": 1.0, "components#min_area": 7}
    settings = parsed(WATERSHED, {**tiny, **changes}).get_parsed_content("watershed").settings
    assert (settings["seed_level"], settings["boundary_level"], settings["min_area"]) == (0.1, 1.0, 7)
