"""Protocols: training, validation and test images of each, its metrics, and the data lists that it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Events
from monai.bundle import ConfigParser
from PIL import Image

from bundle.data import apply_protocol, write_phantom
from bundle.data.protocols import PROTOCOLS

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
LEARNED = ("training", "unlabeled")


def entry(name: str, patient: str | None = None, domain: str | None = None, label: bool = True) -> dict[str, str]:
    result = {"image": f"/data/{name}.png"} | ({"label": f"/data/{name}_label.png"} if label else {})
    return result | ({"patient": patient} if patient else {}) | ({"domain": domain} if domain else {})


def a_list(**changes: list[dict[str, str]]) -> dict[str, list[dict[str, str]]]:
    """Two domains, A and B, and a third, C, each in every part; no patient in two parts."""
    parts: dict[str, list[dict[str, str]]] = {}
    for part in ("training", "unlabeled", "validation", "test"):
        parts[part] = [entry(f"{part}_{item}", f"{part} {item}", item, part != "unlabeled") for item in "ABC"]
    return parts | changes


def names(parts: dict[str, list[dict[str, str]]], part: str) -> list[str]:
    return [Path(item["image"]).stem for item in parts[part]]


def test_each_protocol_has_its_overlay():
    assert {path.stem for path in (CONFIGS / "protocols").glob("*.yaml")} == set(PROTOCOLS)


# What they use


@pytest.mark.parametrize("protocol", ["heldout", "class_mean"])
def test_a_held_out_list_is_used_as_it_is(protocol):
    assert apply_protocol(a_list(), protocol) == a_list()


def test_authors_learn_from_all_that_is_not_for_testing():
    parts = a_list(validation=[])
    assert apply_protocol(parts, "authors") == parts
    del parts["validation"]
    assert apply_protocol(parts, "authors")["validation"] == []


def test_transfer_knows_nothing_of_the_target_before_the_test():
    served = apply_protocol(a_list(), "transfer", "A", "B")
    assert names(served, "training") == ["training_A"]
    assert names(served, "unlabeled") == ["unlabeled_A"]
    assert names(served, "validation") == ["validation_A"]
    assert names(served, "test") == ["test_B"]


def test_shift_learns_from_images_of_the_target_and_from_none_of_its_labels():
    given = a_list()
    served = apply_protocol(given, "shift", "A", "B")
    assert names(served, "training") == ["training_A"]
    assert names(served, "unlabeled") == ["unlabeled_A", "unlabeled_B", "training_B"]
    assert all("label" not in item for item in served["unlabeled"])
    assert names(served, "validation") == ["validation_A"]
    assert names(served, "test") == ["test_B"]
    assert given == a_list()  # entries of the list keep their labels


def test_a_side_may_hold_several_domains():
    served = apply_protocol(a_list(), "transfer", ["A", "C"], "B")
    assert names(served, "training") == ["training_A", "training_C"]


# What they refuse


@pytest.mark.parametrize("protocol", ["heldout", "class_mean", "transfer", "shift"])
@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"validation": []}, "chooses the checkpoint on validation images and the data list has none"),
        ({"validation": [entry("unlabeled_A")]}, r"validation shares 1 image with .*\(unlabeled_A\.png\)"),
        ({"validation": [entry("other", "training A")]}, r"validation shares 1 patient with .*\(training A\)"),
    ],
)
def test_a_validation_that_cannot_choose_is_refused(protocol, changes, fault):
    with pytest.raises(ValueError, match=fault):
        apply_protocol(a_list(**changes), protocol, "A", "B")


def test_authors_refuse_a_list_that_holds_images_back():
    with pytest.raises(ValueError, match="the list has 3 under validation; use a list authors_"):
        apply_protocol(a_list(), "authors")


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("part", ["training", "test"])
def test_a_part_that_everybody_needs_is_asked_for(protocol, part):
    parts = a_list(**{part: []}) | ({"validation": []} if protocol == "authors" else {})
    with pytest.raises(ValueError, match=f"{part}.*(needs|has no image)|needs {part}"):
        apply_protocol(parts, protocol, "A", "B")


@pytest.mark.parametrize("protocol", ["transfer", "shift"])
@pytest.mark.parametrize(
    ("source", "target", "fault"),
    [
        ("A", "Z", "no domain Z; it has A, B, C"),
        (["A", "B"], "B", "has B as source and target"),
        (None, "B", "needs --source_domain and --target_domain; give both"),
        ([], "B", "needs --source_domain and"),
    ],
)
def test_domains_that_make_no_pair_are_refused(protocol, source, target, fault):
    with pytest.raises(ValueError, match=fault):
        apply_protocol(a_list(), protocol, source, target)


@pytest.mark.parametrize("protocol", ["transfer", "shift"])
def test_a_list_without_domains_is_refused(protocol):
    plain = {
        part: [{k: v for k, v in item.items() if k != "domain"} for item in rest] for part, rest in a_list().items()
    }
    with pytest.raises(ValueError, match="no entry of the data list has one; give entries the key domain"):
        apply_protocol(plain, protocol, "A", "B")


@pytest.mark.parametrize("part", ["training", "validation", "test"])
def test_a_part_without_its_domain_is_refused(part):
    side = "B" if part == "test" else "A"
    parts = a_list()
    parts[part] = [item for item in parts[part] if item["domain"] != side]
    with pytest.raises(ValueError, match=f"{part} of the data list has no image of {side}, which transfer needs"):
        apply_protocol(parts, "transfer", "A", "B")


def test_shift_without_images_of_the_target_to_learn_from_is_refused():
    parts = a_list()
    for part in LEARNED:
        parts[part] = [item for item in parts[part] if item["domain"] != "B"]
    with pytest.raises(ValueError, match="shift needs training images of B and the data list has none; use transfer"):
        apply_protocol(parts, "shift", "A", "B")


def test_an_unknown_protocol_is_refused():
    with pytest.raises(ValueError, match="no protocol 'holdout'; give one of heldout, authors"):
        apply_protocol(a_list(), "holdout")


# Overlays


@pytest.fixture(scope="module")
def three_laboratories(tmp_path_factory) -> Path:
    """A phantom with all three domains in each part."""
    folder = tmp_path_factory.mktemp("laboratories") / "dataset"
    write_phantom(folder, size=(48, 64), parts={"training": (6, 6), "validation": (6, 6), "test": (6, 6)})
    content = json.loads((folder / "heldout_50_seed0.json").read_text())
    content["training"] += content.pop("validation")
    (folder / "authors_50_seed0.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def parsed(tiny: dict[str, Any], three_laboratories: Path) -> Callable[..., ConfigParser]:
    """Return the configs of a training, or of an evaluation, with a protocol."""

    def make(protocol: str, evaluation: bool = False, **changes: Any) -> ConfigParser:
        files = ["train.json", f"protocols/{protocol}.yaml", *(["evaluate.json"] if evaluation else [])]
        parser = ConfigParser()
        parser.read_config([str(CONFIGS / file) for file in files])
        parser.update(tiny | {"dataset_dir": str(three_laboratories)} | changes)
        return parser

    return make


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_each_protocol_trains_and_keeps_the_checkpoint_that_it_chose(protocol, parsed, tmp_path):
    parser = parsed(protocol, data_list=f"{'authors' if protocol == 'authors' else 'heldout'}_50_seed0.json")
    parser.update({"max_epochs": 1, "train#trainer#epoch_length": 1})
    trainer, evaluator = (parser.get_parsed_content(key) for key in ("train#trainer", "validate#evaluator"))
    trainer.run()
    assert trainer.state.iteration == 1
    assert (
        evaluator.state.metrics[evaluator.state.key_metric_name]
        == parser.get_parsed_content("validate#best_model").score
    )
    assert (tmp_path / "models" / "model.pt").is_file()


def domains(entries: list[dict[str, str]]) -> set[str]:
    return {item["domain"] for item in entries}


@pytest.mark.parametrize(("protocol", "unlabeled"), [("transfer", {"lab_a"}), ("shift", {"lab_a", "lab_b"})])
def test_training_and_evaluation_see_what_the_protocol_gives_them(protocol, unlabeled, parsed):
    parser = parsed(protocol)
    assert domains(parser.get_parsed_content("train#dataset#data")) == {"lab_a"}
    assert domains(parser.get_parsed_content("train#unlabeled_dataset#data")) == unlabeled
    assert domains(parser.get_parsed_content("validate#dataset#data")) == {"lab_a"}
    assert domains(parsed(protocol, evaluation=True).get_parsed_content("validate#dataset#data")) == {"lab_b"}
    changed = parsed(protocol, target_domain="lab_c", evaluation=True)
    assert domains(changed.get_parsed_content("validate#dataset#data")) == {"lab_c"}


@pytest.mark.parametrize("protocol", ["heldout", "class_mean", "transfer", "shift"])
def test_a_list_that_cannot_serve_ends_the_run_with_the_reason(protocol, parsed, tmp_path):
    (tmp_path / "dataset" / "image").mkdir(parents=True)
    (tmp_path / "dataset" / "list.json").write_text('{"training": [], "test": []}')
    parser = parsed(protocol, dataset_dir=str(tmp_path / "dataset"), data_list="list.json")
    parser["data#datalist#_target_"] = "bundle.data.load_data_list"
    with pytest.raises(RuntimeError) as caught:
        parser.get_parsed_content("data#datalist")
    assert "chooses the checkpoint on validation images" in str(caught.value.__cause__)


def test_class_mean_chooses_by_the_mean_over_both_classes(parsed):
    parser = parsed("class_mean")
    evaluator = parser.get_parsed_content("validate#evaluator")
    evaluator.run()
    scores = evaluator.state.metrics
    assert evaluator.state.key_metric_name == "class_mean_dice"
    assert {"class_mean_jaccard", "pooled_dice", "pooled_jaccard", "mean_dice", "mean_jaccard"} <= set(scores)
    assert scores["class_mean_dice"] != scores["pooled_dice"]


# The authors' protocol


AUTHORS = {"data_list": "authors_50_seed0.json", "squeezed_size": [32, 32]}


def test_authors_squeeze_whole_images_for_training(parsed):
    parser = parsed("authors", **AUTHORS)
    dataset = parser.get_parsed_content("train#dataset")
    assert len(dataset) == 9
    item = dataset[0]
    assert item["image"].shape == (3, 32, 32)
    assert item["label"].shape == item["sdf"].shape == item["boundary"].shape == (1, 32, 32)
    assert set(torch.unique(item["label"]).tolist()) <= {0, 1}
    assert item["sdf"].max() == pytest.approx(1.0)  # its own maximum, as `maximum` has it
    assert parser.get_parsed_content("train#unlabeled_dataset")[0]["image"].shape == (3, 32, 32)


def test_authors_choose_checkpoint_and_threshold_on_the_test_part(parsed):
    parser = parsed("authors", **AUTHORS)
    datalist = parser.get_parsed_content("data#datalist")
    assert parser.get_parsed_content("validate#dataset#data") == datalist["test"]
    evaluator = parser.get_parsed_content("validate#evaluator")
    recorded = []
    evaluator.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: recorded.extend(engine.state.output))
    evaluator.run()
    scores = evaluator.state.metrics
    assert evaluator.state.key_metric_name == "swept_jaccard"
    assert scores["swept_jaccard"] == pytest.approx(scores["swept_dice"] / (2 - scores["swept_dice"]))
    assert {"pooled_dice", "pooled_jaccard", "mean_dice", "mean_jaccard", "swept_threshold"} <= set(scores)
    assert parser.get_parsed_content("thresholds")[0] == 0
    assert parser.get_parsed_content("thresholds")[-1] == pytest.approx(0.88)
    for output in recorded:
        assert output["squeezed_probability"].shape == output["squeezed_label"].shape == (1, 32, 32)
        assert output["pred"].shape == output["label"].shape == (1, 64, 48)  # width first; scored at native size
    # the threshold is one of many, so no single one scores higher
    joined = {
        key: torch.cat([output[key].flatten() for output in recorded]) for key in recorded[0] if "squeezed" in key
    }
    for threshold in (0.0, 0.5, 0.88):
        predicted, truth = joined["squeezed_probability"] > threshold, joined["squeezed_label"] > 0
        union = (predicted | truth).sum()
        assert (predicted & truth).sum() / union <= scores["swept_jaccard"] + 1e-6


# Evaluation


KEY_METRICS = {"authors": "swept_jaccard", "class_mean": "class_mean_dice"}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_all_protocols_report_the_same_scores_beside_their_own(protocol, parsed, tmp_path):
    changes = AUTHORS if protocol == "authors" else {}
    parser = parsed(protocol, evaluation=True, output_dir=str(tmp_path / "evaluation"), **changes)
    parser["validate#handlers#0#_disabled_"] = True  # no weights are there
    evaluator = parser.get_parsed_content("validate#evaluator")
    evaluator.run()
    usual = {"pooled_dice", "pooled_jaccard", "mean_dice", "mean_jaccard", "class_mean_dice", "object_dice"}
    assert usual | {"object_f1", "object_hausdorff", "calibration_error"} <= set(evaluator.state.metrics)
    assert evaluator.state.key_metric_name == KEY_METRICS.get(protocol, "pooled_dice")
    masks = sorted((tmp_path / "evaluation" / "masks").glob("*_mask.png"))
    assert len(masks) == (2 if protocol in ("transfer", "shift") else 6)
    with Image.open(masks[0]) as mask:
        assert mask.size == (64, 48)  # the size of the image, whatever the network saw
