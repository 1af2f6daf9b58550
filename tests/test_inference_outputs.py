"""The overlays of configs/inference: each alone and all together, in any order, as a user runs them."""

from __future__ import annotations

import ast
import json
import re
import shutil
from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from monai.bundle import ConfigParser
from PIL import Image
from shapely.geometry import shape as shape_of

from bundle.inference import StackedHeads, TTAInferer, WatershedInstancesd, disagreement
from bundle.networks import SemiMoE, UNet

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "configs"
WRITES = {
    "probability": ["_probability.tif"],
    "instances": ["_instances.png"],
    "watershed": ["_instances.png"],
    "contours": ["_contours.png"],
    "geojson": [".geojson"],
    "disagreement": ["_disagreement.tif", "_doubt.png"],
    "tta": [],
}
"""What each overlay writes beside NAME_mask.png."""
STEMS = ("plain", "alpha", "deep", "point")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rectangular tiles of dark disks on a light background in three formats, and one of a single pixel"""
    folder = tmp_path_factory.mktemp("pictures")
    rows, columns = np.mgrid[:48, :70]
    dark = ((rows - 20) ** 2 + (columns - 22) ** 2 < 170) | ((rows - 26) ** 2 + (columns - 50) ** 2 < 150)
    pixels = np.where(dark[..., None], (90, 40, 120), (235, 190, 215)).astype(np.uint8)
    Image.fromarray(pixels).save(folder / "plain.png")
    Image.fromarray(np.dstack([pixels, np.full(dark.shape, 255, np.uint8)])).save(folder / "alpha.png")
    tifffile.imwrite(folder / "deep.tif", pixels.astype(np.uint16) * 257, photometric="rgb")
    Image.fromarray(np.full((1, 1, 3), 200, np.uint8)).save(folder / "point.png")
    return folder


def settings_for(pictures: Path, folder: Path) -> dict[str, Any]:
    """Return overrides for a tiny network with weights in the folder, and glands small enough for the tiles."""
    torch.manual_seed(5)
    (folder / "models").mkdir()
    torch.save(SemiMoE(widths=(4, 8, 8, 8, 8)).state_dict(), folder / "models" / "model.pt")
    return {
        "bundle_root": str(ROOT),
        "dataset_dir": str(pictures),
        "output_dir": str(folder / "results"),
        "ckpt_dir": str(folder / "models"),
        "device": "$torch.device('cpu')",
        "amp": False,
        "num_workers": 0,
        "network_def#widths": [4, 8, 8, 8, 8],
        "crop_size": [32, 32],
        "glands#min_area": 5,
    }


@pytest.fixture
def settings(pictures: Path, tmp_path: Path) -> dict[str, Any]:
    """These overrides for one test."""
    return settings_for(pictures, tmp_path)


def parsed(names: list[str], settings: dict[str, Any]) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config(
        [str(CONFIGS / "inference.json"), *(str(CONFIGS / "inference" / f"{name}.yaml") for name in names)]
    )
    parser.update(settings)
    return parser


def inferred(names: list[str], settings: dict[str, Any]) -> Path:
    """Run an inference with these overlays in this process, and return the folder of its results."""
    parsed(names, settings).get_parsed_content("evaluator").run()
    return Path(settings["output_dir"])


def log_of(folder: Path) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """Return the settings in the inference log, and the files of each picture."""
    lines = [json.loads(line) for line in (folder / "journal_0.jsonl").read_text().splitlines()]
    return lines[0]["settings"], {Path(line["image"]).stem: line["files"] for line in lines if "image" in line}


@pytest.fixture(scope="module")
def plain_masks(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """Masks of the tiles by an inference without overlay."""
    folder = tmp_path_factory.mktemp("plain")
    inferred([], settings_for(pictures, folder))
    masks = {stem: np.asarray(Image.open(folder / "results" / f"{stem}_mask.png")) for stem in STEMS}
    assert 0 < np.mean(masks["plain"] > 0) < 1, "a mask of one class shows nothing"
    return masks


def expected(names: list[str]) -> set[str]:
    return {"_mask.png", *(ending for name in names for ending in WRITES[name])}


def test_every_overlay_that_writes_beside_the_mask_is_tested_here():
    overlays = {path.stem: path.read_text(encoding="utf-8") for path in (CONFIGS / "inference").glob("*.yaml")}
    assert set(WRITES) <= set(overlays)
    assert {name for name, text in overlays.items() if "\n+outputs:" in text} <= set(WRITES)


@pytest.mark.parametrize("name", list(WRITES))
def test_the_command_in_the_header_names_the_overlay(name):
    header = re.sub(r"\\?\n# *", " ", (CONFIGS / "inference" / f"{name}.yaml").read_text())
    command = re.search(r"run inference +--config_file \"(\[.*?\])\"", header)
    assert command is not None
    assert ast.literal_eval(command[1]) == ["configs/inference.json", f"configs/inference/{name}.yaml"]


@pytest.mark.parametrize("name", list(WRITES))
def test_each_alone_writes_its_files_and_leaves_the_mask(name, settings, plain_masks):
    folder = inferred([name], settings | ({"tta_views": 2} if name == "tta" else {}))
    _, files = log_of(folder)
    assert set(files) == set(STEMS)
    for stem, written in files.items():
        assert sorted(written) == sorted(stem + ending for ending in expected([name]))
        assert all((folder / file).is_file() for file in written)
        if name != "tta":
            assert np.array_equal(np.asarray(Image.open(folder / f"{stem}_mask.png")), plain_masks[stem])
    left = {path.name for path in folder.iterdir()} - {file for written in files.values() for file in written}
    assert left == {"journal_0.jsonl", "summary.json"}


def test_all_together_in_any_order_write_the_same(settings, tmp_path):
    """The written files do not depend on the order of the overlays."""
    orders = [
        list(WRITES),
        list(reversed(WRITES)),
        ["disagreement", "watershed", *(set(WRITES) - {"disagreement", "watershed"})],
    ]
    folders = []
    for number, names in enumerate(orders):
        folders.append(inferred(names, {**settings, "tta_views": 2, "output_dir": str(tmp_path / str(number))}))
        _, files = log_of(folders[-1])
        for stem, written in files.items():
            assert sorted(written) == sorted(stem + ending for ending in expected(names)), "each once"
    first, *others = folders
    for file in first.iterdir():
        for other in others:
            if file.suffix not in (".jsonl", ".json"):
                assert file.read_bytes() == (other / file.name).read_bytes(), file.name


def test_heads_are_asked_once_whoever_needs_them(settings):
    for names in permutations(["watershed", "disagreement", "contours"]):
        parser = parsed(list(names), settings)
        output = parser.get_parsed_content("evaluated_network")
        assert isinstance(output, StackedHeads)
        assert output.network is parser.get_parsed_content("network")
        assert next(iter(output.shown)) == "fused_seg"
        assert set(output.shown) == {"fused_seg", "seg", "sdf", "fused_sdf", "fused_boundary"}
        (unstacked,) = parser.get_parsed_content("unstacked")
        assert ["fused_seg", *list(unstacked.parts)[1:]] == list(output.shown), "channels in one order"
        assert isinstance(parser.get_parsed_content("glands"), WatershedInstancesd)
    assert set(parsed(["watershed"], settings).get_parsed_content("evaluated_network").shown) == {
        *("fused_seg", "fused_sdf", "fused_boundary")
    }


def test_what_is_written_shows_the_mask(settings):
    changes = {**settings, "mpp": 1.0, "simplify": 0.0, "class_colors": [[0, 255, 0]]}
    folder = inferred(["probability", "instances", "geojson", "contours"], changes)
    for stem in ("plain", "alpha", "deep"):
        mask = np.asarray(Image.open(folder / f"{stem}_mask.png")) > 0
        assert mask.shape == (48, 70)
        assert 0 < mask.mean() < 1, "a mask of one class shows nothing"
        probability = tifffile.imread(folder / f"{stem}_probability.tif")
        assert np.array_equal(probability > 0.5, mask)
        instances = np.asarray(Image.open(folder / f"{stem}_instances.png"))
        assert (instances > 0).sum() > 0
        assert mask[instances > 0].all()
        glands = json.loads((folder / f"{stem}.geojson").read_text())["features"]
        assert len(glands) == instances.max()
        for number, gland in enumerate(glands, start=1):
            outline = shape_of(gland["geometry"])
            assert outline.is_valid
            assert outline.area == (instances == number).sum() >= 5
            inside = instances == number
            values = gland["properties"]["measurements"]
            assert values["Mean probability"] == pytest.approx(probability[inside].mean(), abs=1e-5)
            assert values["Area um^2"] == values["Area px^2"] == inside.sum()
            columns, rows = inside.any(axis=0).nonzero()[0], inside.any(axis=1).nonzero()[0]
            assert outline.bounds == (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        shown = np.asarray(Image.open(folder / f"{stem}_contours.png"))
        green = (shown == (0, 255, 0)).all(axis=-1)
        assert green.any()
        with Image.open(Path(settings["dataset_dir"]) / "plain.png") as picture:
            assert np.array_equal(shown[~green], np.asarray(picture)[~green]), (
                "the picture itself, not the network's input"
            )


def test_pictures_of_another_resolution_are_shown_at_their_own_size(settings):
    folder = inferred(list(WRITES), {**settings, "mpp": 0.5, "tta_views": 2})
    for file in folder.glob("plain*"):
        if file.suffix in (".png", ".tif"):
            picture = tifffile.imread(file) if file.suffix == ".tif" else np.asarray(Image.open(file))
            assert picture.shape[:2] == (48, 70), file.name
    with tifffile.TiffFile(folder / "plain_disagreement.tif") as tiff:
        assert tiff.pages[0].tags["XResolution"].value == (20000, 1)
        assert 0 <= tiff.asarray().min() < tiff.asarray().max() <= 1


def test_areas_are_in_um_where_the_data_list_tells_the_size_of_a_pixel(settings, pictures, tmp_path):
    for stem in ("plain", "alpha"):
        shutil.copy(pictures / f"{stem}.png", tmp_path)
        Image.fromarray(np.ones((48, 70), np.uint8)).save(tmp_path / f"{stem}_label.png")  # a list's test part has one
    entries = [
        {"image": "plain.png", "label": "plain_label.png", "mpp": 2.0},
        {"image": "alpha.png", "label": "alpha_label.png"},
    ]
    (tmp_path / "list.json").write_text(json.dumps({"test": entries}))
    changes = {**settings, "dataset_dir": str(tmp_path), "data_list": "list.json", "pixel_size": 2.0}
    folder = inferred(["geojson", "probability"], changes)
    for stem, known in (("plain", True), ("alpha", False)):
        glands = json.loads((folder / f"{stem}.geojson").read_text())["features"]
        assert glands
        for gland in glands:
            values = gland["properties"]["measurements"]
            assert values.get("Area um^2") == (values["Area px^2"] * 4 if known else None)
        with tifffile.TiffFile(folder / f"{stem}_probability.tif") as tiff:
            assert tiff.pages[0].tags["ResolutionUnit"].value == (3 if known else 1), "centimeters or none"


def test_disagreement_is_that_of_the_network_whatever_else_is_asked(settings):
    names = ["watershed", "disagreement"]
    changes = {**settings, "crop_size": [70, 48]}  # one window: what the network itself answers
    folder = inferred(names, changes)
    parser = parsed(names, {**changes, "overwrite": True})
    network = parser.get_parsed_content("network").eval()
    network.load_state_dict(torch.load(Path(settings["ckpt_dir"]) / "model.pt", weights_only=True))
    for picture in parser.get_parsed_content("dataset"):
        if (stem := Path(picture["image"].meta["filename_or_obj"]).stem) != "point":
            with torch.no_grad():
                result = disagreement(network.heads(picture["image"][None].as_tensor()))[0, 0].T
            shown = tifffile.imread(folder / f"{stem}_disagreement.tif")
            np.testing.assert_allclose(shown, result.numpy(), atol=1e-5)


def test_three_classes_have_names_and_colors(settings):
    torch.save(SemiMoE(widths=(4, 8, 8, 8, 8), out_channels=3).state_dict(), Path(settings["ckpt_dir"]) / "model.pt")
    changes = {**settings, "classes": 3, "class_names": ["benign", "malignant"], "network_def#out_channels": 3}
    folder = inferred([name for name in WRITES if name != "tta"], changes)
    with tifffile.TiffFile(folder / "plain_probability.tif") as tiff:
        assert [page.description for page in tiff.pages] == [
            f"probability of {name}, from 0 to 1" for name in ("benign", "malignant")
        ]
    names = {
        gland["properties"]["classification"]["name"]
        for stem in ("plain", "alpha", "deep")
        for gland in json.loads((folder / f"{stem}.geojson").read_text())["features"]
    }
    assert names
    assert names <= {"benign", "malignant"}
    default = parsed(["geojson"], {**settings, "classes": 3})
    assert default.get_parsed_content("class_names") == ["Class 1", "Class 2"]
    assert len(default.get_parsed_content("class_colors")) == 2


def test_turns_wrap_the_inferer_of_the_config_and_are_logged(settings):
    parser = parsed(["tta"], settings)
    evaluator = parser.get_parsed_content("evaluator")
    assert isinstance(evaluator.inferer, TTAInferer)
    assert evaluator.inferer.inferer is parser.get_parsed_content("inferer")
    assert (evaluator.inferer.roi_size, evaluator.inferer.overlap) == ([32, 32], 0.5)
    folder = inferred(["tta"], {**settings, "tta_views": 2})
    assert log_of(folder)[0]["tta_views"] == 2
    with pytest.raises(RuntimeError) as caught:
        inferred(["tta"], {**settings, "tta_views": 4})
    assert "holds results of another inference (different tta_views)" in "".join(map(str, chain_of(caught.value)))


def test_other_areas_are_another_inference_and_another_order_is_not(settings):
    inferred(["instances", "contours"], settings)
    assert len(parsed(["contours", "instances"], settings).get_parsed_content("dataset")) == 0, "all is done"
    with pytest.raises(RuntimeError) as caught:
        inferred(["instances", "contours"], {**settings, "glands#min_area": 50})
    assert "holds results of another inference (different outputs)" in "".join(map(str, chain_of(caught.value)))


def chain_of(error: BaseException | None) -> list[BaseException]:
    """Return an error and the errors that caused it."""
    return [] if error is None else [error, *chain_of(error.__cause__ or error.__context__)]


@pytest.mark.parametrize(("name", "head"), [("disagreement", "sdf"), ("watershed", "fused_sdf")])
def test_a_network_without_the_heads_is_told_so(settings, name, head):
    torch.save(UNet(widths=(4, 8, 8, 8, 8)).state_dict(), Path(settings["ckpt_dir"]) / "model.pt")
    changes = {**settings, "network_def": {"_target_": "bundle.networks.UNet", "widths": [4, 8, 8, 8, 8]}}
    with pytest.raises(ValueError, match=rf"UNet has no head .*'{head}'.*only \['seg'\]"):
        inferred([name], changes)


@pytest.mark.parametrize("value", [float("nan"), 1e30])
def test_outputs_that_are_no_numbers_do_not_become_empty_masks(value, settings):
    file = Path(settings["ckpt_dir"]) / "model.pt"
    weights = torch.load(file, weights_only=True)
    torch.save(
        {name: torch.full_like(item, value) for name, item in weights.items() if item.ndim}
        | {name: item for name, item in weights.items() if not item.ndim},
        file,
    )
    with pytest.raises(ValueError, match=r"training diverged: use other weights, or train"):
        inferred(["geojson"], settings)
    assert not list(Path(settings["output_dir"]).glob("*.png"))
    assert not list(Path(settings["output_dir"]).glob("*.geojson"))


def test_a_file_that_is_gone_is_written_again(settings):
    folder = inferred(["geojson", "probability"], settings)
    stood = {file.name: file.stat().st_mtime_ns for file in folder.glob("deep*")}
    (folder / "plain.geojson").unlink()
    inferred(["geojson", "probability"], settings)
    assert (folder / "plain.geojson").is_file()
    assert {file.name: file.stat().st_mtime_ns for file in folder.glob("deep*")} == stood


@pytest.mark.parametrize(
    ("names", "file"),
    [([], "plain_mask.png"), (["geojson"], "plain.geojson"), (["instances"], "deep_instances.tif")],
)
def test_no_file_of_somebody_is_replaced(names, file, settings, tmp_path):
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / file).write_text("drawn by hand")
    with pytest.raises(RuntimeError) as caught:
        inferred(names, settings)
    output = "".join(map(str, chain_of(caught.value)))
    assert f"{folder / file} would be replaced, but it was not written by an inference; give another" in output
    assert [path.name for path in folder.iterdir()] == [file]
    assert (folder / file).read_text() == "drawn by hand"
    inferred(names, settings | {"overwrite": True})
    assert (folder / "plain_mask.png").stat().st_size > len("drawn by hand")


@pytest.mark.parametrize(("layout", "mask"), [("ome", "a_mask.ome.tif"), ("plain", "a_mask.tif"), ("none", None)])
def test_the_files_of_slides_are_known_before_they_are_written(layout, mask, settings, tmp_path):
    (tmp_path / "a.svs").write_text("a slide")
    changes = settings | {"dataset_dir": str(tmp_path), "mask_layout": layout}
    (tmp_path / "results").mkdir()
    for name in ["a.geojson", *([mask] if mask else [])]:
        (tmp_path / "results" / name).write_text("drawn by hand")
        with pytest.raises(RuntimeError) as caught:
            parsed(["slides"], changes).get_parsed_content("evaluator#val_data_loader")
        assert f"{name} would be replaced" in "".join(map(str, chain_of(caught.value)))
        (tmp_path / "results" / name).unlink()
    assert len(parsed(["slides"], changes).get_parsed_content("evaluator#val_data_loader")) == 1


def test_it_runs_from_the_command_line(copy_bundle: Callable, settings, tmp_path):
    bundle_copy = copy_bundle("with_outputs", data=False)
    shutil.copytree(settings["ckpt_dir"], bundle_copy.root / "models")
    bundle_copy.edit("inference.json", {"network_def#widths": [4, 8, 8, 8, 8], "crop_size": [32, 32]})
    files = bundle_copy.configs("inference.json", "inference/geojson.yaml", "inference/disagreement.yaml")
    arguments = [
        "--bundle_root",
        str(bundle_copy.root),
        "--dataset_dir",
        settings["dataset_dir"],
        "--glands#min_area",
        "5",
    ]
    completed = bundle_copy.run("run", "inference", "--config_file", files, *arguments, cwd=tmp_path)
    assert "Can't merge entry" not in completed.stderr
    _, written = log_of(bundle_copy.root / "output" / "inference")
    assert all(len(names) == 4 for names in written.values())
