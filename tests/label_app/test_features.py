"""Features of tiles and the strategy `diverse`, with a network that is not trained."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("monailabel", reason="MONAI Label is not installed here: make test-label")

from lib.features import FEATURES
from lib.request_errors import RefusalError

from bundle.inference import next_diverse

pytest_plugins = ["tests.label_app.served"]
NAMES = ("oblong_1", "square_1", "square_2", "square_3", "square_4")
DIVERSE, COMPUTE = {"strategy": "diverse"}, {"method": "features"}


@pytest.fixture
def app(make_studies: Callable[..., Path], slide_file: Path, make_app: Callable[..., Any]) -> Any:
    studies = make_studies(*NAMES)
    shutil.copy(slide_file, studies / "slide.tif")
    return make_app(studies)


def label(app: Any, tiles: Mapping[str, tuple[Path, Path]], name: str, folder: Path) -> None:
    shutil.copy(tiles[name][1], folder / "label.png")
    app.datastore().save_label(name, str(folder / "label.png"), "final", {})


def suggest(app: Any) -> dict[str, Any]:
    """Return the next image and record it as suggested, as MONAI Label does."""
    sample = app.next_sample(dict(DIVERSE))
    app.datastore().update_image_info(sample["id"], {"strategy": {"diverse": {"ts": 4102444800}}})
    return sample


def test_the_next_image_represents_most_others(app: Any, tiles: Any, tmp_path: Path) -> None:
    store = app.datastore()
    first = app.next_sample(dict(DIVERSE))
    assert first["id"] in (*NAMES, "slide")
    assert first["note"] == "5 of 6 images are not compared yet; their features are being computed"
    assert app.scoring(dict(COMPUTE)) == {"computed": 5, "left": 0, "failed": {}}
    assert app.scoring(dict(COMPUTE)) == {"computed": 0, "left": 0, "failed": {}}
    known = app._features.known(store)
    assert sorted(known) == sorted(NAMES)
    np.testing.assert_array_equal(known["square_2"], app._features.extractor()({"image": tiles["square_2"][0]}))
    assert len({vector.tobytes() for vector in known.values()}) == 5

    label(app, tiles, "square_1", tmp_path)
    expected = ["square_1"]
    for _ in range(4):
        expected.append(next_diverse(known, expected))
        sample = suggest(app)
        assert (sample["id"], "note" in sample) == (expected[-1], False), "a suggested image counts as represented"
    assert suggest(app)["id"] == "slide", "it has no features"
    for name in NAMES[:1] + NAMES[2:]:
        label(app, tiles, name, tmp_path)
    store.remove_image("slide")
    assert app.next_sample(dict(DIVERSE)) == {}


def test_patients_come_first_and_scores_decide_after_a_training(app: Any, tiles: Any, tmp_path: Path) -> None:
    store = app.datastore()
    app.scoring(dict(COMPUTE))
    known = app._features.known(store)
    label(app, tiles, "square_1", tmp_path)
    patients = {name: "A" if name != "oblong_1" else "B" for name in NAMES}
    for name, patient in patients.items():
        store.update_image_info(name, {"patient": patient})
    assert app.next_sample(dict(DIVERSE))["id"] == next_diverse(known, ["square_1"], patients)
    with pytest.raises(RefusalError, match="patient of square_1 is 5; it must be a text"):
        store.update_image_info("square_1", {"patient": 5})

    app.scoring({"method": "disagreement"})
    names = [name for name in NAMES if name != "square_1"]
    for worst in names:
        scores = {name: float(name == worst) for name in names}
        app.model_folder.write("scores", {"model": app.model_folder.digest(), "scores": scores})
        assert app.next_sample(dict(DIVERSE))["id"] == next_diverse(known, ["square_1"], patients), "nothing is trained"
    app.model_folder.take(app.model_folder.shipped)
    picked = set()
    for worst in names:
        scores = {name: float(name == worst) for name in names}
        app.model_folder.write("scores", {"model": app.model_folder.digest(), "scores": scores})
        expected = next_diverse(known, ["square_1"], patients, scores)
        assert app.next_sample(dict(DIVERSE))["id"] == expected
        picked.add(expected)
    assert len(picked) > 1


def test_only_what_changed_is_computed_again(app: Any, tiles: Any) -> None:
    store, features = app.datastore(), app._features
    folder = Path(store.get_image_uri("square_1")).parent
    (folder / "broken.png").write_bytes(b"no picture")
    store.refresh()
    result = app.scoring({**COMPUTE, "max_samples": 2})
    assert (result["computed"], result["left"]) == (1, 4)
    assert "is not a readable PNG" in result["failed"]["broken"]
    assert (app.scoring(dict(COMPUTE))["computed"], features.missing(store)) == (4, []), "broken is not tried again"
    before = features.known(store)

    shutil.copy(tiles["square_4"][0], folder / "square_1.png")
    store.update_image_info("square_2", {"mpp": 0.5})
    assert features.missing(store) == ["square_1", "square_2"]
    assert sorted(features.known(store)) == ["oblong_1", "square_3", "square_4"], "old features are not used"
    app.scoring(dict(COMPUTE))
    after = features.known(store)
    np.testing.assert_array_equal(after["square_1"], before["square_4"])
    assert not np.array_equal(after["square_2"], before["square_2"]), "other um/px, other features"
    np.testing.assert_array_equal(after["square_3"], before["square_3"])

    store.remove_image("square_3")
    (folder / "model" / FEATURES).write_bytes(b"PK damaged")
    assert features.known(store) == {}
    assert "note" in app.next_sample(dict(DIVERSE))
    assert app.scoring(dict(COMPUTE))["computed"] == 4
    assert features.known(store).keys() == after.keys() - {"square_3"}


def test_one_tile(make_studies: Callable[..., Path], make_app: Callable[..., Any]) -> None:
    app = make_app(make_studies("square_1"))
    app.scoring(dict(COMPUTE))
    for _ in range(2):
        assert suggest(app)["id"] == "square_1"


def test_a_network_without_an_encoder_has_no_such_strategy(
    make_studies: Callable[..., Path], make_app: Callable[..., Any], tiny_bundle: Path, tmp_path: Path
) -> None:
    bundle, path = tmp_path / "bundle", Path("configs") / "inference.json"
    shutil.copytree(tiny_bundle, bundle)
    content = json.loads((bundle / path).read_text(encoding="utf-8"))
    content["network_def"]["_target_"] = "bundle.networks.UNetPlusPlus"
    for name in ("encoder", "output_stride"):
        del content["network_def"][name]
    (bundle / path).write_text(json.dumps(content), encoding="utf-8")
    app = make_app(make_studies("square_1"), bundle)
    assert (list(app.info()["strategies"]), list(app.info()["scoring"])) == (
        ["disagreement", "random", "first"],
        ["disagreement"],
    )
    with pytest.raises(RefusalError, match="there is no 'diverse'; available: disagreement, random, first"):
        app.next_sample(dict(DIVERSE))
