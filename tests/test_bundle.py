"""The bundle as a user has it: a copy in another folder, trained and asked through `python -m monai.bundle`."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai import bundle as monai_bundle
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.inferers import SlidingWindowInferer
from PIL import Image

from bundle.networks import SemiMoE
from tests.conftest import COLOR_RULE

OVERLAPS = {f"{kind}_{name}" for kind in ("pooled", "mean", "class_mean") for name in ("dice", "jaccard")}
OBJECTS = {"object_f1", "object_dice", "object_hausdorff"}


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory) -> Path:
    """A working directory that has nothing to do with the bundle."""
    return tmp_path_factory.mktemp("elsewhere")


@pytest.fixture(scope="module")
def trained(copy_bundle, elsewhere) -> tuple[Any, str]:
    """A copy trained by nothing but its config, from another folder; and what the run said."""
    bundle_copy = copy_bundle("semi_moe_copy", data=False)
    arguments = [
        "run",
        "training",
        "--config_file",
        bundle_copy.configs("train.json"),
        "--bundle_root",
        str(bundle_copy.root),
    ]
    return bundle_copy, bundle_copy.run(*arguments, cwd=elsewhere).stderr


@pytest.fixture(scope="module")
def resumed(trained, elsewhere) -> Any:
    """The same copy after one more epoch, by the alias `run`."""
    bundle_copy, _ = trained
    arguments = [
        "run",
        "run",
        "--config_file",
        bundle_copy.configs("train.json"),
        "--bundle_root",
        str(bundle_copy.root),
    ]
    completed = bundle_copy.run(*arguments, "--resume", "True", "--max_epochs", "3", cwd=elsewhere)
    assert "2 epochs are done" in completed.stderr
    (bundle_copy.root / "models").mkdir()
    for name in ("model.pt", "model.json"):  # as people release a model of theirs
        shutil.copy(bundle_copy.root / "runs" / "semi_moe_plus" / name, bundle_copy.root / "models")
    return bundle_copy


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def metrics(folder: Path) -> dict[str, float]:
    """What MetricsSaver wrote: a line `name,value` for each metric."""
    lines = (folder / "metrics.csv").read_text().splitlines()
    return {name: float(value) for name, value in (line.split(",") for line in lines)}


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, map_location="cpu", weights_only=True)


def network_with(weights: dict[str, torch.Tensor], widths: tuple[int, ...] = (4, 8, 8, 8, 8)) -> SemiMoE:
    network = SemiMoE(widths=widths)
    network.load_state_dict(weights)
    return network.eval()


# Training


def test_training_makes_its_data_and_says_so(trained):
    bundle_copy, output = trained
    folder = bundle_copy.root / "dataset"
    assert f"no data in {folder}: drawing the embedded data set (phantom) there" in output
    assert len(list((folder / "image").glob("*.png"))) == 13


def test_training_leaves_a_plain_model_and_a_record(trained, elsewhere):
    bundle_copy, printed = trained
    output = bundle_copy.root / "runs" / "semi_moe_plus"
    weights = weights_of(output / "model.pt")
    assert weights
    assert all(isinstance(value, torch.Tensor) for value in weights.values())
    network_with(weights)
    assert not (bundle_copy.root / "models").exists(), "the folder of released weights is left alone"
    assert [row["epoch"] for row in rows(output / "training.csv")][:2] == ["1", "2"]
    assert {path.name for path in output.glob("montage_000[12].png")} == {"montage_0001.png", "montage_0002.png"}
    assert len(list((output / "tensorboard").glob("events*"))) >= 1
    assert "epoch 2/2: loss" in printed
    last = printed[printed.index("Training ended after 4 steps (2 epochs)") :]
    assert "Best pooled_dice on the validation images: 0." in last
    for expected in ("model.pt (model.json beside it", "training.csv", "tensorboard --logdir", "montage_latest.png"):
        assert str(output) in next(line for line in last.splitlines() if expected in line)
    assert f"--ckpt_dir {output} --dataset_dir {bundle_copy.root / 'dataset'}" in last
    assert last.rstrip().endswith("FOLDER_OF_IMAGES --mpp UM_PER_PX_OF_THESE"), "the drawn tiles have um/px"
    assert list(elsewhere.iterdir()) == [], "a run writes where the bundle is, not where it is called"


def test_a_training_goes_on(resumed):
    table = rows(resumed.root / "runs" / "semi_moe_plus" / "training.csv")
    assert [row["epoch"] for row in table] == ["1", "2", "3"]
    state = torch.load(resumed.root / "runs" / "semi_moe_plus" / "checkpoints" / "resume.pt", weights_only=True)
    assert state["trainer"]["epoch"] == 3
    assert {"network", "objective", "optimizer", "lr_scheduler", "best_model"} <= set(state)


def test_an_empty_run_id_trains_once(copy_bundle, monkeypatch):
    """MONAI Label's form sends an empty one, which evaluates all that the config holds."""
    bundle_copy = copy_bundle("labeled")
    monkeypatch.chdir(bundle_copy.root)
    monai_bundle.run("", config_file="configs/train.json", logging_file=False, max_epochs=1, device="cpu", amp=False)
    assert [row["epoch"] for row in rows(bundle_copy.root / "runs" / "semi_moe_plus" / "training.csv")] == ["1"]
    assert (bundle_copy.root / "runs" / "semi_moe_plus" / "model.pt").is_file()


