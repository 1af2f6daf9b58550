"""Outputs beside the mask, on hand-made scores: their content, and that they are written atomically."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from monai.data import MetaTensor
from PIL import Image
from shapely.geometry import shape as shape_of

from bundle.data import PictureReader
from bundle.inference import (
    ComponentInstancesd,
    Disagreementd,
    SaveContoursd,
    SaveDisagreementd,
    SaveGeoJSONd,
    SaveInstancesd,
    SaveProbabilityd,
    SaveUncertaintyd,
    consensus_entropy,
)

GREEN, YELLOW = (0, 255, 0), (255, 255, 0)
SURE = 4.0
"""Logit of a gland relative to background in the records below; its probability is 0.982."""


def plane(*rows: str) -> np.ndarray:
    """Return the classes (H, W) of a drawing: `.` background, digits classes."""
    return np.array([[0 if mark == "." else int(mark) for mark in row] for row in rows])


def record_of(classes: np.ndarray, folder: Path, count: int = 2, meta: dict[str, Any] | None = None) -> dict[Any, Any]:
    """Write a picture and return its record after inference, with certain predictions of the classes (H, W)."""
    folder.mkdir(exist_ok=True)
    path = folder / "tile.one.png"
    height, width = classes.shape
    Image.fromarray(np.full((height, width, 3), 200, np.uint8)).save(path)
    scores = SURE * np.stack([classes == number for number in range(count)]).astype(np.float32)
    return {
        "pred": MetaTensor(scores.swapaxes(1, 2).copy()),
        "image": MetaTensor(torch.zeros(3, width, height), meta={"filename_or_obj": str(path), **(meta or {})}),
    }


def reading(**settings: Any) -> ComponentInstancesd:
    return ComponentInstancesd(keys="pred", target_key="glands", **settings)


def outputs(folder: Path, names: tuple[str, ...] = ("gland",), **settings: Any) -> dict[str, Any]:
    """Return all outputs by the suffix of their file names, as the overlays create them."""
    glands, reader = reading(**settings), PictureReader()
    colors = [GREEN, YELLOW]
    return {
        "probability.tif": SaveProbabilityd(folder, names),
        "instances.png": SaveInstancesd(folder, glands),
        "contours.png": SaveContoursd(folder, glands, reader, colors),
        "geojson": SaveGeoJSONd(folder, glands, names, colors, simplify=0.0),
        "disagreement.tif": SaveDisagreementd(folder),
        "doubt.png": SaveUncertaintyd(folder, reader, (255, 0, 0)),
    }


def doubted(record: dict[Any, Any]) -> dict[Any, Any]:
    """Return the record with a map of disagreement that rises from left to right."""
    _, width, height = record["pred"].shape
    return {**record, "disagreement": torch.linspace(0, 1, width)[None, :, None].expand(1, width, height)}


def features(path: Path) -> list[dict[str, Any]]:
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["type"] == "FeatureCollection"
    return content["features"]


# What each file holds

TWO = plane(
    "11....",
    "11..11",
    "....11",
    "....11",
)


def test_probability_is_that_of_a_gland(tmp_path):
    record = record_of(TWO, tmp_path / "in")
    before = record["pred"].clone()
    result = SaveProbabilityd(tmp_path / "out", ["gland"], mpp=0.5)(record)
    file = tmp_path / "out" / "tile.one_probability.tif"
    assert result["files"] == [str(file)]
    assert torch.equal(result["pred"], before)
    with tifffile.TiffFile(file) as tiff:
        (page,) = tiff.pages
        picture = page.asarray()
        assert (page.description, page.compression.name) == ("probability of gland, from 0 to 1", "ADOBE_DEFLATE")
        assert page.tags["XResolution"].value == (20000, 1), "0.5 um/px are 20,000 px/cm"
    assert picture.dtype == np.float32
    sure = 1 / (1 + np.exp(-SURE))
    np.testing.assert_allclose(picture, np.where(TWO == 1, sure, 1 - sure), rtol=1e-6)


def test_probability_has_a_page_for_each_further_class(tmp_path):
    classes = plane("12.", "1..")
    record = record_of(classes, tmp_path / "in", count=3)
    SaveProbabilityd(tmp_path / "out", ["benign", "malignant"])(record)
    with tifffile.TiffFile(tmp_path / "out" / "tile.one_probability.tif") as tiff:
        assert [page.description for page in tiff.pages] == [
            "probability of benign, from 0 to 1",
            "probability of malignant, from 0 to 1",
        ]
        first, second = (page.asarray() for page in tiff.pages)
    assert np.array_equal(first > 0.5, classes == 1)
    assert np.array_equal(second > 0.5, classes == 2)


def test_names_that_do_not_fit_the_classes_are_refused(tmp_path):
    record = record_of(plane("12."), tmp_path / "in", count=3)
    for name in ("probability.tif", "geojson"):
        with pytest.raises(ValueError, match=r"class_names has 1 names \(gland\), but the network predicts 2 classes"):
            outputs(tmp_path / "out")[name](record)
    with pytest.raises(ValueError, match="class_colors has 1 colors, but the network predicts 2 classes"):
        SaveContoursd(tmp_path / "out", reading(), PictureReader(), [GREEN])(record)
    assert not (tmp_path / "out").exists()


def test_instances_are_numbers_of_16_bits(tmp_path):
    result = SaveInstancesd(tmp_path, reading(min_area=5))(record_of(TWO, tmp_path / "in"))
    with Image.open(tmp_path / "tile.one_instances.png") as picture:
        shown = np.asarray(picture)
        assert picture.mode == "I;16"
    assert np.array_equal(shown, np.where((TWO == 1) & (np.arange(6) > 2), 1, 0)), "4 px are too few"
    assert result["glands"].shape == (1, 6, 4)


def test_more_glands_than_16_bits_have_numbers_for_go_to_a_tiff(tmp_path, caplog):
    caplog.set_level("INFO")
    classes = np.zeros((520, 520), int)
    classes[::2, ::2] = 1
    record = record_of(classes, tmp_path / "in")
    result = SaveInstancesd(tmp_path, reading())(record)
    assert "67600 glands, too many for a PNG" in caplog.text
    assert result["files"] == [str(tmp_path / "tile.one_instances.tif")]
    picture = tifffile.imread(tmp_path / "tile.one_instances.tif")
    assert (picture.dtype, picture.max()) == (np.uint32, 67600)
    assert len(np.unique(picture)) == 67601
    assert SaveInstancesd(tmp_path, reading())(result)["files"] == result["files"], "it is there, by another suffix"


def test_contours_lie_on_the_picture_two_px_wide(tmp_path):
    classes = np.zeros((9, 12), int)
    classes[2:7, 3:9] = 1
    SaveContoursd(tmp_path, reading(), PictureReader(), [GREEN])(record_of(classes, tmp_path / "in"))
    picture = np.asarray(Image.open(tmp_path / "tile.one_contours.png"))
    line = np.zeros_like(classes, bool)
    line[1:8, 2:10] = True
    line[3:6, 4:8] = False
    assert np.array_equal((picture == GREEN).all(axis=-1), line)
    assert (picture[~line] == 200).all()


def test_contours_have_the_color_of_the_class_and_part_glands_that_touch(tmp_path):
    class Halves(ComponentInstancesd):
        """Two glands side by side."""

        def __call__(self, data):
            numbers = (torch.arange(8) // 4 + 1)[None, :, None].expand(1, 8, 6)
            return {**data, "glands": numbers}

    classes = np.where(np.arange(8) < 4, 1, 2)[None].repeat(6, axis=0)
    record = record_of(classes, tmp_path / "in", count=3)
    colors = [GREEN, YELLOW]
    SaveContoursd(tmp_path, Halves(target_key="glands"), PictureReader(), colors)(record)
    picture = np.asarray(Image.open(tmp_path / "tile.one_contours.png"))
    assert (picture[0, 0] == GREEN).all(), "the picture's side is a border too"
    assert (picture[-1, -1] == YELLOW).all()
    assert (picture[1:-1, 1:3] == 200).all()
    assert (picture[2, 3:5] == YELLOW).all(), "between two classes the line is the later one's"


def test_contours_are_of_any_width(tmp_path):
    classes = np.zeros((11, 11), int)
    classes[5:, :] = 1
    for width in (1, 2, 3, 4):
        SaveContoursd(tmp_path / str(width), reading(), PictureReader(), [GREEN], width=width)(
            record_of(classes, tmp_path / "in")
        )
        picture = np.asarray(Image.open(tmp_path / str(width) / "tile.one_contours.png"))
        assert ((picture[:9, 5] == GREEN).all(axis=-1)).sum() == width
    with pytest.raises(ValueError, match="width is 0 px"):
        SaveContoursd(tmp_path, reading(), PictureReader(), [GREEN], width=0)


def test_geojson_has_each_gland_with_its_class_and_measurements(tmp_path):
    classes = plane(
        "1111..",
        "1..1.2",
        "1..1.2",
        "1111.2",
    )
    record = record_of(classes, tmp_path / "in", count=3, meta={"mpp": 2.0})
    SaveGeoJSONd(tmp_path, reading(), ["benign", "malignant"], [GREEN, YELLOW], simplify=0.0)(record)
    ring, bar = features(tmp_path / "tile.one.geojson")
    assert ring["properties"]["objectType"] == "annotation"
    assert ring["properties"]["classification"] == {"name": "benign", "color": list(GREEN)}
    assert bar["properties"]["classification"] == {"name": "malignant", "color": list(YELLOW)}
    sure = np.exp(SURE) / (np.exp(SURE) + 2)
    assert bar["properties"]["measurements"] == {
        "Area px^2": 3,
        "Area um^2": 12,
        "Mean probability": pytest.approx(sure, abs=1e-6),
    }
    outline = shape_of(ring["geometry"])
    assert outline.is_valid
    assert outline.area == ring["properties"]["measurements"]["Area px^2"] == 12
    assert [shape_of({"type": "Polygon", "coordinates": [hole]}).bounds for hole in ring["geometry"]["coordinates"][1:]]
    assert outline.interiors[0].bounds == (1, 1, 3, 3)
    assert shape_of(bar["geometry"]).bounds == (5, 1, 6, 4), "x to the right, y down"


def test_geojson_measures_um_only_where_somebody_knows_them(tmp_path):
    for mpp, text, expected in ((None, None, None), (None, 0.5, 1.0), (2.0, 0.5, 16.0)):
        record = record_of(TWO, tmp_path / "in", meta={} if text is None else {"mpp": text})
        SaveGeoJSONd(tmp_path / "out", reading(), ["gland"], [GREEN], mpp=mpp)(record)
        measurements = features(tmp_path / "out" / "tile.one.geojson")[0]["properties"]["measurements"]
        assert measurements.get("Area um^2") == expected
        (tmp_path / "out" / "tile.one.geojson").unlink()


def test_a_gland_has_its_class_though_most_of_it_was_a_hole(tmp_path):
    classes = np.full((9, 9), 1)
    classes[1:-1, 1:-1] = 0
    record = record_of(classes, tmp_path / "in", count=3)
    output = SaveGeoJSONd(tmp_path, reading(hole_area=99), ["benign", "malignant"], [GREEN, YELLOW], simplify=0.0)
    output(record)
    (only,) = features(tmp_path / "tile.one.geojson")
    assert only["properties"]["classification"]["name"] == "benign"
    assert shape_of(only["geometry"]).area == 81


def test_geojson_simplifies_and_stays_valid(tmp_path):
    rows, columns = np.mgrid[:60, :80]
    classes = ((rows - 30) ** 2 / 700 + (columns - 40) ** 2 / 1200 < 1).astype(int)
    classes[(rows - 30) ** 2 + (columns - 40) ** 2 < 50] = 0
    counts = []
    for simplify in (0.0, 0.5, 1.0):
        output = SaveGeoJSONd(tmp_path / str(simplify), reading(), ["gland"], [GREEN], "detection", simplify)
        output(record_of(classes, tmp_path / "in"))
        (only,) = features(tmp_path / str(simplify) / "tile.one.geojson")
        outline = shape_of(only["geometry"])
        assert only["properties"]["objectType"] == "detection"
        assert outline.is_valid
        assert len(outline.interiors) == 1
        assert outline.area == pytest.approx(classes.sum(), rel=0.02)
        assert only["properties"]["measurements"]["Area px^2"] == classes.sum(), "the pixels, whatever the outline"
        counts.append(len(outline.exterior.coords))
    assert counts[0] > counts[1] > counts[2]


def test_geojson_holds_a_gland_that_hangs_together_by_a_corner(tmp_path):
    classes = plane("11..", "11..", "..11", "..11")
    SaveGeoJSONd(tmp_path, reading(connectivity=2), ["gland"], [GREEN])(record_of(classes, tmp_path / "in"))
    (first,) = features(tmp_path / "tile.one.geojson")
    assert first["geometry"]["type"] == "MultiPolygon"
    assert shape_of(first["geometry"]).is_valid
    assert shape_of(first["geometry"]).area == 8
    by_sides = SaveGeoJSONd(tmp_path / "sides", reading(connectivity=1), ["gland"], [GREEN])
    by_sides(record_of(classes, tmp_path / "in"))
    assert len(features(tmp_path / "sides" / "tile.one.geojson")) == 2


@pytest.mark.parametrize(
    ("wrong", "message"), [({"object_type": "cell"}, "annotation"), ({"simplify": -1}, "0 or more")]
)
def test_geojson_refuses_settings_out_of_range(tmp_path, wrong, message):
    with pytest.raises(ValueError, match=message):
        SaveGeoJSONd(tmp_path, reading(), ["gland"], [GREEN], **wrong)


def test_disagreement_is_made_of_the_maps_beside_the_answer(tmp_path):
    maps = {"seg": torch.randn(2, 5, 4), "sdf": torch.rand(1, 5, 4), "fused_sdf": -torch.rand(1, 5, 4)}
    record = {**record_of(plane(*["1...."] * 4), tmp_path / "in"), **maps}
    result = Disagreementd(["seg", "pred"], ["sdf", "fused_sdf"])(record)
    scores, distances = ([result[key][None] for key in keys] for keys in (("seg", "pred"), ("sdf", "fused_sdf")))
    assert torch.equal(result["disagreement"], consensus_entropy(scores, distances)[0])
    SaveDisagreementd(tmp_path)(result)
    picture = tifffile.imread(tmp_path / "tile.one_disagreement.tif")
    assert np.array_equal(picture, result["disagreement"][0].numpy().T)
    with pytest.raises(KeyError, match=r"no sdf, fused_sdf in the record.*configs/inference/disagreement.yaml"):
        Disagreementd(["pred", "pred"], ["sdf", "fused_sdf"])(record_of(TWO, tmp_path / "in"))


def test_doubt_is_the_color_over_the_gray_picture(tmp_path):
    record = doubted(record_of(plane(*["....."] * 3), tmp_path / "in"))
    SaveUncertaintyd(tmp_path, PictureReader(), (255, 0, 0), power=2)(record)
    picture = np.asarray(Image.open(tmp_path / "tile.one_doubt.png"))
    assert picture.shape == (3, 5, 3)
    assert picture[1].tolist() == [[200] * 3, [203, 188, 188], [214, 150, 150], [231, 88, 88], [255, 0, 0]]
    with pytest.raises(ValueError, match="power is 0"):
        SaveUncertaintyd(tmp_path, PictureReader(), (255, 0, 0), power=0)


# One record, many outputs


def test_outputs_share_one_reading_and_name_their_files(tmp_path):
    class Counted(ComponentInstancesd):
        calls = 0

        def __call__(self, data):
            self.calls += 1
            return super().__call__(data)

    glands = Counted(target_key="glands")
    record = record_of(TWO, tmp_path / "in") | {"files": ["mask.png"]}
    reported = record["files"]
    result = record
    for output in (
        SaveInstancesd(tmp_path, glands),
        SaveGeoJSONd(tmp_path, glands, ["gland"], [GREEN]),
        SaveContoursd(tmp_path, glands, PictureReader(), [GREEN]),
        SaveInstancesd(tmp_path, glands),
    ):
        result = output(result)
    assert glands.calls == 1
    names = ["tile.one_instances.png", "tile.one.geojson", "tile.one_contours.png"]
    assert result["files"] == ["mask.png", *(str(tmp_path / name) for name in names)], "the second of two is none"
    assert reported == ["mask.png"], "the record of before is as it was"
    assert "glands" not in record


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 1)])
@pytest.mark.parametrize("value", [0, 1])
def test_pictures_of_any_size_that_are_all_one_class(tmp_path, size, value):
    result = doubted(record_of(np.full(size, value), tmp_path / "in"))
    for output in outputs(tmp_path).values():
        result = output(result)
    assert len(result["files"]) == 6
    actual = features(tmp_path / "tile.one.geojson")
    assert len(actual) == value
    assert sum(shape_of(item["geometry"]).area for item in actual) == value * size[0] * size[1]
    assert tifffile.imread(tmp_path / "tile.one_probability.tif").shape == size
    assert np.array_equal(np.asarray(Image.open(tmp_path / "tile.one_instances.png")), np.full(size, value))
    for name in ("contours", "doubt"):
        assert np.asarray(Image.open(tmp_path / f"tile.one_{name}.png")).shape == (*size, 3)
    border = np.asarray(Image.open(tmp_path / "tile.one_contours.png"))[0, 0]
    assert border.tolist() == (list(GREEN) if value else [200] * 3)


@pytest.mark.parametrize("kind", ["RGBA", "L", "I;16", "P", "1"])
def test_pictures_of_any_kind_get_contours(tmp_path, kind):
    record = record_of(TWO, tmp_path / "in")
    path = Path(record["image"].meta["filename_or_obj"])
    pixels = np.full(TWO.shape, 40000, np.uint16) if kind == "I;16" else None
    picture = (
        Image.fromarray(pixels)
        if pixels is not None
        else Image.new("RGBA", TWO.shape[::-1], (200, 50, 60, 255)).convert(kind)
    )
    picture.save(path)
    SaveContoursd(tmp_path, reading(), PictureReader(), [GREEN])(record)
    shown = np.asarray(Image.open(tmp_path / "tile.one_contours.png"))
    assert (shown.shape, shown.dtype) == ((4, 6, 3), np.uint8)
    assert (shown[0, 0] == GREEN).all()


@pytest.mark.parametrize("name", list(outputs(Path())))
def test_a_full_disk_leaves_no_half_file_and_is_named(tmp_path, monkeypatch, name):
    def full(*arguments: Any, **more: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    record = doubted(record_of(TWO, tmp_path / "in"))
    folder = tmp_path / "out"
    output = outputs(folder)[name]
    monkeypatch.setattr(Image.Image, "save", full)
    monkeypatch.setattr(tifffile.TiffWriter, "write", full)
    monkeypatch.setattr("os.fsync", full)
    expected = folder / ("tile.one.geojson" if name == "geojson" else f"tile.one_{name}")
    with pytest.raises(OSError, match="No space left") as caught:
        output(record)
    assert caught.value.filename == str(expected)
    assert list(folder.iterdir()) == []
    assert "files" not in record
    monkeypatch.undo()
    assert output(record)["files"] == [str(expected)]


def test_a_file_of_before_stays_until_the_new_one_is_whole(tmp_path, monkeypatch):
    record, output = record_of(TWO, tmp_path / "in"), SaveInstancesd(tmp_path, reading())
    output(record)
    before = (tmp_path / "tile.one_instances.png").read_bytes()

    def half(self: Image.Image, folder: Path) -> None:
        Path(folder).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", half)
    with pytest.raises(OSError, match="No space left"):
        output(record)
    assert (tmp_path / "tile.one_instances.png").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["tile.one_instances.png"]


def test_settings_say_what_makes_the_files_others(tmp_path):
    small, large = (outputs(tmp_path, min_area=area) for area in (1, 2))
    for name in ("instances.png", "contours.png", "geojson"):
        assert small[name].settings != large[name].settings
        assert json.dumps(small[name].settings)
    assert small["geojson"].settings["simplify"] == 0.0
