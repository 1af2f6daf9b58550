"""The app in this process: predictions in all formats, labels, next images, and trainings."""

from __future__ import annotations

import io
import json
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import monai.bundle
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

pytest.importorskip("monailabel", reason="MONAI Label is not installed: make test-label")

from lib.annotation import draw_instances, read_annotations

# MONAI Label 0.8.5 reads the region of a request by pydantic's old name (endpoints/wsi_infer.py).
pytestmark = pytest.mark.filterwarnings("ignore:The `parse_obj` method is deprecated:DeprecationWarning")

MODEL = "semi_moe"
INFER = f"/infer/{MODEL}"
NAMES = ("oblong_1", "square_1")
Tiles = Mapping[str, tuple[Path, Path]]


@pytest.fixture(scope="module")
def studies(make_studies: Callable[..., Path]) -> Path:
    return make_studies("oblong_1", "square_1", "square_2", "square_3")


@pytest.fixture(scope="module")
def client(studies: Path, repository_root: Path) -> Iterator[Any]:
    """The server in this process, with the shipped model."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Using `httpx` with `starlette.testclient` is deprecated")
        from fastapi.testclient import TestClient
    from monailabel.config import settings
    from monailabel.interfaces.utils.app import app_instance, clear_cache

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MONAI_LABEL_RELOAD_APP_LIB", "false")  # other tests of this process hold `lib`
        patch.setattr(settings, "MONAI_LABEL_APP_DIR", str(repository_root / "scripts" / "label_app"))
        patch.setattr(settings, "MONAI_LABEL_STUDIES", str(studies))
        patch.setattr(settings, "MONAI_LABEL_APP_CONF", {})
        patch.setattr(settings, "MONAI_LABEL_AUTO_UPDATE_SCORING", False)  # it would start processes
        patch.setattr(settings, "MONAI_LABEL_DATASTORE_AUTO_RELOAD", False)
        from lib.server import app

        with TestClient(app, "http://localhost", raise_server_exceptions=False) as client:
            client.app_instance = app_instance()
            yield client
        clear_cache()


@pytest.fixture(scope="module")
def bundle_masks(
    studies: Path, repository_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, np.ndarray]:
    """Masks (H, W) of the bundle's own inference."""
    output, path = tmp_path_factory.mktemp("inference"), list(sys.path)
    monai.bundle.run(
        "inference",
        config_file=str(repository_root / "configs" / "inference.json"),
        bundle_root=str(repository_root),
        dataset_dir=str(studies),
        output_dir=str(output),
        device="$torch.device('cpu')",
    )
    sys.path[:] = path
    return {name: np.asarray(Image.open(output / f"{name}_mask.png")) for name in NAMES}


def tile(tiles: Tiles, name: str = NAMES[0]) -> Path:
    return tiles[name][0]