def test_without_a_validation_part_the_last_model_is_kept(copy_bundle, monkeypatch):
    bundle_copy = copy_bundle("unvalidated")
    folder = bundle_copy.root / "dataset"
    parts = json.loads((folder / "heldout_50_seed0.json").read_text())
    (folder / "unvalidated.json").write_text(json.dumps(parts | {"validation": []}))
    monkeypatch.chdir(bundle_copy.root)
    settings = {"data_list": "unvalidated.json", "max_epochs": 1, "device": "cpu", "amp": False}
    monai_bundle.run("training", config_file="configs/train.json", logging_file=False, **settings)
    output = bundle_copy.root / "runs" / "semi_moe_plus"
    last = torch.load(output / "checkpoints" / "resume.pt", weights_only=True)["ema"]["average"]
    saved = weights_of(output / "model.pt")
    described = json.loads((output / "model.json").read_text())
    assert described["scores"] == {}
    assert described["training"]["epoch"] == 1
    assert saved.keys() == last.keys()
    assert all(torch.equal(value, last[name]) for name, value in saved.items())


# Evaluating


def test_evaluating_writes_the_scores_of_the_test_part(resumed, elsewhere):
    arguments = ["run", "evaluating", "--config_file", resumed.configs("train.json", "evaluate.json")]
    completed = resumed.run(*arguments, "--bundle_root", str(resumed.root), cwd=elsewhere)
    output = resumed.root / "runs" / "semi_moe_plus" / "evaluation"
    result = metrics(output)
    for expected in ("metrics.csv", "per_image.csv", "montage.png", "masks"):
        assert str(output / expected) in completed.stderr[completed.stderr.index("Evaluation ended.") :]
    assert result.keys() == OVERLAPS | OBJECTS | {"calibration_error"}
    assert all(0 <= value <= 1 for name, value in result.items() if name != "object_hausdorff")
    assert 0 <= result["object_hausdorff"] <= np.hypot(47, 63)
    assert result["pooled_dice"] > 0
    assert result["pooled_jaccard"] == pytest.approx(result["pooled_dice"] / (2 - result["pooled_dice"]), abs=1e-6)
    parts = json.loads((resumed.root / "dataset" / "heldout_50_seed0.json").read_text())
    tested = sorted(Path(entry["image"]).stem for entry in parts["test"])
    values = rows(output / "per_image.csv")
    assert [row["image"] for row in values] == tested
    assert values[0].keys() == {"image", "mean_dice", "mean_jaccard"} | OBJECTS, "a pooled score has no value an image"
    mean = sum(float(row["mean_dice"]) for row in values) / len(values)
    assert mean == pytest.approx(result["mean_dice"], abs=1e-5)
    bins = rows(output / "calibration.csv")
    assert len(bins) == 15
    assert sum(int(row["count"]) for row in bins) == 3 * 48 * 64
    assert (output / "montage.png").is_file()
    for name in tested:
        with Image.open(output / "masks" / f"{name}_mask.png") as mask:
            assert mask.size == (64, 48)
            assert set(np.unique(np.asarray(mask))) <= {0, 255}
    (entry,) = json.loads((output.parent / "model.json").read_text())["scores"]["evaluation"]
    assert entry["data"]["list"] == "heldout_50_seed0.json"
    assert entry["scores"] == pytest.approx(result, abs=1e-4)


