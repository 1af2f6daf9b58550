"""More than two classes, from the data list to masks on disk, with methods that know nothing of classes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from PIL import Image

from scripts.data_preparation.folder import prepare_folder

SUPERVISED = "configs/methods/supervised.yaml"


def parsed(root: Path, files: list[str], settings: dict[str, Any]) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config([str(root / file) for file in files])
    parser.update(settings)
    return parser


@pytest.mark.parametrize("name", ["supervised", "semi_moe"])
def test_a_method_trains_on_three_classes(name: str, method: Callable[..., Any]) -> None:
    setup = method(name, data="phantom_classes", val_interval=1)
    labeled, unlabeled = setup.batches()
    classes = labeled["label"].unique().tolist()
    assert max(classes) in (1, 2)
    assert set(classes) <= {0, 1, 2}
    setup.trainer.run()
    assert unlabeled is None or "label" not in unlabeled
    assert setup.network(labeled["image"]).shape[1] == 3
    scores = setup.parser.get_parsed_content("validate#evaluator").state.metrics
    assert all(0 <= scores[key] <= 1 for key in ("pooled_dice", "pooled_jaccard", "mean_dice", "mean_jaccard"))


def test_an_evaluation_on_three_classes(repository_root: Path, tiny: dict[str, Any], tmp_path: Path) -> None:
    """The model that says class 2 everywhere: malignant glands are found, benign ones are not."""
    files = ["configs/train.json", "configs/data/phantom_classes.yaml", SUPERVISED, "configs/evaluate.json"]
    parser = parsed(repository_root, files, tiny)
    network = parser.get_parsed_content("network")
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.head.bias.copy_(torch.tensor([0.0, 0.0, 9.0]))
    (tmp_path / "models").mkdir()
    torch.save(network.state_dict(), tmp_path / "models" / "model.pt")
    evaluator = parser.get_parsed_content("validate#evaluator")
    evaluator.run()
    scores = evaluator.state.metrics
    entries = parser.get_parsed_content("validate#dataset").data
    masks = [np.asarray(Image.open(entry["label"])) > 0 for entry in entries]
    malignant = [mask & (entry["grade"] == "malignant") for entry, mask in zip(entries, masks, strict=True)]
    true, total = (sum(mask.sum() for mask in some) for some in (malignant, [mask | True for mask in masks]))
    assert 0 < true < total
    assert scores["pooled_dice"] == pytest.approx(true / (true + total))  # half of 2 true / (true + total)
    assert scores["class_mean_dice"] == pytest.approx(2 * true / (true + total) / 3)
    assert scores["object_f1"] > 0  # a gland is found, whatever its class
    tables = (tmp_path / "output" / "calibration.csv").read_text().splitlines()
    assert tables[0].startswith("class,low,high")
    assert len(tables) == 1 + 2 * 15
    pictures = sorted((tmp_path / "output" / "masks").glob("*.png"))
    assert len(pictures) == 3
    assert all((np.asarray(Image.open(picture)) == 2).all() for picture in pictures)


@pytest.mark.parametrize(("classes", "value"), [(2, 255), (3, 2)])
def test_inference_writes_class_indices(
    classes: int, value: int, repository_root: Path, phantom_dir: Path, tiny: dict[str, Any], tmp_path: Path
) -> None:
    """A network that finds its last class everywhere: 255 with two classes, else the class itself."""
    settings = {key: tiny[key] for key in ("bundle_root", "output_dir", "ckpt_dir", "device", "amp")}
    settings |= {"dataset_dir": str(phantom_dir / "image"), "classes": classes, "crop_size": [32, 32]}
    settings |= {"network_def#_target_": "bundle.networks.UNet", "network_def#widths": [4, 4, 4, 4, 4]}
    parser = parsed(repository_root, ["configs/inference.json"], settings | {"handlers": []})
    parser["dataset#data"] = [{"image": str(next(phantom_dir.glob("image/*.png")))}]
    network = parser.get_parsed_content("network_def")
    with torch.no_grad():
        network.head.weight.zero_()
        network.head.bias.copy_(torch.arange(classes))
    parser.get_parsed_content("evaluator").run()
    (picture,) = tmp_path.glob("output/*_mask.png")
    assert (np.asarray(Image.open(picture)) == value).all()


def test_masks_that_hold_classes(repository_root: Path, tiny: dict[str, Any], tmp_path: Path) -> None:
    """A gland of two classes that touch is one object; the values are kept as they are."""
    images, masks = tmp_path / "images", tmp_path / "masks"
    generator = np.random.default_rng(0)
    label = np.zeros((48, 64), np.uint8)
    label[8:20, 8:20], label[8:20, 20:30], label[30:44, 40:60] = 1, 2, 3
    for folder in (images, masks):
        folder.mkdir()
    for number in range(6):
        picture = generator.integers(0, 256, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(picture).save(images / f"{number}.png")
        Image.fromarray(label).save(masks / f"{number}.png")
    prepare_folder(images, tmp_path / "data", masks=masks, classes=("background", "benign", "malignant", "other"))
    settings = tiny | {"dataset_dir": str(tmp_path / "data"), "data_list": "heldout_100_seed0.json", "classes": 4}
    files = ["configs/train.json", "configs/data/folder_classes.yaml", SUPERVISED]
    batch = next(iter(parsed(repository_root, files, settings).get_parsed_content("train#dataloader")))
    assert set(batch["label"].unique().tolist()) == {0, 1, 2, 3}
    assert torch.equal(batch["sdf"] > 0, batch["label"] > 0)
    parser = parsed(repository_root, [*files, "configs/evaluate.json"], settings)
    record = parser.get_parsed_content("validate#dataset")[0]
    record["pred"] = torch.zeros(4, *record["image"].shape[1:])
    objects = parser.get_parsed_content("validate#postprocessing").transforms[-1]
    assert torch.equal(torch.as_tensor(objects(record)["instances"])[0].T > 0, torch.from_numpy(label) > 0)
    assert int(objects(record)["instances"].max()) == 2
