"""A real server and the processes that it starts, above all trainings: they end, are stopped, and are killed."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import time
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("monailabel", reason="MONAI Label is not installed here: make test-label")
import psutil
import requests
from lib.annotation import Annotation, write_asap
from lib.datastore import TileDatastore

from bundle.inference.polygons import outlines
from tests.faults.counts import add_counts

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "'cgi' is deprecated", DeprecationWarning)
    from monailabel.client import MONAILabelClient

pytest_plugins = ["tests.label_app.served"]

# MONAI Label's client leaves its connections to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")

MODEL = "semi_moe"
NAMES = ("oblong_1", "square_1", "square_2", "square_3")
WAIT = 300
"""Seconds that a training may take, on a machine that has much else to do."""
LONG = 100_000
"""Epochs of a training that is to be stopped."""
CUT_OFF = (requests.ConnectionError, requests.exceptions.ChunkedEncodingError)
"""What `requests` raises where a server ends: before it answers, and between the head of its answer and the body."""

Tiles = Mapping[str, tuple[Path, Path]]


@pytest.fixture(scope="module")
def studies(make_studies: Callable[..., Path], slide_file: Path) -> Path:
    """Tiles and a slide."""
    folder = make_studies(*NAMES)
    shutil.copy(slide_file, folder)
    return folder


@pytest.fixture(scope="module")
def start(serve: Callable[..., Any], studies: Path) -> Callable[[], Any]:
    """Return a function that starts a server on these images."""
    return lambda: serve(studies, unlabeled_per_slide=2)


@pytest.fixture(scope="module")
def server(start: Callable[[], Any]) -> Any:
    return start()


@pytest.fixture(scope="module")
def client(server: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """MONAI Label's own client."""
    return MONAILabelClient(server.url, str(tmp_path_factory.mktemp("client")))


@pytest.fixture(scope="module")
def web(server: Any, connect: Callable[..., Any]) -> Callable[..., Any]:
    return connect(server.url)