def test_an_empty_test_part_is_no_success(resumed):
    folder = resumed.root / "dataset"
    parts = json.loads((folder / "heldout_50_seed0.json").read_text())
    (folder / "untested.json").write_text(json.dumps(parts | {"test": []}))
    arguments = ["run", "run", "--config_file", resumed.configs("train.json", "evaluate.json")]
    failed = resumed.run(*arguments, "--data_list", "untested.json", "--output_dir", "untested", fails=True)
    assert "ValueError: the data list has no image under 'test'; use another list" in failed.stderr
    assert not (resumed.root / "untested" / "metrics.csv").exists()


# Inference


def dark_shape() -> np.ndarray:
    """Where something is drawn on 64 x 96 px: an L, lower left, that no turn and no mirror brings onto itself."""
    shape = np.zeros((64, 96), bool)
    shape[16:56, 8:20] = True
    shape[44:56, 8:48] = True
    return shape


def picture(shape: np.ndarray) -> Image.Image:
    """The shape in the color of nuclei on pale ground, RGB."""
    return Image.fromarray(np.where(shape[..., None], [90, 40, 120], [240, 225, 240]).astype(np.uint8))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """A folder of pictures of several kinds and sizes, which shows the same shape."""
    folder = tmp_path_factory.mktemp("pictures")
    picture(dark_shape()).save(folder / "plain.png")
    picture(dark_shape()).convert("RGBA").save(folder / "with_alpha.png")
    picture(dark_shape()).quantize(8).save(folder / "palette.png")
    picture(dark_shape()).save(folder / "uncompressed.bmp")
    picture(dark_shape()).save(folder / "scan.tif")
    picture(dark_shape()[:50, :37]).save(folder / "odd.png")
    return folder


def mask(path: Path) -> np.ndarray:
    with Image.open(path) as file:
        assert file.mode == "L"
        values = np.asarray(file)
    assert set(np.unique(values)) <= {0, 255}
    return values == 255