@pytest.fixture(scope="module")
def slide(client: Any, tiles: Tiles, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Name of a slide in the folder: a pyramid of copies of a tile side by side, at 1 um/px, 192 px wide or more."""
    pixels = np.tile(np.asarray(Image.open(tile(tiles)).convert("RGB")), (4, 2, 1))
    path = tmp_path_factory.mktemp("slide") / "slide.tif"
    with tifffile.TiffWriter(path) as writer:
        shared: dict[str, Any] = {"tile": (64, 64), "photometric": "rgb", "resolutionunit": "CENTIMETER"}
        writer.write(pixels, resolution=(10000, 10000), **shared)
        writer.write(pixels[::2, ::2], resolution=(5000, 5000), subfiletype=1, **shared)
    sent = client.put("/datastore/image?image=slide", files={"file": ("slide.tif", path.read_bytes())})
    assert sent.status_code == 200, sent.text
    return "slide"


def names_of(client: Any) -> list[str]:
    return sorted(client.get("/datastore/?output=all").json()["objects"])


def picture_of(response: Any) -> np.ndarray:
    assert response.status_code == 200, response.text
    return np.asarray(Image.open(io.BytesIO(response.content)))


def answered(client: Any, name: str, form: str, **body: Any) -> Any:
    response = client.post(f"/infer/wsi_v2/{MODEL}?image={name}&output={form}", data={"wsi": json.dumps(body)})
    assert response.status_code == 200, response.text
    return response


def drawn(path: Path, size: tuple[int, int]) -> np.ndarray:
    return draw_instances(read_annotations(path), size) > 0


def test_info_names_one_model_its_class_the_strategies_and_the_scoring(client: Any) -> None:
    info = client.get("/info/").json()
    assert info["labels"] == ["Gland"]
    assert info["models"][MODEL]["config"]["model_filename"] == ["model.pt"]
    assert list(info["strategies"]) == ["disagreement", "diverse", "random", "first"]
    assert info["trainers"][MODEL]["config"]["val_split"] == 0.2
    assert "scores" in info["scoring"]["disagreement"]


def test_the_mask_is_that_of_the_bundle_upright_in_every_format_of_picture(
    client: Any, bundle_masks: dict[str, np.ndarray], tiles: Tiles
) -> None:
    for name, mask in bundle_masks.items():
        response = picture_of(client.post(f"{INFER}?image={name}&output=image"))
        assert response.dtype == np.uint8
        assert set(np.unique(response)) <= {0, 1}
        np.testing.assert_array_equal(response > 0, mask > 0)
        assert 0.02 < (mask > 0).mean() < 0.98, "this network says nothing; the comparison would hold for any turn"
        side = min(mask.shape)
        assert not np.array_equal(mask[:side, :side].T, mask[:side, :side])
    name, mask = next(iter(bundle_masks.items()))
    image = Image.open(tile(tiles, name)).convert("RGB")
    for ending, changed in ((".png", image.convert("RGBA")), (".tif", image), (".bmp", image)):
        data = io.BytesIO()
        changed.save(data, {".png": "PNG", ".tif": "TIFF", ".bmp": "BMP"}[ending])
        sent = client.post(f"{INFER}?output=image", files={"file": (f"upload{ending}", data.getvalue())})
        np.testing.assert_array_equal(picture_of(sent) > 0, mask > 0)


def test_outlines_are_those_of_the_mask_in_the_format_of_each_viewer(
    client: Any, bundle_masks: dict[str, np.ndarray], tmp_path: Path
) -> None:
    name, mask = next(iter(bundle_masks.items()))
    height, width = mask.shape
    for form, ending in (("asap", ".xml"), ("dsa", ".json")):
        path = tmp_path / f"answer{ending}"
        path.write_bytes(answered(client, name, form, size=[0, 0], min_poly_area=0).content)
        assert (drawn(path, (width, height)) == (mask > 0)).mean() > 0.97  # outlines are smoothed by half a pixel
        assert {annotation.name for annotation in read_annotations(path)} == {"Gland"}
    plain = answered(client, name, "json", size=[0, 0], min_poly_area=0).json()
    (element,) = plain["annotations"][0]["annotation"]["elements"]
    assert element["label"] == "Gland"
    assert all(0 <= x <= width and 0 <= y <= height for contour in element["contours"] for x, y in contour)
    sent = client.post(f"{INFER}?image={name}&output=image", data={"params": json.dumps({"output": "geojson"})})
    assert sent.status_code == 200, sent.text
    features = sent.json()["features"]
    assert {feature["properties"]["classification"]["name"] for feature in features} == {"Gland"}


def test_small_outlines_are_left_out_as_asked(client: Any, bundle_masks: dict[str, np.ndarray]) -> None:
    name = next(iter(bundle_masks))
    counts = [
        len(answered(client, name, "dsa", size=[0, 0], min_poly_area=area).json()["elements"]) for area in (0, 10**6)
    ]
    assert counts[0] > 0
    assert counts[1] == 0


def test_cvat_gets_contours_for_a_jpeg_and_the_mask_of_a_jpeg_loses_nothing(client: Any, tiles: Tiles) -> None:
    image = Image.open(tile(tiles)).convert("RGB")
    data = io.BytesIO()
    image.save(data, "JPEG", quality=95)
    files = {"file": ("frame.jpg", data.getvalue())}
    sent = client.post(f"{INFER}?output=json", files=files, data={"params": json.dumps({"output": "json"})})
    assert "elements" in sent.json()["annotations"][0]["annotation"]
    mask = client.post(f"{INFER}?output=image", files=files)
    assert mask.headers["content-type"] == "image/png"
    assert set(np.unique(picture_of(mask))) <= {0, 1}


@pytest.mark.parametrize("form", ["asap", "dsa"])
def test_a_region_of_a_slide_is_answered_in_px_of_the_slide(client: Any, slide: str, tmp_path: Path, form: str) -> None:
    whole, region = tmp_path / "whole.xml", tmp_path / "region.xml"
    whole.write_bytes(answered(client, "slide", form, size=[0, 0], min_poly_area=0).content)
    box = (40, 30, 90, 60)
    region.write_bytes(
        answered(client, "slide", form, location=[40, 30], size=[90, 60], min_poly_area=0, tile_size=[32, 32]).content
    )
    bounds = np.array([annotation.shape.bounds for annotation in read_annotations(region)])
    assert len(bounds)
    assert bounds[:, :2].min(axis=0).tolist() >= [40, 30]
    assert (bounds[:, 2:].max(axis=0) <= (130, 90)).all()
    size = (224, 256)
    part = np.s_[box[1] : box[1] + box[3], box[0] : box[0] + box[2]]
    assert (drawn(whole, size)[part] == drawn(region, size)[part]).mean() > 0.95


def test_regions_outside_of_a_slide_and_sizes_that_are_none_are_refused(client: Any, slide: str) -> None:
    for body in ({"location": [9999, 0], "size": [10, 10]}, {"location": [0], "size": [10, 10]}):
        sent = client.post(f"/infer/wsi/{MODEL}?image=slide&output=asap", json=body)
        assert sent.status_code == 400
        assert "slide" in sent.json()["detail"]


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        (f"{INFER}?image=nothing", 404, "there is no image 'nothing'"),
        (f"{INFER}?image=/etc/passwd", 404, "there is no image"),
        (f"{INFER}?image=../../models/model.pt", 404, "there is no image"),
        ("/infer/other?image=NAME", 404, "there is no 'other'; available: semi_moe"),
    ],
)
def test_what_is_not_there_is_said_and_no_file_of_the_machine_is_read(
    client: Any, path: str, status: int, message: str
) -> None:
    sent = client.post(path.replace("NAME", names_of(client)[0]))
    assert sent.status_code == status
    assert message in sent.json()["detail"]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ("{", "the parameters are not valid JSON"),
        ('{"output": "nrrd"}', "there is no output 'nrrd'"),
        ('{"model_filename": "../../secret.pt"}', "there is no model"),
        ('{"result_extension": ".jpg"}', "a mask cannot be written as '.jpg'"),
        ('{"mpp": -1}', "mpp is -1; it must be from 0.01 to 100"),
    ],
)
def test_parameters_that_are_wrong_are_refused(client: Any, params: str, message: str) -> None:
    sent = client.post(f"{INFER}?image={names_of(client)[0]}&output=image", data={"params": params})
    assert 400 <= sent.status_code < 500
    assert message in sent.json()["detail"]


def test_uploads_that_are_no_picture_get_a_4xx_and_the_server_lives(client: Any, tiles: Tiles) -> None:
    whole = tile(tiles).read_bytes()
    for name, data in (("a.png", b"no picture"), ("a.png", whole[: len(whole) // 2]), ("a.exe", whole), ("a.png", b"")):
        for sent in (
            client.post(f"{INFER}?output=image", files={"file": (name, data)}),
            client.put("/datastore/image?image=bad", files={"file": (name, data)}),
        ):
            assert 400 <= sent.status_code < 500, sent.text
            assert sent.json()["detail"]
    assert "bad" not in names_of(client)
    assert client.get("/info/").status_code == 200


def test_strategies_lead_to_images_without_a_label_and_scores_stand_in_info(client: Any, tiles: Tiles) -> None:
    assert client.post("/scoring/disagreement?run_sync=true").status_code == 200
    scores = client.get("/info/").json()["scoring"]["disagreement"]["scores"]
    free = [name for name in names_of(client) if name != "slide"]
    assert sorted(scores) == free
    assert list(scores.values()) == sorted(scores.values(), reverse=True)
    assert all(0 <= value <= 1 for value in scores.values())
    assert client.post("/activelearning/disagreement", json={}).json()["id"] == next(iter(scores))
    assert client.post("/activelearning/disagreement", json={}).json()["id"] == list(scores)[1], "the first was served"
    assert client.post("/activelearning/first", json={}).json()["id"] == min(names_of(client))
    assert client.post("/activelearning/random", json={}).json()["id"] in names_of(client)
    assert client.post("/activelearning/wise", json={}).status_code == 404


def test_a_slide_leads_to_a_region_that_lies_on_it(client: Any, slide: str) -> None:
    for strategy in ("disagreement", "diverse", "random", "first"):
        body = {"image": "slide", "patch_size": [64, 32], "image_size": [224, 256]}
        x, y, width, height = client.post(f"/activelearning/{strategy}", json=body).json()["bbox"]
        assert (width, height) == (64, 32)
        assert 0 <= x <= 224 - 64
        assert 0 <= y <= 256 - 32


def test_an_image_is_removed_by_moving_it_and_the_next_request_knows(client: Any, studies: Path, tiles: Tiles) -> None:
    shutil.copy(tile(tiles), studies / "spare.png")
    client.app_instance.datastore().refresh()
    assert "spare" in names_of(client)
    assert client.delete("/datastore/image?id=spare").status_code == 200
    assert "spare" not in names_of(client)
    assert list((studies / "history" / "images").glob("spare_*.png"))
    assert client.delete("/datastore/image?id=spare").status_code == 404


def test_many_images_are_answered_and_one_that_fails_is_named(client: Any, studies: Path, slide: str) -> None:
    (studies / "broken.png").write_bytes(b"no picture")
    store = client.app_instance.datastore()
    store.refresh()
    try:
        response = client.post(f"/batch/infer/{MODEL}?run_sync=true")
    finally:
        store.remove_image("broken")
    assert response.status_code == 200, response.text
    result = response.json()
    assert "is not a readable PNG, JPEG, BMP or TIFF" in result.pop("broken")["failed"]
    assert set(result) == set(names_of(client))
    labels = studies / "labels" / "original"
    assert {path.name for path in labels.iterdir()} == {f"{name}.png" for name in result if name != slide} | {
        "slide.xml"
    }


def test_a_model_that_is_moved_away_or_uploaded_never_touches_that_of_the_bundle(
    client: Any, studies: Path, repository_root: Path
) -> None:
    shipped = repository_root / "models" / "model.pt"
    before = shipped.read_bytes()
    assert client.get(f"/model/{MODEL}").content == before
    assert client.delete(f"/model/{MODEL}").status_code == 200
    assert shipped.read_bytes() == before
    first = names_of(client)[0]
    assert client.post(f"{INFER}?image={first}&output=image").status_code == 200, "that of the bundle serves again"
    assert client.put(f"/model/{MODEL}", files={"file": ("model.pt", before)}).status_code == 200
    broken = client.put(f"/model/{MODEL}", files={"file": ("model.pt", b"no weights")})
    assert broken.status_code == 422
    assert "cannot be read as weights" in broken.json()["detail"]
    diverged = io.BytesIO()
    weights = torch.load(shipped, weights_only=True)
    torch.save(
        {name: value.float() * 1e20 if value.is_floating_point() else value for name, value in weights.items()},
        diverged,
    )
    assert client.put(f"/model/{MODEL}", files={"file": ("model.pt", diverged.getvalue())}).status_code == 200
    response = client.post(f"{INFER}?image={first}&output=image")
    assert response.status_code == 422, "its outputs are no numbers, and no empty mask"
    assert "its training diverged" in response.json()["detail"]
    client.put(f"/model/{MODEL}", files={"file": ("model.pt", before)})
    repeated = client.put(f"/model/{MODEL}", files={"file": ("model.pt", before)}).json()
    assert (studies / "model" / repeated["kept"]).read_bytes() == before, "what was there is kept"
    assert client.post(f"{INFER}?image={first}&output=image").status_code == 200
    assert client.delete(f"/model/{MODEL}").status_code == 200
    assert shipped.read_bytes() == before
