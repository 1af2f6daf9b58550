"""MONAI Label's own app `monaibundle` serves and trains the unchanged bundle offline, by the documented commands."""

from __future__ import annotations

import io
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import monai.bundle
import numpy as np
import pytest
from PIL import Image

pytest.importorskip("monailabel", reason="MONAI Label is not installed here: make test-label")
import requests
from monailabel.main import Main

MODEL = "semi_moe_segmentation"
LABELED = ("square_1", "square_2", "square_3")
CROP = [128, 128]
"""Of the configs: more than these tiles have, and a quarter of the default."""
TRAINING = 240
"""Seconds that a training may take, on a machine that has much else to do."""

Tiles = Mapping[str, tuple[Path, Path]]


@pytest.fixture(scope="module")
def bundle(repository_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The app as MONAI Label copies it, with the bundle and its weights, but smaller crops."""
    folder = tmp_path_factory.mktemp("stock")
    arguments = ["apps", "--download", "--name", "monaibundle", "--output", str(folder / "apps")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["monailabel", *arguments])
        Main().run()
    root = folder / "apps" / "monaibundle" / "model" / MODEL
    for name in ("bundle", "configs", "models"):
        shutil.copytree(repository_root / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("train.json", "inference.json"):
        config = json.loads((root / "configs" / name).read_text(encoding="utf-8"))
        (root / "configs" / name).write_text(json.dumps(config | {"crop_size": CROP}), encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def studies(make_studies: Callable[..., Path]) -> Path:
    """Tiles, one of them also in other picture formats."""
    folder = make_studies(*LABELED, "oblong_1")
    with Image.open(folder / "oblong_1.png") as opened:
        picture = opened.convert("RGB")
    picture.convert("RGBA").save(folder / "rgba.png")
    picture.save(folder / "jpeg.jpg", quality=100, subsampling=0)
    picture.save(folder / "tiff.tif")
    return folder


@pytest.fixture(scope="module")
def server(bundle: Path, studies: Path, start_server: Callable[..., Any]) -> Any:
    """The stock app on these tiles."""
    return start_server(bundle.parents[1], studies, {"models": MODEL, "zoo_source": "local"})


@pytest.fixture(scope="module")
def client() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


@pytest.fixture(scope="module")
def expected(bundle: Path, studies: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], np.ndarray]:
    """Mask of a tile by `monai.bundle run inference` with the shipped weights: (H, W), 0 and 1."""
    images, output = tmp_path_factory.mktemp("images"), tmp_path_factory.mktemp("inference")
    for name in ("square_1.png", "oblong_1.png", "jpeg.jpg"):
        shutil.copy(studies / name, images)
    path = list(sys.path)
    monai.bundle.run(
        "inference",
        config_file=str(bundle / "configs" / "inference.json"),
        bundle_root=str(bundle),
        dataset_dir=str(images),
        output_dir=str(output),
        device="$torch.device('cpu')",
    )
    sys.path[:] = path
    return lambda name: pixels((output / f"{name}_mask.png").read_bytes()) // 255


def pixels(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as opened:
        return np.array(opened)


def answer(client: requests.Session, server: Any, name: str, **params: Any) -> np.ndarray:
    """Return the mask that the server predicts for an image of the folder."""
    response = client.post(
        f"{server.url}/infer/{MODEL}",
        params={"image": name, "output": "image"},
        data={"params": json.dumps({"device": "cpu", **params})},
        timeout=TRAINING,
    )
    assert response.status_code == 200, response.text
    return pixels(response.content)


def test_it_is_known_as_a_segmentation_of_glands_in_two_dimensions(client, server):
    info = client.get(f"{server.url}/info/").json()
    model = info["models"][MODEL]
    assert (model["type"], model["dimension"], model["labels"]) == ("segmentation", 2, {"gland": 1})
    assert list(info["trainers"]) == [MODEL]


@pytest.mark.parametrize("name", ["square_1", "oblong_1"])
def test_a_tile_is_answered_as_inference_answers_it(client, server, expected, name):
    mask, right = answer(client, server, name), expected(name)
    assert 0.02 < right.mean() < 0.98
    assert mask.dtype == np.uint8
    assert mask.tolist() == right.tolist()
    if mask.shape == right.T.shape:
        assert mask.tolist() != right.T.tolist()


@pytest.mark.parametrize("name", ["rgba", "tiff"])
def test_other_kinds_of_picture_are_read_as_the_same(client, server, expected, name):
    assert answer(client, server, name).tolist() == expected("oblong_1").tolist()


def test_a_jpeg_gets_a_true_mask_if_asked_for_png(client, server, expected):
    """The default would be a JPEG, whose values differ from those of the mask."""
    mask = answer(client, server, "jpeg", result_extension=".png")
    assert mask.tolist() == expected("jpeg").tolist()
    assert (mask == expected("oblong_1")).mean() > 0.95


def test_labels_are_learned_from_and_the_next_answer_uses_what_was_learned(client, server, expected, bundle, tiles):
    """Must be the last test of the file, because it replaces the model."""
    for name in LABELED:
        with tiles[name][1].open("rb") as file:
            response = client.put(
                f"{server.url}/datastore/label", params={"image": name, "tag": "final"}, files={"label": file}
            )
        assert response.status_code == 200, response.text
    before = (bundle / "models" / "model.pt").read_bytes()
    response = client.post(f"{server.url}/train/{MODEL}", json={"max_epochs": 1, "device": "cpu"})
    assert response.status_code == 200, response.text
    task = finished(client, server)
    assert task["status"] == "DONE", "\n".join(task["details"])
    assert "(2 labeled, 1 validation)" in server.said
    assert (bundle / "models" / "model.pt").read_bytes() != before
    assert not (bundle / "dataset").exists()  # the embedded data set, which nobody asked for
    mask = answer(client, server, "oblong_1")
    assert mask.shape == expected("oblong_1").shape
    assert mask.tolist() != expected("oblong_1").tolist()
    assert "Reload model from cache" in server.said


def finished(client: requests.Session, server: Any) -> dict[str, Any]:
    """Return the training after its end."""
    end = time.monotonic() + TRAINING
    while time.monotonic() < end:
        task: dict[str, Any] = client.get(f"{server.url}/train/", params={"all": True}).json()[-1]
        if task["status"] not in ("SUBMITTED", "RUNNING"):
            return task
        time.sleep(0.5)
    raise AssertionError(f"the training takes more than {TRAINING} s")