def inference_arguments(bundle: Any) -> list[str]:
    """Return the start of a command line of inference from another folder."""
    root = str(bundle.root)
    return ["run", "inference", "--config_file", bundle.configs("inference.json"), "--bundle_root", root]


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Dice of two masks; of different sizes it is 0."""
    return 2 * float((first & second).sum()) / float(first.sum() + second.sum()) if first.shape == second.shape else 0.0


def test_inference_writes_a_mask_for_each_picture(resumed, elsewhere, pictures, tmp_path):
    arguments = inference_arguments(resumed)
    completed = resumed.run(*arguments, "--dataset_dir", str(pictures), "--output_dir", str(tmp_path), cwd=elsewhere)
    assert "6/6 images" in completed.stderr
    masks = {f"{path.stem}_mask.png" for path in pictures.iterdir()}
    assert {path.name for path in tmp_path.iterdir()} == masks | {"summary.json", "journal_0.jsonl"}
    for path in pictures.iterdir():
        with Image.open(path) as image:
            assert mask(tmp_path / f"{path.stem}_mask.png").shape == image.size[::-1]
    assert list(elsewhere.iterdir()) == []

    network = network_with(weights_of(resumed.root / "models" / "model.pt"))
    values = torch.tensor(np.asarray(picture(dark_shape())) / 255.0).float().permute(2, 1, 0)
    mean, deviation = torch.tensor([0.788, 0.512, 0.785]), torch.tensor([0.168, 0.248, 0.132])
    with torch.no_grad():
        inferer = SlidingWindowInferer(roi_size=(32, 32), overlap=0.5, mode="gaussian")
        logits = inferer(((values - mean[:, None, None]) / deviation[:, None, None])[None], network)
    expected = logits[0].argmax(0).T.numpy() == 1
    assert (expected == mask(tmp_path / "plain_mask.png")).mean() > 0.999


@pytest.fixture
def by_color(tmp_path) -> dict[str, Any]:
    """Settings that put the color rule in the network's place, with its weights."""
    weight = torch.zeros(2, 3, 1, 1)
    weight[0, 1] = 1.0  # green above its mean is background
    (tmp_path / "models").mkdir()
    torch.save({"weight": weight, "bias": torch.zeros(2)}, tmp_path / "models" / "model.pt")
    return {"network_def": dict(COLOR_RULE), "ckpt_dir": str(tmp_path / "models"), "device": "cpu", "amp": False}


@pytest.mark.parametrize(("mpp", "least"), [(None, 1.0), (0.5, 0.93), (2.0, 1.0)])
def test_a_mask_lies_on_its_picture(mpp, least, by_color, copy_bundle, pictures, tmp_path, monkeypatch):
    """At any scale the mask has the picture's size, and nothing is turned, mirrored or moved."""
    monkeypatch.chdir(tmp_path)
    bundle_copy = copy_bundle("oriented", data=False)
    settings = by_color | {"bundle_root": str(bundle_copy.root), "dataset_dir": str(pictures), "mpp": mpp}
    config = str(bundle_copy.root / "configs" / "inference.json")
    monai_bundle.run("run", config_file=config, logging_file=False, output_dir=str(tmp_path / "masks"), **settings)
    for path in pictures.iterdir():
        expected = dark_shape()[:50, :37] if path.stem == "odd" else dark_shape()
        result = mask(tmp_path / "masks" / f"{path.stem}_mask.png")
        assert result.shape == expected.shape
        assert overlap(result, expected) >= least, path.name
        for other in (expected[::-1], expected[:, ::-1], expected[::-1, ::-1], np.roll(expected, 4, axis=1)):
            assert overlap(result, other) < 0.9, path.name
    square = mask(tmp_path / "masks" / "plain_mask.png")[:64, :64]
    assert overlap(square, dark_shape()[:64, :64].T) < 0.9


def test_a_perfect_network_scores_1_at_the_size_of_the_file(by_color, copy_bundle, tmp_path, monkeypatch):
    """Labels and predictions meet at native size and in the same orientation, whatever the working resolution."""
    monkeypatch.chdir(tmp_path)
    bundle_copy = copy_bundle("perfect", data=False)
    folder = tmp_path / "drawn"
    folder.mkdir()
    entries = []
    for name, shape in (("whole", dark_shape()), ("cut", dark_shape()[:, :41])):
        picture(shape).save(folder / f"{name}.png")
        Image.fromarray(shape.astype(np.uint8) * 7).save(folder / f"{name}_anno.png")
        entries.append({"image": f"{name}.png", "label": f"{name}_anno.png", "mpp": 2.0})
    (folder / "list.json").write_text(json.dumps({"training": [], "validation": [], "test": entries}))
    settings = by_color | {
        "bundle_root": str(bundle_copy.root),
        "dataset_dir": str(folder),
        "data_list": "list.json",
        "data#datalist": {
            "_target_": "bundle.data.load_data_list",
            "dataset_dir": "@dataset_dir",
            "name": "@data_list",
        },
        "output_dir": str(tmp_path / "scores"),
    }
    files = [str(bundle_copy.root / "configs" / name) for name in ("train.json", "evaluate.json")]
    monai_bundle.run("run", config_file=files, logging_file=False, **settings)
    result = metrics(tmp_path / "scores")
    assert result.pop("calibration_error") < 0.5
    assert result == dict.fromkeys(OVERLAPS | OBJECTS, 1.0) | {"object_hausdorff": 0.0}
    assert [row["image"] for row in rows(tmp_path / "scores" / "per_image.csv")] == ["cut", "whole"]
    for name, shape in (("whole", dark_shape()), ("cut", dark_shape()[:, :41])):
        np.testing.assert_array_equal(mask(tmp_path / "scores" / "masks" / f"{name}_mask.png"), shape)


