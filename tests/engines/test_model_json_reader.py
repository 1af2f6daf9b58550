"""`model.json`: what a training writes, what is read from it, and what is rejected."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events
from monai.bundle import ConfigParser

from bundle.engines import ModelCheckpointLoader, ModelDescription, SaveScores, trained_model
from bundle.engines.component_definitions import plain_definition
from bundle.engines.model_file import save_model
from bundle.engines.model_json_reader import read_description
from bundle.networks import EfficientNetLite, Peers, UNet

SETTINGS = {
    "classes": 3,
    "pixel_size": 0.5,
    "crop_size": [32, 48],
    "mean": [0.1, 0.2, 0.3],
    "std": [1.0, 1.0, 1.0],
    "experts": ["seg"],
    "mask_classes": None,
}
DEFAULTS = {"network": "bundle.networks.SemiMoE", "widths": [16, 32], "class_target": "x", "data_list": "own.json"}
DEFAULTS |= dict.fromkeys(SETTINGS, 0)
CONFIG: dict[str, Any] = {
    "classes": 3,
    "small": 4,
    "network_def": {
        "_target_": "$'bundle.networks.' + 'Peers'",
        "_requires_": "$None",
        "in_channels": 3,
        "out_channels": "@classes",
        "widths": "$[@small, 8, 8, 8, 8]",
        "peer": {
            "_target_": "bundle.networks.Padded",
            "multiple": 16,
            "network": {
                "_target_": "BasicUNet",
                "spatial_dims": 2,
                "in_channels": "@network_def#in_channels",
                "out_channels": "@network_def#out_channels",
                "features": [4, 4, 4, 4, 4, 4],
            },
        },
    },
    "data": {
        "class_target": {"_target_": "bundle.transforms.ClassFromGraded", "keys": "label", "grades": {"a": 1, "b": 2}}
    },
    "description": {
        "_target_": "bundle.engines.ModelDescription",
        "path": "here",
        "settings": SETTINGS,
        "training": {"method": "cps", "steps_per_epoch": 5},
        "data": {"list": "their.json"},
        "command": ["/lib/monai/bundle/__main__.py", "run", "training", "--config_file", "['a.json','b.yaml']"],
    },
}


@pytest.fixture
def described(tmp_path: Path) -> tuple[ConfigParser, Path]:
    """Write a configuration, and a folder with its network and description."""
    parser = ConfigParser(copy.deepcopy(CONFIG))
    parser.update({"description#path": str(tmp_path / "model.json")})
    description: ModelDescription = parser.get_parsed_content("description")
    network = parser.get_parsed_content("network_def")
    save_model(network, tmp_path / "model.pt", description, 2, {"pooled_dice": 0.5, "object_f1": math.nan})
    return parser, tmp_path


def change(folder: Path, key: str, value: Any) -> None:
    """Change a value of the ``model.json`` in a folder."""
    content = json.loads((folder / "model.json").read_text())
    *parents, last = key.split("#")
    holder = content
    for node in parents:
        holder = holder[node]
    holder[last] = value
    (folder / "model.json").write_text(json.dumps(content))


def test_the_description_is_plain_and_complete(described):
    _, folder = described
    content = read_description(folder / "model.json")
    assert content["network_def"] == {
        "_target_": "bundle.networks.Peers",
        "in_channels": 3,
        "out_channels": 3,
        "widths": [4, 8, 8, 8, 8],
        "peer": {
            "_target_": "bundle.networks.Padded",
            "multiple": 16,
            "network": {
                "_target_": "monai.networks.nets.basic_unet.BasicUNet",
                "spatial_dims": 2,
                "in_channels": 3,
                "out_channels": 3,
                "features": [4, 4, 4, 4, 4, 4],
            },
        },
    }
    assert content["settings"] == SETTINGS
    assert content["training"]["epoch"] == 2
    assert content["training"]["steps"] == 10
    assert content["training"]["config_files"] == ["a.json", "b.yaml"]
    assert content["training"]["command"] == "python -m monai.bundle run training --config_file \"['a.json','b.yaml']\""
    assert content["scores"]["validation"] == {"pooled_dice": 0.5, "object_f1": None}
    assert content["versions"]["torch"] == torch.__version__


def test_the_folder_gives_the_network_and_its_settings_and_changes_win(described):
    _, folder = described
    model = trained_model(folder, **DEFAULTS)
    assert {name: model[name] for name in SETTINGS} == SETTINGS
    assert (model["widths"], model["data_list"]) == ([4, 8, 8, 8, 8], "their.json")
    network = model["network"](in_channels=3, out_channels=3, widths=None)
    assert isinstance(network, Peers)
    network.load_state_dict(torch.load(folder / "model.pt", weights_only=True))
    other = model["network"](widths=[8, 8, 8, 8, 8])
    assert other.state_dict().keys() == network.state_dict().keys()
    assert next(iter(other.parameters())).shape[0] == 8
    assert model["class_target"](keys="mask").grades == {"a": 1, "b": 2}


def test_without_a_description_the_defaults_hold(tmp_path):
    assert trained_model(tmp_path, **DEFAULTS) == DEFAULTS


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("network_def#_target_", "os.system", "only networks and transforms of"),
        ("network_def#_target_", "bundle.networks.unet.os.system()", "only networks and transforms of"),
        (
            "network_def#_target_",
            "bundle.networks.encoders.copy.copy",
            "only networks and transforms of",
        ),
        ("network_def#_target_", "bundle.networks.unet.nn.Sequential", "only networks and transforms of"),
        ("network_def#_target_", "bundle.networks.without_pretrained", "only networks and transforms of"),
        ("network_def#_target_", "bundle.networks.NotThere", "only networks and transforms of"),
        ("network_def#_target_", ["bundle.networks.UNet"], "only networks and transforms of"),
        ("class_target#_target_", "bundle.transforms.classes.torch.hub.load", "only networks and transforms of"),
        ("network_def#peer#network#_target_", "torch.hub.load", "only networks and transforms of"),
        ("network_def#peer#network#_target_", "monai.bundle.scripts.run", "only networks and transforms of"),
        ("network_def#widths", "$print(1)", "expression"),
        ("network_def#in_channels", "@classes", "expression"),
        ("class_target#grades", {"a": "%other.json"}, "expression"),
        ("settings#classes", "two", "settings#classes"),
        ("settings#crop_size", [32], "settings#crop_size"),
        ("settings#std", [0.0], "settings#std"),
        ("settings#pixel_size", math.nan, "NaN"),
        ("data", {"list": 5}, "data#list"),
        ("training#config_files", "train.json", "training#config_files"),
        ("scores", {"evaluation": [{"scores": {}}]}, "scores#evaluation#0"),
        ("format", "another", "format"),
    ],
)
def test_what_is_not_safe_or_not_whole_is_refused(key, value, message, described):
    _, folder = described
    change(folder, key, value)
    with pytest.raises(ValueError, match=rf"model\.json does not describe a model: .*{message}.*copy it again"):
        trained_model(folder, **DEFAULTS)


def test_a_damaged_file_is_refused(described):
    _, folder = described
    for text in ('{"format": ', "[" * 100_000):
        (folder / "model.json").write_text(text)
        with pytest.raises(ValueError, match=r"model\.json does not describe a model"):
            trained_model(folder, **DEFAULTS)


@pytest.mark.parametrize("pretrained", [{"pretrained": True}, {}])
def test_an_encoder_of_a_trained_model_asks_for_no_weights_of_its_own(pretrained, described, monkeypatch):
    """Neither if the file asks for them, nor if the default of the encoder loads them."""
    _, folder = described
    asks: list[str] = []
    monkeypatch.setattr(EfficientNetLite, "_load", lambda encoder, name: asks.append(name))
    encoder = {"_target_": "bundle.networks.EfficientNetLite", "name": "lite0"}
    change(folder, "network_def", {"_target_": "bundle.networks.UNet", "encoder": encoder | pretrained})
    EfficientNetLite(name="lite0")
    assert asks == ["lite0"]
    assert isinstance(trained_model(folder, **DEFAULTS)["network"](widths=[4, 4, 4, 4, 4]), UNet)
    assert asks == ["lite0"]


@pytest.mark.parametrize(("other", "expected"), [(False, False), (True, True)])
def test_a_description_of_other_weights_is_told(other, expected, described, caplog):
    parser, folder = described
    network = parser.get_parsed_content("network_def")
    if other:
        torch.save({name: value + 1 for name, value in network.state_dict().items()}, folder / "model.pt")
    ModelCheckpointLoader(network, folder / "model.pt").load()
    assert ("was written for other weights than this model.pt" in caplog.text) is expected


def test_a_network_from_elsewhere_is_told_and_left_out(tmp_path, caplog):
    parser = ConfigParser(copy.deepcopy(CONFIG))
    parser.update({"network_def": {"_target_": "torch.nn.Conv2d", "in_channels": 3, "out_channels": 2}})
    content = parser.get_parsed_content("description").content
    assert content["network_def"] is None
    assert "only networks and transforms of" in caplog.text


def test_values_without_a_form_in_json_are_named():
    parser = ConfigParser({"network_def": {"_target_": "bundle.networks.UNet", "norm": "$object()"}})
    with pytest.raises(ValueError, match="network_def#norm is a object"):
        plain_definition(parser, "network_def")


def test_squeezed_images_have_no_pixel_size(described):
    _, folder = described
    change(folder, "settings#pixel_size", None)
    model = trained_model(folder, **DEFAULTS)
    with pytest.raises(ValueError, match=r"gives no pixel_size: .*resized to one size.*give --pixel_size"):
        model["pixel_size"]


def test_another_network_takes_the_old_description_away_first(described, monkeypatch):
    """A run killed between weights and description leaves a model without description, never with a wrong one."""
    parser, folder = described

    def killed(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ModelDescription, "write", killed)
    description = parser.get_parsed_content("description")
    with pytest.raises(KeyboardInterrupt):
        save_model(UNet(3, 2, widths=(4, 4, 4, 4, 4)), folder / "model.pt", description, 1)
    assert (folder / "model.json").is_file(), "the same definition may stay"
    description.content["network_def"] = {"_target_": "bundle.networks.UNet"}
    with pytest.raises(KeyboardInterrupt):
        save_model(UNet(3, 2, widths=(4, 4, 4, 4, 4)), folder / "model.pt", description, 1)
    assert not (folder / "model.json").exists()


def evaluate(folder: Path, score: float, data_list: str = "own.json", **facts: Any) -> None:
    """Run an evaluation with a given score; ``facts`` describe the data list."""
    engine = Engine(lambda engine, batch: None)
    SaveScores(folder / "model.pt", {"list": data_list} | facts, "heldout").attach(engine)
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: engine.state.metrics.update(pooled_dice=score))
    engine.run([0])


def test_scores_of_evaluations_are_added_and_replaced(described):
    _, folder = described
    evaluate(folder, 0.7)
    evaluate(folder, 0.8)
    evaluate(folder, 0.6, "other.json")
    scores = read_description(folder / "model.json")["scores"]
    assert [(item["data"]["list"], item["scores"]["pooled_dice"]) for item in scores["evaluation"]] == [
        ("own.json", 0.8),
        ("other.json", 0.6),
    ]
    assert scores["validation"]["pooled_dice"] == 0.5


def test_another_list_of_the_same_name_is_told_and_replaces_nothing(described, caplog):
    _, folder = described
    change(folder, "data", {"list": "own.json", "sha256": "a"})
    evaluate(folder, 0.7, sha256="a")
    evaluate(folder, 0.6, "other.json", sha256="c")
    assert not caplog.records
    evaluate(folder, 0.8, sha256="b")
    assert "trained on another own.json: same name" in caplog.text
    scores = read_description(folder / "model.json")["scores"]["evaluation"]
    assert [(item["data"]["sha256"], item["scores"]["pooled_dice"]) for item in scores] == [
        ("a", 0.7),
        ("c", 0.6),
        ("b", 0.8),
    ]


@pytest.mark.parametrize("why", ["released", "other weights", "none"])
def test_scores_are_not_written_where_they_do_not_belong(why, described):
    _, folder = described
    if why == "released":
        change(folder, "released", True)
    elif why == "other weights":
        (folder / "model.pt").write_bytes(b"others")
    else:
        (folder / "model.json").unlink()
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    evaluate(folder, 0.7)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_description_needs_a_configuration():
    with pytest.raises(RuntimeError, match="no configuration is being read"):
        ModelDescription("model.json", SETTINGS)
