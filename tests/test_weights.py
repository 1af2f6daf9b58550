"""The weights that go along: small, as the card says, and good for what they were trained on."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser

from bundle.data import load_data_list, read_image, read_label
from bundle.engines import ModelCheckpointLoader
from bundle.engines.model_json_reader import read_description

LARGEST = 25 * 10**6


@pytest.fixture(scope="module")
def model(repository_root) -> Path:
    return repository_root / "models" / "model.pt"


def test_the_card_names_this_very_file(model, repository_root):
    data = model.read_bytes()
    card = (repository_root / "docs" / "README.md").read_text(encoding="utf-8")
    assert hashlib.sha256(data).hexdigest() in card
    assert f"{len(data):,} bytes" in card
    assert len(data) < LARGEST


def test_their_description_is_of_this_file_and_stays_as_it_is(model, repository_root):
    """An evaluation writes its scores into no released description: the file is tracked."""
    content = read_description(model.with_name("model.json"))
    assert content["weights"] == {"file": "model.pt", "sha256": hashlib.sha256(model.read_bytes()).hexdigest()}
    assert content["released"]
    shown = json.loads((repository_root / "docs" / "results.json").read_text(encoding="utf-8"))["entries"]["weights"]
    (row,) = next(iter(shown["tables"].values()))["rows"].values()
    scores = content["scores"]["evaluation"][0]["scores"]
    assert {name: round(scores[name], 3) for name in row if name in scores} == {
        name: value for name, value in row.items() if name in scores
    }


def test_they_are_plain_tensors_in_half_precision(model):
    weights = torch.load(model, map_location="cpu", weights_only=True)
    assert {value.dtype for value in weights.values()} == {torch.float16, torch.int64}


def test_the_default_network_takes_them_and_finds_drawn_glands(model, repository_root, phantom_dir):
    parser = ConfigParser()
    parser.read_config(str(repository_root / "configs" / "inference.json"))
    parser.update({"bundle_root": str(repository_root), "device": "cpu"})
    network = parser.get_parsed_content("network")
    ModelCheckpointLoader(network, model).load()
    normalize = parser.get_parsed_content("normalization")
    shared = total = 0.0
    for entry in load_data_list(phantom_dir, "heldout_50_seed0.json")["test"]:
        record = {"image": torch.tensor(read_image(entry["image"]).pixels.copy()).permute(2, 0, 1).float()}
        for step in normalize:
            record = step(record)
        with torch.inference_mode():
            found = network.eval()(record["image"].as_tensor()[None])[0].argmax(0) == 1
        truth = torch.tensor(read_label(entry["label"]).pixels > 0)
        shared += 2 * float((found & truth).sum())
        total += float(found.sum() + truth.sum())
    assert shared / total > 0.8