def test_inference_without_weights_is_no_success(resumed, pictures, tmp_path):
    arguments = ["run", "inference", "--config_file", resumed.configs("inference.json"), "--ckpt_dir", str(tmp_path)]
    failed = resumed.run(
        *arguments, "--dataset_dir", str(pictures), "--output_dir", str(tmp_path / "masks"), fails=True
    )
    assert "FileNotFoundError" in failed.stderr
    assert str(tmp_path / "model.pt") in failed.stderr
    assert not (tmp_path / "masks").exists()


# Used by programs

LOAD = """
import json, sys
import torch
from monai.bundle import load

folder, name, arguments, output = sys.argv[1:]
torch.manual_seed(1)
image = torch.randn(1, 3, 32, 48)
path, answers = list(sys.path), []
for settings in json.loads(arguments):
    network = load(name, bundle_dir=folder, device="cpu", **settings).eval()
    with torch.no_grad():
        answers.append({"weights": network.state_dict(), "image": image, "answer": network(image)})
    sys.path[:] = path  # each time as in a fresh process
    for module in [one for one in sys.modules if one.partition(".")[0] == "bundle"]:
        del sys.modules[module]
torch.save(answers, output)
"""


@pytest.mark.parametrize("where", ["in the bundle", "elsewhere"])
def test_load_gives_the_trained_network(where, resumed, elsewhere, python, tmp_path):
    """From another folder MONAI has to be told where the bundle is: `args_file`, a file of JSON or its content."""
    tags: list[dict[str, Any]] = [{}]
    if where == "elsewhere":
        arguments = {"bundle_root": str(resumed.root)}
        (tmp_path / "arguments.json").write_text(json.dumps(arguments))
        tags = [{"args_file": str(tmp_path / "arguments.json")}, {"args_file": arguments}]
    settings = [item | {"workflow_type": kind} for item in tags for kind in ("train", "inference")]
    command = [str(resumed.root.parent), resumed.root.name, json.dumps(settings), str(tmp_path / "answers.pt")]
    completed = python("-c", LOAD, *command, cwd=resumed.root if where == "in the bundle" else elsewhere)
    assert completed.returncode == 0, completed.stderr
    weights = weights_of(resumed.root / "models" / "model.pt")
    network = network_with(weights)
    answers = torch.load(tmp_path / "answers.pt", weights_only=True)
    assert len(answers) == len(settings)
    for loaded in answers:
        assert loaded["weights"].keys() == weights.keys()
        assert all(torch.equal(value, weights[name]) for name, value in loaded["weights"].items())
        with torch.no_grad():
            assert torch.allclose(loaded["answer"], network(loaded["image"]), atol=1e-6)


