"""The released weights: size and scores as in the model card."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser

from bundle.data import load_data_list, read_image, read_label, write_phantom
from bundle.engines import ModelCheckpointLoader
from bundle.engines.model_json_reader import read_description
from scripts.data_preparation.glas import PIXEL_SIZE

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
    """An evaluation does not write its scores into a released description, because the file is tracked."""
    content = read_description(model.with_name("model.json"))
    assert content["weights"] == {"file": "model.pt", "sha256": hashlib.sha256(model.read_bytes()).hexdigest()}
    assert content["released"]
    shown = json.loads((repository_root / "docs" / "results.json").read_text(encoding="utf-8"))["entries"]["weights"]
    rows = shown["tables"]["scores"]["rows"]
    scores = {evaluation["data"]["part"]: evaluation["scores"] for evaluation in content["scores"]["evaluation"]}
    assert rows.keys() == scores.keys()
    for part, row in rows.items():
        compared = {name: value for name, value in row.items() if name in scores[part]}
        assert len(compared) > 5
        assert {name: round(scores[part][name], 3) for name in compared} == compared


def test_they_are_plain_tensors_in_half_precision(model):
    weights = torch.load(model, map_location="cpu", weights_only=True)
    assert {value.dtype for value in weights.values()} == {torch.float16, torch.int64}


def test_the_default_network_takes_them_and_finds_drawn_glands(model, repository_root, tmp_path):
    """Tiles of the phantom, on which it was not trained, of the size of its windows."""
    write_phantom(tmp_path, size=[192, 256], parts={"training": [1, 2], "validation": [1, 1], "test": [2, 2]})
    parser = ConfigParser()
    parser.read_config(str(repository_root / "configs" / "inference.json"))
    parser.update({"bundle_root": str(repository_root), "device": "cpu"})
    network = parser.get_parsed_content("network")
    ModelCheckpointLoader(network, model).load()
    normalize = parser.get_parsed_content("data#normalization")
    shared = total = 0.0
    for entry in load_data_list(tmp_path, "heldout_50_seed0.json")["test"]:
        record = {"image": torch.tensor(read_image(entry["image"]).pixels.copy()).permute(2, 0, 1).float()}
        for step in normalize:
            record = step(record)
        with torch.inference_mode():
            result = network.eval()(record["image"].as_tensor()[None])[0].argmax(0) == 1
        truth = torch.tensor(read_label(entry["label"]).pixels > 0)
        shared += 2 * float((result & truth).sum())
        total += float(result.sum() + truth.sum())
    assert shared / total > 0.8


@pytest.mark.parametrize("name", ["testA_30", "testB_3"])
def test_they_find_the_glands_of_real_tissue(name, model, repository_root, glas_dir, tmp_path):
    """With the inference config from the command line, at the resolution of the images."""
    parser = ConfigParser()
    parser.read_config(str(repository_root / "configs" / "inference.json"))
    (image,), (mask,) = (list(glas_dir.glob(f"{stem}.*")) for stem in (name, f"{name}_anno"))
    parser.update({"bundle_root": str(repository_root), "device": "cpu", "amp": False, "mpp": PIXEL_SIZE})
    parser.update({"dataset_dir": str(image), "output_dir": str(tmp_path)})
    parser.get_parsed_content("evaluator").run()
    result = read_label(str(tmp_path / f"{name}_mask.png")).pixels > 0
    truth = read_label(str(mask)).pixels > 0
    assert 2 * (result & truth).sum() / (result.sum() + truth.sum()) > 0.9
