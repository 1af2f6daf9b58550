"""Configuration of a cell: overlays, overrides, digests, differences."""

from __future__ import annotations

import pytest

from scripts.benchmarking.configs import differences, digest, evaluation_files, merged, overlay_files, resolved

SUPERVISED = {"method": "supervised", "data": "phantom", "size": "demo", "protocol": "heldout"}
JUDGED = ["configs/evaluate.json"]


def test_overlays_lie_on_each_other_in_the_order_of_the_axes(repository_root):
    files = overlay_files(repository_root, {"protocol": "heldout", "method": "supervised", "size": None})
    assert files == ["configs/train.json", "configs/methods/supervised.yaml", "configs/protocols/heldout.yaml"]


@pytest.mark.parametrize("axis", ["method", "data", "annotation", "size", "schedule", "protocol"])
def test_an_unknown_name_is_refused_with_those_that_there_are(axis, repository_root):
    with pytest.raises(ValueError, match=rf"no {axis} 'nothing'; there are [a-z_]+"):
        overlay_files(repository_root, {axis: "nothing"})
    with pytest.raises(ValueError, match=r"no postprocessing '\.\./sizes/demo'; there are components"):
        evaluation_files(repository_root, ["configs/train.json"], "../sizes/demo")


def test_a_postprocessing_is_left_out_where_the_method_has_no_such_heads(repository_root):
    ours = overlay_files(repository_root, {"method": "semi_moe"})
    plain = overlay_files(repository_root, {"method": "supervised"})
    postprocessing = "configs/postprocessing/watershed.yaml"
    assert evaluation_files(repository_root, ours, "watershed") == [*JUDGED, postprocessing]
    assert evaluation_files(repository_root, plain, "watershed") == JUDGED
    assert evaluation_files(repository_root, plain, "components") == [*JUDGED, "configs/postprocessing/components.yaml"]


@pytest.mark.parametrize("key", ["max_epoch", "objective#ramp#maximum", "network_def#widths#9"])
def test_an_override_without_a_place_is_refused(key, repository_root):
    files = overlay_files(repository_root, SUPERVISED)
    with pytest.raises(ValueError, match=f"no setting '{key}' in configs/train.json"):
        merged(repository_root, files, {key: 1})


def test_overrides_reach_dictionaries_and_lists(repository_root):
    files = overlay_files(repository_root, {"method": "semi_moe"})
    content = merged(repository_root, files, {"network_def#gate": "equal", "model#widths#0": 4, "seed": 3})
    assert content["network_def"]["gate"] == "equal"
    assert content["model"]["widths"][0] == 4
    assert content["seed"] == 3


def test_a_digest_changes_with_what_is_computed_and_not_with_where(repository_root):
    files = overlay_files(repository_root, SUPERVISED)
    before = resolved(repository_root, files, JUDGED, {"seed": 0, "device": "cpu"})
    moved = resolved(repository_root, files, JUDGED, {"seed": 0, "device": "cuda:1", "dataset_dir": "/elsewhere"})
    other = resolved(repository_root, files, JUDGED, {"seed": 1})
    assert digest(before) == digest(moved) == digest(dict(reversed(before.items())))
    assert digest(before) != digest(other)
    assert differences(before, other) == "seed was 0 and is 1"


def test_the_evaluation_is_part_of_the_digest(repository_root):
    files = overlay_files(repository_root, SUPERVISED)
    before = resolved(repository_root, files, JUDGED, {})
    other = resolved(repository_root, files, [*JUDGED, "configs/postprocessing/watershed.yaml"], {})
    assert digest(before) != digest(other)
    assert "evaluation#" in differences(before, other)


def test_differences_name_the_first_few():
    before = {"a": 1, "b": 2, "c": 3, "d": 4}
    assert differences(before, before) == ""
    reported = differences(before, {"a": 1, "b": 0, "c": 0, "e": 5})
    assert reported == "b was 2 and is 0, c was 3 and is 0, d was 4 and is missing, and 1 more"
