"""A user's data from images to scores: a folder of several formats with half of the masks, and a tree like CRAG's."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import tifffile
import torch
from monai import bundle as monai_bundle
from PIL import Image

from bundle.data import load_data_list


def pictures_of(folder: Path, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return tiles of the phantom with instance maps; repeated tiles are shifted, so that all differ."""
    entries = [entry for part in load_data_list(folder, "heldout_100_seed0.json").values() for entry in part]
    result = []
    for number in range(count):
        entry, shift = entries[number % len(entries)], 5 * (number // len(entries))
        with Image.open(entry["image"]) as image, Image.open(entry["label"]) as label:
            result.append((np.roll(np.asarray(image), shift, 1), np.roll(np.asarray(label), shift, 1)))
    return result


def write_image(folder: Path, pixels: np.ndarray, kind: int) -> None:
    """Write an image in one of eight formats."""
    image = Image.fromarray(pixels)
    if kind == 0:
        image.save(folder.with_suffix(".png"))
    elif kind == 1:
        image.save(folder.with_suffix(".JPG"), quality=95)
    elif kind == 2:
        image.save(folder.with_suffix(".bmp"))
    elif kind == 3:
        tifffile.imwrite(folder.with_suffix(".tif"), pixels.astype(np.uint16) * 257, photometric="rgb")
    elif kind == 4:
        image.convert("RGBA").save(folder.with_suffix(".tiff"))
    elif kind == 5:
        image.quantize(256).save(folder.with_suffix(".png"))
    elif kind == 6:
        image.convert("L").save(folder.with_suffix(".png"))
    else:
        nibabel.save(nibabel.Nifti1Image(pixels.transpose(1, 0, 2), np.eye(4)), folder.with_suffix(".nii.gz"))


def write_mask(folder: Path, label: np.ndarray, kind: int) -> None:
    """Write a mask: 0/255, 0/1, instances of 8 or 16 bits, or NIfTI."""
    if kind == 0:
        Image.fromarray(np.where(label > 0, 255, 0).astype(np.uint8)).save(folder.with_suffix(".png"))
    elif kind == 1:
        Image.fromarray((label > 0).astype(np.uint8)).save(folder.with_suffix(".bmp"))
    elif kind == 2:
        Image.fromarray(label.astype(np.uint8)).save(folder.with_suffix(".png"))
    elif kind == 3:
        tifffile.imwrite(folder.with_suffix(".tif"), label.astype(np.uint16) * 300)
    else:
        nibabel.save(nibabel.Nifti1Image(label.T.astype(np.uint8), np.eye(4)), folder.with_suffix(".nii.gz"))


@pytest.fixture
def prepare(repository_root: Path, python: Callable[..., Any]) -> Callable[..., str]:
    """Run scripts/prepare_data.py and return its output."""

    def run(*arguments: str | Path) -> str:
        completed = python(repository_root / "scripts" / "prepare_data.py", *arguments)
        assert completed.returncode == 0, completed.stderr
        return completed.stdout

    return run


def train_evaluate_resume(bundle_copy: Any, overlay: str, folder: Path, data_list: str, monkeypatch: Any) -> None:
    """Train one epoch, resume for one more, and evaluate the test part, in a copy of the bundle."""
    monkeypatch.chdir(bundle_copy.root)
    train = json.loads((bundle_copy.root / "configs" / "train.json").read_text())
    train["data"]["datalist"] = {
        key: value for key, value in train["data"]["datalist"].items() if key not in ("size", "parts")
    }
    (bundle_copy.root / "configs" / "train.json").write_text(json.dumps(train))
    configs = ["configs/train.json", f"configs/data/{overlay}.yaml"]
    settings = {"dataset_dir": str(folder), "data_list": data_list, "device": "cpu", "amp": False}
    monai_bundle.run("training", config_file=configs, logging_file=False, max_epochs=1, **settings)
    monai_bundle.run("training", config_file=configs, logging_file=False, max_epochs=2, resume="true", **settings)
    with (bundle_copy.root / "runs" / "semi_moe_plus" / "training.csv").open(newline="") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2"]
    state = torch.load(bundle_copy.root / "runs" / "semi_moe_plus" / "checkpoints" / "resume.pt", weights_only=True)
    assert state["trainer"]["epoch"] == 2
    evaluate = [*configs, "configs/evaluate.json"]
    monai_bundle.run("evaluating", config_file=evaluate, logging_file=False, **settings)
    lines = (bundle_copy.root / "runs" / "semi_moe_plus" / "evaluation" / "metrics.csv").read_text().splitlines()
    scores = {name: float(value) for name, value in (line.split(",") for line in lines)}
    assert 0 <= scores["pooled_dice"] <= 1
    assert scores["pooled_jaccard"] == pytest.approx(scores["pooled_dice"] / (2 - scores["pooled_dice"]), abs=1e-6)


def test_a_folder_of_mixed_pictures_trains_evaluates_and_resumes(
    copy_bundle: Callable[..., Any],
    prepare: Callable[..., str],
    phantom_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images, masks, data = tmp_path / "my pictures", tmp_path / "my masks", tmp_path / "data"
    images.mkdir()
    masks.mkdir()
    for number, (pixels, label) in enumerate(pictures_of(phantom_dir, 20)):
        write_image(images / f"tile_{number:02d}", pixels, number % 8)
        if number % 2 == 0:
            write_mask(masks / f"tile_{number:02d}", label, number // 2 % 5)
    arguments = ["--images", images, "--masks", masks, "--output", data, "--mpp", "1.0"]
    output = prepare("folder", *arguments)
    (name,) = (path.name for path in data.glob("*.json"))
    parts = load_data_list(data, name)
    assert len(parts["unlabeled"]) == 10
    assert sum(len(parts[part]) for part in ("training", "validation", "test")) == 10
    assert all(parts[part] for part in ("training", "validation", "test"))
    assert name in output
    assert "no problem" in prepare("check", data / name)
    train_evaluate_resume(copy_bundle("mixed", data=False), "folder", data, name, monkeypatch)


def test_a_tree_like_that_of_crag_goes_the_same_way(
    copy_bundle: Callable[..., Any],
    prepare: Callable[..., str],
    phantom_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source, data = tmp_path / "CRAG", tmp_path / "data"
    tiles = iter(pictures_of(phantom_dir, 213))
    for part, name, count in (("train", "train", 173), ("valid", "test", 40)):
        for kind in ("Images", "Annotation"):
            (source / part / kind).mkdir(parents=True)
        for number in range(1, count + 1):
            pixels, label = next(tiles)
            Image.fromarray(pixels[:32, :32]).save(source / part / "Images" / f"{name}_{number}.png")
            Image.fromarray(label[:32, :32]).save(source / part / "Annotation" / f"{name}_{number}.png")
    prepare("crag", "--source", source, "--output", data)
    parts = load_data_list(data, "heldout_5_seed0.json")
    assert sum(len(parts[part]) for part in ("training", "unlabeled", "validation")) == 173
    assert len(parts["test"]) == 40
    for part in ("unlabeled", "validation", "test"):  # seconds, not minutes: few images of each part
        parts[part] = parts[part][:4]
    short = {part: [relative(entry, data) for entry in entries] for part, entries in parts.items()}
    (data / "short.json").write_text(json.dumps(short))
    prepare("check", data / "short.json")
    train_evaluate_resume(copy_bundle("crag", data=False), "crag", data, "short.json", monkeypatch)


def relative(entry: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return an entry with the relative paths of the list."""
    paths = {key: str(Path(entry[key]).relative_to(folder)) for key in ("image", "label") if key in entry}
    return entry | paths