def test_what_the_command_line_says_wins_over_the_description(resumed, elsewhere):
    parser = ConfigParser()
    parser.read_config(str(resumed.root / "configs" / "inference.json"))
    parser.update({"bundle_root": str(resumed.root)})
    assert parser.get_parsed_content("crop_size") == [32, 32], "as it was trained"
    parser.update({"crop_size": [48, 64], "network_def#gate": "equal"})
    parser.parse(True)
    assert parser.get_parsed_content("inferer").roi_size == [48, 64]
    assert "equal" in {
        gate.kind for gate in parser.get_parsed_content("network_def").modules() if hasattr(gate, "kind")
    }
    arguments = inference_arguments(resumed)
    failed = resumed.run(*arguments, "--network_def#widths", "[8,8,8,8,8]", cwd=elsewhere, fails=True)
    last = failed.stderr.strip().splitlines()[-1]
    assert "does not fit this SemiMoE" in last
    assert "model.json beside it describes the network: leave out settings that change the network" in last


def test_a_workflow_gives_the_trained_network_to_others(resumed, pictures, elsewhere, monkeypatch):
    """What MONAI Label does: make the inference workflow, and ask it for its parts."""
    monkeypatch.chdir(elsewhere)
    workflow = ConfigWorkflow(
        str(resumed.root / "configs" / "inference.json"),
        logging_file=False,
        workflow_type="inference",
        bundle_root=str(resumed.root),
        dataset_dir=str(pictures),
        device="cpu",
        amp=False,
    )
    workflow.initialize()
    assert workflow.check_properties() == []
    workflow.evaluator.run()
    weights = weights_of(resumed.root / "models" / "model.pt")
    assert all(torch.equal(value, weights[name]) for name, value in workflow.network_def.state_dict().items())
    assert len(list((resumed.root / "output" / "inference").glob("*_mask.png"))) == 6


def test_the_metadata_keeps_monais_schema(resumed):
    schema = os.environ.get("META_SCHEMA")
    if not schema:
        pytest.skip("META_SCHEMA is not set: the file meta_schema_20240725.json, which MONAI would download")
    metadata = json.loads((resumed.root / "configs" / "metadata.json").read_text())
    assert metadata["schema"].endswith(Path(schema).name)
    monai_bundle.verify_metadata(meta_file=str(resumed.root / "configs" / "metadata.json"), filepath=schema)


def test_the_metadata_tells_the_networks_shapes(resumed, elsewhere, monkeypatch):
    monkeypatch.chdir(elsewhere)
    arguments: dict[str, Any] = {
        "meta_file": str(resumed.root / "configs" / "metadata.json"),
        "config_file": str(resumed.root / "configs" / "inference.json"),
        "bundle_root": str(resumed.root),
        "device": "cpu",
    }
    monai_bundle.verify_net_in_out("network_def", **arguments)
    with pytest.raises(ValueError, match="output channel number"):
        monai_bundle.verify_net_in_out("network_def", **arguments, **{"network_def#out_channels": 3})


def test_the_exported_network_gives_the_same_answer(resumed, elsewhere, tmp_path, monkeypatch):
    monkeypatch.chdir(elsewhere)
    exported = resumed.root / "models" / "model.ts"
    monai_bundle.ckpt_export(
        "network_def",
        filepath=str(exported),
        ckpt_file=str(resumed.root / "models" / "model.pt"),
        meta_file=str(resumed.root / "configs" / "metadata.json"),
        config_file=str(resumed.root / "configs" / "inference.json"),
        bundle_root=str(resumed.root),
    )
    network = network_with(weights_of(resumed.root / "models" / "model.pt"))
    image = torch.randn(1, 3, 48, 32)
    loaded, metadata, _ = monai_bundle.load(
        resumed.root.name, bundle_dir=resumed.root.parent, load_ts_module=True, device="cpu"
    )
    with torch.no_grad():
        expected, heads = network(image), network.heads(image)
        for scripted in (torch.jit.load(exported).eval(), loaded.eval()):
            assert torch.allclose(scripted(image), expected, atol=1e-5)
            answers = scripted.heads(image)
            assert answers.keys() == heads.keys()
            assert all(torch.allclose(answers[name], heads[name], atol=1e-5) for name in heads)
    assert metadata["name"] == json.loads((resumed.root / "configs" / "metadata.json").read_text())["name"]