@pytest.fixture(scope="module")
def labeled(web: Callable[..., Any], tiles: Tiles, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Label three tiles: two by a mask, one by outlines of a viewer."""
    xml = tmp_path_factory.mktemp("outlines") / "square_3.xml"
    shapes = [Annotation("Gland", outline.shape) for outline in outlines(np.asarray(Image.open(tiles["square_3"][1])))]
    write_asap(xml, shapes, {"Gland": (200, 0, 0)}, "square_3")
    sent = {name: ("m.png", tiles[name][1].read_bytes()) for name in ("square_1", "square_2")}
    for name, file in {**sent, "square_3": ("o.xml", xml.read_bytes())}.items():
        web("PUT", f"/datastore/label?image={name}&tag=final", files={"label": file})


def until(condition: Callable[[], Any], description: str, seconds: float = WAIT) -> Any:
    """Return the response as soon as it is not empty."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if response := condition():
            return response
        time.sleep(0.2)
    raise AssertionError(f"after {seconds} s still not: {description}")


def mask_of(web: Callable[..., Any], name: str) -> bytes:
    content: bytes = web("POST", f"/infer/{MODEL}?image={name}&output=image").content
    return content


def stats(client: Any) -> dict[str, Any]:
    result: dict[str, Any] = client.info()["train_stats"][MODEL]
    return result


def running(client: Any) -> dict[str, Any]:
    """Return the training as soon as it makes steps."""
    return until(lambda: (result := stats(client)).get("progress", {}).get("step") and result, "a training makes steps")


def ended(client: Any) -> dict[str, Any]:
    """Return the last training after its end."""
    return until(lambda: (task := client.train_status())["status"] not in ("SUBMITTED", "RUNNING") and task, "it ended")


def model_files(tiny_bundle: Path, studies: Path) -> dict[Path, bytes]:
    """The bundle's own model, and those of the folder of images."""
    folders = (tiny_bundle / "models", studies / "model")
    return {path: path.read_bytes() for folder in folders for path in folder.glob("model*.pt")}


def test_who_asks_for_the_next_image_again_and_again_starts_one_scoring(client: Any, web: Callable[..., Any]) -> None:
    for strategy in ("disagreement", "diverse", "disagreement"):
        client.next_sample(strategy, {})
    tasks = web("GET", "/scoring/?all=true").json()
    methods = [task["request"]["method"] for task in tasks]
    assert sorted(methods) == ["disagreement", "features"], "none waits behind those of the start"


def test_a_training_shows_its_progress_and_stops_when_told(
    client: Any, web: Callable[..., Any], labeled: None, tiny_bundle: Path, studies: Path
) -> None:
    before, quiet = model_files(tiny_bundle, studies), mask_of(web, "oblong_1")
    client.train_start(MODEL, {"max_epochs": LONG})
    first = running(client)
    assert (first["state"], first["progress"]["epochs"]) == ("running", LONG)
    assert client.train_status(check_if_running=True)
    assert mask_of(web, "oblong_1") == quiet
    assert "already running" in web("POST", f"/train/{MODEL}", 429, json={}).text.lower()
    until(lambda: stats(client)["progress"]["step"] > first["progress"]["step"], "the progress grows")
    assert client.train_stop()["status"] == "STOPPED"
    until(lambda: stats(client)["state"] == "stopped", "it is told as stopped")
    assert not client.train_status(check_if_running=True)
    assert client.train_status()["status"] == "STOPPED"
    assert model_files(tiny_bundle, studies) == before
    assert not (studies / "model" / "model.pt").exists()
    assert mask_of(web, "oblong_1") == quiet


@pytest.mark.parametrize(
    "seconds", [0.0, *(pytest.param(number / 2, marks=pytest.mark.slow) for number in (1, 2, 3, 5, 8))]
)
def test_a_training_that_is_killed_loses_nothing(
    seconds: float, client: Any, web: Callable[..., Any], labeled: None, server: Any, tiny_bundle: Path, studies: Path
) -> None:
    """Started as DSA starts it."""
    before, objects, quiet = model_files(tiny_bundle, studies), client.datastore()["objects"], mask_of(web, "oblong_1")
    body = {"name": "train_01", "max_epochs": LONG, "dataset": "CacheDataset", "val_split": 0.2, "dataset_limit": 0}
    web("POST", f"/train/{MODEL}", json=body | {"train_batch_size": 1, "val_batch_size": 1, "client_id": None})
    process = running(client)["process"]
    assert process in [child.pid for child in psutil.Process(server.process.pid).children(recursive=True)]
    assert psutil.Process(process).environ()["OMP_WAIT_POLICY"] == "PASSIVE"
    time.sleep(seconds)
    os.kill(process, signal.SIGKILL)
    assert ended(client)["status"] == "ERROR"
    assert stats(client)["state"] == "stopped"
    assert stats(client)["reason"] == "it was stopped; the model is unchanged"
    assert model_files(tiny_bundle, studies) == before
    assert client.datastore()["objects"].keys() == objects.keys()
    assert {name: sorted(item["labels"]) for name, item in client.datastore()["objects"].items()} == {
        name: sorted(item["labels"]) for name, item in objects.items()
    }
    assert mask_of(web, "oblong_1") == quiet
    if seconds:
        add_counts("killed training in the label server", 1, result=1)


def test_a_training_ends_with_both_figures_and_batch_inference_labels_all(
    client: Any, web: Callable[..., Any], labeled: None, studies: Path
) -> None:
    """Started as QuPath starts it; both are processes, and run side by side."""
    quiet = mask_of(web, "oblong_1")
    web("POST", f"/train/{MODEL}", data='{"max_epochs":1,"train_batch_size":1,"val_batch_size":1}')
    web("POST", f"/batch/infer/{MODEL}")  # without settings, as MONAI Label's page of requests sends it
    task = ended(client)
    assert task["status"] == "DONE", "\n".join(task["details"])
    result = json.loads(task["details"][-1].partition("Result: ")[2])
    assert 0 <= result["before"] <= 1
    assert 0 <= result["after"] <= 1
    assert result["taken"] is (result["after"] >= result["before"]) is (studies / "model" / "model.pt").is_file()
    assert result["taken"] is (mask_of(web, "oblong_1") != quiet)
    assert (result["labeled"], result["validation"]) == (2, 1)
    assert result["unlabeled"] == 1 + 2, "the other tile, and tiles of the slide"
    reported = stats(client)
    assert (reported["state"], reported["reason"]) == ("done", result["reason"])
    free = {name for name, item in client.datastore()["objects"].items() if "final" not in item["labels"]} - {"slide"}
    assert client.info()["scoring"]["disagreement"]["scores"].keys() == free != set()
    batch = until(
        lambda: (actual := web("GET", "/batch/infer").json())["status"] not in ("SUBMITTED", "RUNNING") and actual,
        "all images are answered",
    )
    assert batch["status"] == "DONE", "\n".join(batch["details"])
    listed = client.datastore
    until(lambda: all("original" in item["labels"] for item in listed()["objects"].values()), "labels are listed", 30)
    assert (studies / "labels" / "original" / "slide.xml").is_file()


def test_a_server_that_is_killed_while_labels_come_starts_again_with_all(
    web: Callable[..., Any], server: Any, start: Callable[[], Any], tiles: Tiles, studies: Path
) -> None:
    """Must be the last test of the file, because it replaces the server."""
    masks, sent, taken = {name: np.asarray(Image.open(tiles[name][1])) > 0 for name in NAMES}, {}, 0

    def submit() -> None:
        nonlocal taken
        for number in range(10**6):
            for name, mask in masks.items():
                data = io.BytesIO()
                Image.fromarray(np.uint8(mask) * (1 + number % 250)).save(data, "PNG")
                sent.setdefault(name, [b"", b""]).append(data.getvalue())
                web("PUT", f"/datastore/label?image={name}&tag=final", files={"label": ("m.png", data.getvalue())})
                taken += 1

    with ThreadPoolExecutor(1) as pool:
        submission = pool.submit(submit)
        until(lambda: taken > 2 * len(NAMES) or submission.done(), "some labels are taken")
        server.stop()
        with pytest.raises(CUT_OFF):
            submission.result(WAIT)
    repeated = start()
    objects = MONAILabelClient(repeated.url).datastore()["objects"]
    for name in NAMES:
        assert "final" in objects[name]["labels"], name
        assert (studies / "labels" / "final" / f"{name}.png").read_bytes() in sent[name][-2:], name
    assert not list(studies.glob("datastore_v2.json.damaged-*"))


def test_a_file_that_is_cut_off_while_it_is_written_leaves_what_was_there(
    make_studies: Callable[..., Path], tiles: Tiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same without a server, with the process killed at the worst moment."""
    folder = make_studies("square_1")
    store = TileDatastore(str(folder), ["Gland"])
    store.save_label("square_1", str(tiles["square_1"][1]), "final", {})

    def stop(source: Any, path: Any, **_: Any) -> None:
        Path(path).write_bytes(Path(source).read_bytes()[:100])
        if "history" not in str(path):
            raise KeyboardInterrupt

    for name in ("copy", "copyfile", "copy2"):
        monkeypatch.setattr(shutil, name, stop)
    with pytest.raises(KeyboardInterrupt):
        store.save_label("square_1", str(tiles["square_2"][1]), "final", {})
    with pytest.raises(KeyboardInterrupt):
        store.add_image("new", str(tiles["square_2"][0]), {})
    label = folder / "labels" / "final" / "square_1.png"
    assert label.read_bytes() == tiles["square_1"][1].read_bytes()
    repeated = TileDatastore(str(folder), ["Gland"])
    assert repeated.list_images() == ["square_1"]
    assert repeated.get_labeled_images() == ["square_1"]
