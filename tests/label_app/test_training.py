"""Training in this process, on tiny tiles: its data, its decision, and its files after a failure."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from shapely import box

pytest.importorskip("monailabel", reason="MONAI Label is not installed: make test-label")

import lib.train
from lib.annotation import Annotation, write_asap
from lib.models import MODEL
from lib.request_errors import RefusalError

from bundle.inference.polygons import outlines

NAME = "semi_moe"
pytest_plugins = ["tests.label_app.served"]


@pytest.fixture
def studies(make_studies: Callable[..., Path], request: pytest.FixtureRequest) -> Path:
    """A folder of tiles, whose name a test can change."""
    folder = make_studies("oblong_1", "square_1", "square_2", "square_3", "square_4")
    name = getattr(request, "param", "")
    return folder.rename(folder.with_name(name)) if name else folder


@pytest.fixture
def label(tiles: Mapping[str, tuple[Path, Path]], tmp_path: Path) -> Path:
    """A folder of the masks by the names of the tiles."""
    folder = tmp_path / "masks"
    folder.mkdir()
    for name, (_, mask) in tiles.items():
        shutil.copy(mask, folder / f"{name}.png")
    return folder


@pytest.fixture
def app(studies: Path, make_app: Callable[..., Any]) -> Any:
    """The app without a server."""
    return make_app(studies)


QUICK = {"model": NAME, "max_epochs": 1}


def outlined(app: Any, label: Path, *names: str, as_xml: bool = False) -> None:
    """Submit the masks of tiles, as pictures or as a viewer's outlines."""
    for name in names:
        path = label / f"{name}.png"
        if as_xml:
            plane = np.asarray(Image.open(path))
            shapes = [Annotation("Gland", outline.shape) for outline in outlines(plane)]
            path = label.parent / f"{name}.xml"
            write_asap(path, shapes, {"Gland": (0, 255, 0)}, name)
        app.datastore().save_label(name, str(path), "final", {})


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.pt")}


def given(app: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Record the settings of the bundle's training, which is not run; a file stands in for its model."""
    recorded: dict[str, Any] = {}

    def run(self: Any, request: Any, overrides: dict[str, Any]) -> None:
        recorded.update(overrides)
        shutil.copy(app.model_folder.current, Path(overrides["ckpt_dir"]) / MODEL)

    monkeypatch.setattr(lib.train.TrainingTask, "run_single_gpu", run)
    monkeypatch.setattr(lib.train, "dice", lambda *arguments: 0.5 if arguments[2] else None)
    return recorded


def test_it_learns_from_outlines_and_from_all_images_without(app: Any, label: Path) -> None:
    names = app.datastore().list_images()
    outlined(app, label, *names[:2])
    outlined(app, label, names[2], as_xml=True)
    result = app.train(dict(QUICK))
    assert result["taken"] is (result["after"] >= result["before"])
    assert (result["labeled"], result["validation"], result["unlabeled"]) == (2, 1, len(names) - 3)
    assert f"{result['after']:.4f} after" in result["reason"]
    assert f"{result['before']:.4f} before" in result["reason"]
    assert app.model_folder.trained.is_file() is result["taken"]
    stats = app.info()["train_stats"][NAME]
    assert stats["state"] == "done"
    assert stats["reason"] == result["reason"]
    assert app.info()["scoring"]["disagreement"]["scores"].keys() == set(names[3:])
    assert app.infer({"model": NAME, "image": names[0]})["file"]


@pytest.mark.parametrize("studies", ["my#tiles"], indirect=True)
def test_a_number_sign_in_names_of_files_and_folders_does_no_harm(app: Any, label: Path, studies: Path) -> None:
    """MONAI's parser of configs replaces it in texts."""
    for number in (1, 2):
        (studies / f"square_{number}.png").rename(studies / f"tile#{number}.PNG")
        (label / f"square_{number}.png").rename(label / f"tile#{number}.png")
    (studies / "square_3.png").rename(studies / "tile#3.png")
    app.datastore().refresh()
    outlined(app, label, "tile#1")
    outlined(app, label, "tile#2", as_xml=True)
    result = app.train(dict(QUICK))
    assert (result["labeled"], result["validation"], result["unlabeled"]) == (1, 1, 3)
    assert result["before"] is not None
    assert (studies / "model" / MODEL).is_file() is result["taken"]
    assert app.infer({"model": NAME, "image": "tile#3"})["file"]


def test_the_unlabeled_images_reach_the_bundle_and_judges_do_not_teach(
    app: Any, label: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = app.datastore().list_images()
    outlined(app, label, *names[:3])
    recorded = given(app, monkeypatch)
    app.train(dict(QUICK))
    part = {
        key: {Path(record["image"]).stem for record in recorded[f"{key}#dataset#data"]} for key in ("train", "validate")
    }
    unlabeled = {Path(record["image"]).stem for record in recorded["train#unlabeled_dataset#data"]}
    assert part["train"] | part["validate"] == set(names[:3])
    assert not part["train"] & part["validate"]
    assert unlabeled == set(names[3:])
    assert recorded["max_epochs"] == recorded["train#trainer#max_epochs"] == 1
    assert recorded["train#handlers"][0]["path"] == app.model_folder.shipped


def test_a_training_ends_at_its_time_limit_with_a_validated_model(app: Any, label: Path) -> None:
    outlined(app, label, *app.datastore().list_images()[:3])
    limits = {"max_epochs": 1000, "minutes": 0.001, "batch_size": 1, "learning_rate": "0.0005"}
    result = app.train({**QUICK, **limits})
    assert result["state"] == "done"
    assert isinstance(result["after"], float)
    assert (result["minutes"], result["batch_size"], result["learning_rate"]) == (0.001, 1, 0.0005)


def test_batch_size_and_learning_rate_reach_the_training(
    app: Any, label: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outlined(app, label, *app.datastore().list_images()[:3])
    recorded = given(app, monkeypatch)
    app.train(dict(QUICK))
    assert not {"batch_size", "learning_rate"} & set(recorded), "those of the bundle"
    app.train({**QUICK, "batch_size": 3, "learning_rate": 0.002})
    assert (recorded["batch_size"], recorded["learning_rate"]) == (3, 0.002)


def test_outlines_become_the_mask_that_they_were_made_of(
    app: Any, label: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = app.datastore().list_images()[0]
    outlined(app, label, name, as_xml=True)
    recorded = given(app, monkeypatch)
    read: dict[str, np.ndarray] = {}

    def look(*arguments: Any) -> None:
        read["label"] = np.asarray(Image.open(recorded["train#dataset#data"][0]["label"]))

    monkeypatch.setattr(lib.train, "_check_finite", look)
    app.train(dict(QUICK))
    np.testing.assert_array_equal(read["label"] > 0, np.asarray(Image.open(label / f"{name}.png")) > 0)


@pytest.mark.parametrize(
    ("settings", "labels", "judging", "compared"),
    [
        ({"val_split": 0}, 3, 0, False),
        ({"pretrained": False}, 3, 1, True),
        ({}, 1, 0, False),
        ({}, "all", 1, True),
    ],
    ids=["no validation", "not pretrained", "one label", "nothing unlabeled"],
)
def test_all_corners_work(
    app: Any, label: Path, monkeypatch: pytest.MonkeyPatch, settings: Any, labels: Any, judging: int, compared: bool
) -> None:
    names = app.datastore().list_images()
    count = len(names) if labels == "all" else labels
    outlined(app, label, *names[:count])
    recorded = given(app, monkeypatch)
    result = app.train({**QUICK, **settings})
    assert result["taken"]
    assert result["validation"] == judging
    assert result["unlabeled"] == len(names) - count
    assert ("not compared" in result["reason"]) is not compared
    loads = [item for item in recorded["train#handlers"] if item["_target_"].endswith("ModelCheckpointLoader")]
    assert bool(loads) is settings.get("pretrained", True)


@pytest.mark.parametrize("settings", [{"val_split": 0, "pretrained": False}, {"val_split": 0}])
def test_one_label_and_nothing_else_really_trains(app: Any, label: Path, studies: Path, settings: Any) -> None:
    names = app.datastore().list_images()
    for name in names[1:]:
        app.datastore().remove_image(name)
    outlined(app, label, names[0])
    result = app.train({**QUICK, **settings})
    assert result["taken"]
    assert (result["labeled"], result["validation"], result["unlabeled"]) == (1, 0, 0)
    assert (studies / "model" / MODEL).is_file()


@pytest.mark.parametrize(
    ("before", "after", "taken"), [(0.8, 0.79, False), (0.8, 0.8, True), (0.8, None, False), (None, 0.3, True)]
)
def test_a_model_is_replaced_by_one_that_is_at_least_as_good(
    app: Any, label: Path, monkeypatch: pytest.MonkeyPatch, before: Any, after: Any, taken: bool
) -> None:
    outlined(app, label, *app.datastore().list_images()[:3])
    given(app, monkeypatch)
    app.train(dict(QUICK))  # a first model, so that there is one to lose
    had = files_of(app.model_folder.folder)
    scores = iter([before, after])
    monkeypatch.setattr(lib.train, "dice", lambda *_: next(scores))
    result = app.train(dict(QUICK))
    assert result["taken"] is taken
    assert (result["before"], result["after"]) == (before, after)
    now = files_of(app.model_folder.folder)
    if taken:
        assert now[result["kept"]] == had[MODEL]
    else:
        assert now == had
    history = (app.model_folder.folder / "trainings.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(history[-1])["taken"] is taken


def test_a_training_that_fails_leaves_all_as_it_was(app: Any, label: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outlined(app, label, *app.datastore().list_images()[:2])
    given(app, monkeypatch)
    app.train(dict(QUICK))
    had = files_of(app.model_folder.folder)

    def fail(self: Any, request: Any, overrides: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(lib.train.TrainingTask, "run_single_gpu", fail)
    with pytest.raises(KeyboardInterrupt):
        app.train(dict(QUICK))
    assert files_of(app.model_folder.folder) == had
    assert not (app.model_folder.folder / "trainings").exists()
    assert app.info()["train_stats"][NAME]["state"] == "failed"
    given(app, monkeypatch)
    assert app.train(dict(QUICK))["taken"], "nothing stays locked"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_epochs": 0}, "max_epochs is 0; it must be at least 1"),
        ({"max_epochs": "many"}, "max_epochs must be an integer"),
        ({"max_epochs": None}, "max_epochs must be an integer"),
        ({"max_epochs": 1.5}, "max_epochs must be an integer"),
        ({"max_epochs": 1e99}, "max_epochs is 1e.99; it must be at most 100000"),
        ({"max_epochs": float("inf")}, "max_epochs must be an integer"),
        ({"val_split": [1]}, "val_split is .1.; it must be a number"),
        ({"device": 5}, "there is no device '5'"),
        ({"device": "toaster"}, "there is no device 'toaster'"),
        ({"val_split": 1.0}, "val_split is 1.0"),
        ({"val_split": -1}, "val_split is -1.0"),
        ({"pretrained": "no"}, "pretrained is 'no'; it must be true or false"),
        ({"batch_size": 0}, "batch_size is 0; it must be at least 1"),
        ({"batch_size": 2.5}, "batch_size must be an integer"),
        ({"learning_rate": 0}, "learning_rate is 0; it must be a number above 0 and at most 10"),
        ({"learning_rate": "fast"}, "learning_rate is fast; it must be a number"),
        ({"minutes": -5}, "minutes is -5; it must be a number above 0 and at most 10080"),
        ({"minutes": True}, "minutes is True; it must be a number"),
        ({"minutes": float("nan")}, "minutes is nan; it must be a number"),
        ({"model": "other"}, "there is no 'other'; available: semi_moe"),
        ({}, "no image has a final label yet"),
    ],
)
def test_requests_that_cannot_be_served_are_refused_in_one_sentence(app: Any, settings: Any, message: str) -> None:
    app.server_mode(True)
    with pytest.raises(RefusalError, match=message):
        app.train({**QUICK, **settings})
    app.server_mode(False)  # in a process of its own the last line says why
    with pytest.raises(SystemExit, match=message):
        app.train({**QUICK, **settings})


def test_a_second_training_at_the_same_time_is_refused(app: Any, label: Path) -> None:
    outlined(app, label, app.datastore().list_images()[0])
    app.server_mode(True)
    held = app.model_folder.training()
    with pytest.raises(RefusalError, match="is running; wait, or stop it"):
        app.train(dict(QUICK))
    held.release()


def test_a_process_that_died_is_told_as_stopped(app: Any) -> None:
    app.model_folder.write("training", {"state": "running", "process": 2**22 + 1, "folder": "gone"})
    stats = app.info()["train_stats"][NAME]
    assert stats["state"] == "stopped"
    assert stats["reason"] == "it was stopped; the model is unchanged"


def test_masks_without_a_gland_train_and_are_not_compared(app: Any, label: Path, tmp_path: Path) -> None:
    for name in app.datastore().list_images()[:2]:
        with Image.open(app.datastore().get_image_uri(name)) as image:
            Image.fromarray(np.zeros(image.size[::-1], np.uint8)).save(tmp_path / "empty.png")
        app.datastore().save_label(name, str(tmp_path / "empty.png"), "final", {})
    result = app.train(dict(QUICK))
    assert result["reason"]
    assert result["before"] is None or 0 <= result["before"] <= 1


def test_an_image_that_cannot_be_read_is_left_out_and_the_others_teach(
    app: Any, label: Path, studies: Path, monkeypatch: pytest.MonkeyPatch, declared: Callable[..., bytes]
) -> None:
    names = app.datastore().list_images()
    outlined(app, label, *names[:2])
    (studies / "broken.png").write_bytes(b"no picture")
    declared(studies / "narrow.tif", ImageWidth=0)
    app.datastore().refresh()
    with pytest.raises(RefusalError, match=r"narrow\.tif"):
        app.infer({"model": NAME, "image": "narrow"})
    assert app.next_sample({"strategy": "disagreement"})
    recorded = given(app, monkeypatch)
    assert app.train(dict(QUICK))["unlabeled"] == len(names) - 2
    for name in ("broken", "narrow"):
        assert name not in {Path(record["image"]).stem for record in recorded["train#unlabeled_dataset#data"]}
        assert name not in app._scoring.missing(app.datastore()), "nobody asks about it again and again"


def test_a_label_of_an_unknown_class_that_was_put_there_by_hand_is_refused(app: Any, studies: Path) -> None:
    shapes = [Annotation("Vessel", box(2, 2, 20, 20))]
    write_asap(studies / "labels" / "final" / "square_1.xml", shapes, {"Vessel": (255, 0, 0)}, "square_1")
    app.datastore().refresh()
    app.server_mode(True)
    with pytest.raises(RefusalError, match="the label of square_1 has an outline called 'Vessel'"):
        app.train(dict(QUICK))


def test_who_judged_a_model_that_was_not_taken_and_who_taught_it_may_change_places(
    app: Any, label: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = app.datastore().list_images()
    outlined(app, label, *names[:3])
    given(app, monkeypatch)
    scores = iter([0.9, 0.1])
    monkeypatch.setattr(lib.train, "dice", lambda *_: next(scores))
    assert not app.train(dict(QUICK))["taken"]
    assert set(app.model_folder.read("split").values()) == {"validation"}, "nobody has taught the model that serves"
