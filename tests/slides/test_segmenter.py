"""Segmentation of slides: the mask equals that of the same picture as one image, the polygons equal the mask."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import shapely
import tifffile
import torch
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer
from monai.transforms import Compose, Invertd, NormalizeIntensityd, ScaleIntensityRanged, Spacingd, SpatialPadd
from scipy import ndimage
from torch import nn

from bundle.slides import SlideSegmenter, find_tissue, open_slide, scale_of
from bundle.types import FACTS, FAILED, FILES, IMAGE

WIDTH, HEIGHT = 420, 310
NORMALIZATION = [
    ScaleIntensityRanged("image", 0.0, 255.0, 0.0, 1.0),
    NormalizeIntensityd("image", subtrahend=[0.788, 0.512, 0.785], divisor=[0.168, 0.248, 0.132], channel_wise=True),
]


def tissue_picture() -> np.ndarray:
    """Return (H, W, 3): smooth colors, light and dark, with a strip of glass on the right."""
    noise = np.random.default_rng(0).normal(size=(HEIGHT, WIDTH, 3))
    smooth = np.stack([ndimage.gaussian_filter(noise[..., channel], 9) for channel in range(3)], -1)
    picture = np.clip(150 + smooth * 1500, 0, 250).astype(np.uint8)
    picture[:, 330:] = 243
    return picture


def slide_file(folder: Path, mpp: float | None, pixels: np.ndarray | None = None) -> Path:
    path = folder / "slide.tif"
    tags = {} if mpp is None else {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"}
    with tifffile.TiffWriter(path) as writer:
        writer.write(tissue_picture() if pixels is None else pixels, tile=(64, 64), photometric="rgb", **tags)
    return path


def network(classes: int = 2) -> nn.Module:
    """Network with a receptive field of 9 x 9 px, so that the surroundings of a block matter."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 6, 5, padding=2), nn.ReLU(), nn.Conv2d(6, classes, 5, padding=2)).eval()


def segmenter(folder: Path, classes: int = 2, **changes) -> SlideSegmenter:
    settings = {
        "network": network(classes),
        "inferer": SlidingWindowInferer(roi_size=[32, 32], overlap=0.5, mode="gaussian"),
        "normalization": Compose(NORMALIZATION),
        "output_dir": str(folder / "out"),
        "device": "cpu",
        "pixel_size": 1.0,
        "classes": classes,
        "class_names": ["Gland", "Tumor"][: classes - 1],
        "class_colors": [[0, 158, 115], [213, 94, 0]][: classes - 1],
        "block": 96,
    }
    return SlideSegmenter(**(settings | changes))


def as_one_image(mpp: float, classes: int = 2, window: int = 32) -> np.ndarray:
    """Return the mask of the picture from tile inference, (H, W)."""
    affine = torch.diag(torch.tensor([mpp, mpp, 1.0, 1.0], dtype=torch.float64))[:3, :3]
    affine[2, 2] = 1
    image = MetaTensor(torch.from_numpy(tissue_picture()).permute(2, 1, 0).float(), affine=affine)
    spacing = Spacingd("image", (1.0, 1.0), mode="bilinear", padding_mode="border")
    steps = Compose([spacing, SpatialPadd("image", (window, window), mode="symmetric"), *NORMALIZATION])
    record = steps({"image": image})
    with torch.no_grad():
        inferer = SlidingWindowInferer(roi_size=[window, window], overlap=0.5, mode="gaussian")
        record["pred"] = inferer(record["image"][None], network(classes))[0]
    back = Invertd("pred", steps, "image", nearest_interp=False, to_tensor=True)(record)
    return back["pred"].argmax(0).T.numpy()


def run(inference: SlideSegmenter, path: Path) -> dict:
    return inference(None, {IMAGE: str(path)})[0]


@pytest.mark.parametrize(("mpp", "classes", "workers"), [(1.0, 2, 0), (0.5, 2, 1), (0.37, 3, 0), (1.6, 2, 0)])
def test_the_mask_is_that_of_the_picture_as_one_image(tmp_path, mpp, classes, workers):
    path = slide_file(tmp_path, mpp)
    record = run(segmenter(tmp_path, classes, num_workers=workers), path)
    files = [Path(file) for file in record[FILES]]
    assert [file.name for file in files] == ["slide_mask.ome.tif", "slide.geojson"]
    result = tifffile.imread(files[0], level=0)
    assert result.shape == (HEIGHT, WIDTH)
    expected = as_one_image(mpp, classes)
    assert len(np.unique(expected)) == classes
    agreement = (result == (expected * 255 if classes == 2 else expected)).mean()
    assert agreement == 1.0 if mpp == 1.0 else agreement > 0.998
    with tifffile.TiffFile(files[0]) as file:
        assert f'PhysicalSizeX="{mpp}"' in file.ome_metadata

    features = json.loads(files[1].read_text())["features"]
    names = {name: value for value, name in enumerate(["Gland", "Tumor"], start=1)}
    area = dict.fromkeys(names.values(), 0.0)
    for feature in features:
        shape = shapely.geometry.shape(feature["geometry"])
        assert shape.is_valid
        area[names[feature["properties"]["classification"]["name"]]] += shape.area
        assert feature["properties"]["measurements"]["Area um^2"] == pytest.approx(shape.area * mpp**2)
    classes_found = result // 255 if classes == 2 else result
    for value in range(1, classes):
        assert area[value] == (classes_found == value).sum()
        assert ndimage.label(classes_found == value)[1] == sum(
            names[feature["properties"]["classification"]["name"]] == value for feature in features
        )
    assert record[FACTS]["share predicted"] == 1.0


def test_a_slide_smaller_than_a_window_is_padded_with_its_mirror_image(tmp_path):
    window = SlidingWindowInferer(roi_size=[350, 350], overlap=0.5, mode="gaussian")
    assert HEIGHT < 350 < WIDTH
    (mask, _) = run(segmenter(tmp_path, inferer=window), slide_file(tmp_path, 1.0))[FILES]
    assert np.array_equal(tifffile.imread(mask, level=0) > 0, as_one_image(1.0, window=350) > 0)


def test_glass_is_left_out_and_tissue_is_not(tmp_path):
    def tissue(slide, scale):
        return find_tissue(slide, scale, resolution=8.0, margin=16.0, least=100.0, holes=100.0)

    path = slide_file(tmp_path, 1.0)
    record = run(segmenter(tmp_path, find_tissue=tissue), path)
    result, expected = tifffile.imread(record[FILES][0], level=0) > 0, as_one_image(1.0) > 0
    assert 0.6 < record[FACTS]["share predicted"] < 0.95
    with open_slide(path) as slide:
        where = tissue(slide, scale_of(slide, 1.0)).at(0, 0, WIDTH, HEIGHT)
    assert np.array_equal(result, expected & where)
    assert where[:, :330].mean() > 0.9
    assert expected[:, 370:].any(), "the network calls glass gland"
    assert not where[:, 370:].any()


def test_a_slide_of_glass_has_an_empty_mask_and_no_polygon(tmp_path):
    path = slide_file(tmp_path, 1.0, np.full((HEIGHT, WIDTH, 3), 243, np.uint8))
    record = run(segmenter(tmp_path, find_tissue=find_tissue), path)
    assert not tifffile.imread(record[FILES][0], level=0).any()
    assert json.loads(Path(record[FILES][1]).read_text())["features"] == []
    assert record[FACTS]["blocks"] == 0


def test_a_slide_that_does_not_tell_its_pixels_is_left_out(tmp_path):
    path = slide_file(tmp_path, None)
    assert run(segmenter(tmp_path), path)[FAILED] == f"{path} has no pixel size in its metadata; give --mpp"
    assert list(tmp_path.iterdir()) == [path]
    assert FILES in run(segmenter(tmp_path, mpp=1.0), path)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_tile_is_named_and_nothing_is_half_written(tmp_path, workers):
    path = tmp_path / "slide.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(
            tissue_picture(),
            tile=(64, 64),
            photometric="rgb",
            compression="zlib",
            resolution=(1e4, 1e4),
            resolutionunit="CENTIMETER",
        )
    with tifffile.TiffFile(path) as file:
        offset = file.pages[0].dataoffsets[20]
    data = bytearray(path.read_bytes())
    data[offset : offset + 200] = bytes(200)
    path.write_bytes(data)
    reason = run(segmenter(tmp_path, num_workers=workers), path)[FAILED]
    assert str(path) in reason
    assert "is damaged at level 0" in reason
    assert "\n" not in reason
    assert [file for file in (tmp_path / "out").rglob("*") if file.is_file()] == []


@pytest.mark.parametrize("value", [float("nan"), 1e30])
def test_outputs_that_are_no_numbers_do_not_become_an_empty_mask(tmp_path, value):
    broken = network()
    broken[2].weight.data.fill_(value)
    with pytest.raises(
        ValueError, match=r"^the network's output for \S+slide.tif .*; its training diverged: use other"
    ):
        run(segmenter(tmp_path, network=broken), slide_file(tmp_path, 1.0))
    assert not list((tmp_path / "out").glob("*")) + list((tmp_path / "out").glob(".*"))


@pytest.mark.parametrize("side", ["ImageWidth", "ImageLength"])
def test_a_slide_without_pixels_is_left_out(tmp_path, side):
    path = slide_file(tmp_path, 1.0)
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages.first.tags[side].overwrite(0)
    (record,) = segmenter(tmp_path)(None, {IMAGE: str(path)})
    assert record[FAILED].startswith(str(path))
    assert "again" in record[FAILED]


def test_a_full_disk_stops_the_run_and_leaves_nothing(tmp_path, monkeypatch):
    from bundle.slides import slide_output as module

    def full(self, path, *more):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(module.MaskPyramid, "write", full)
    with pytest.raises(OSError, match=r"No space left on device.*slide_mask\.ome\.tif"):
        run(segmenter(tmp_path), slide_file(tmp_path, 1.0))
    assert [file for file in (tmp_path / "out").rglob("*") if file.is_file()] == []


def test_the_plain_layout_has_its_own_name(tmp_path):
    record = run(segmenter(tmp_path, layout="plain"), slide_file(tmp_path, 1.0))
    assert Path(record[FILES][0]).name == "slide_mask.tif"
    assert np.array_equal(tifffile.imread(record[FILES][0], level=0) > 0, as_one_image(1.0) > 0)


def test_names_and_colors_fit_the_classes(tmp_path):
    with pytest.raises(ValueError, match="3 classes need 2 class_names and class_colors"):
        segmenter(tmp_path, 3, class_names=["Gland"])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"block": 0}, "block is 0 px; write 1 or more"),
        ({"min_area": -5}, "min_area is -5 px; write 0 or more"),
        ({"simplify": "much"}, "simplify is 'much' px"),
        ({"mpp": "abc"}, "mpp is 'abc'; write the pixel size in um"),
        ({"backend": "foo"}, "backend is 'foo'; choose from auto, openslide, tifffile"),
        ({"layout": "foo"}, "layout is 'foo'; choose from ome, plain, none"),
        ({"predict_glass": "perhaps"}, "predict_glass is 'perhaps'; write True or False"),
        ({"outputs": [find_tissue]}, "slides support only the outputs mask and GeoJSON"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_any_slide(tmp_path, changes, expected):
    with pytest.raises(ValueError, match=expected):
        segmenter(tmp_path, **changes)


def test_glass_is_predicted_where_asked(tmp_path):
    record = run(segmenter(tmp_path, find_tissue=find_tissue, predict_glass="True"), slide_file(tmp_path, 1.0))
    assert np.array_equal(tifffile.imread(record[FILES][0], level=0) > 0, as_one_image(1.0) > 0)


BOX = (101, 57, 170, 160)
"""x, y, width and height of a part of the slide, over several blocks and not aligned to any grid."""


def tissue_of(slide, scale):
    return find_tissue(slide, scale, resolution=8.0, margin=16.0, least=100.0, holes=100.0)


def shapes_of(record: dict) -> list:
    (polygons,) = (file for file in record[FILES] if file.endswith(".geojson"))
    features = json.loads(Path(polygons).read_text())["features"]
    return [shapely.geometry.shape(feature["geometry"]) for feature in features]


def drawn(shapes: list) -> np.ndarray:
    """Return (H, W) bool, the pixels of the slide whose center lies in a shape."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    return shapely.contains_xy(shapely.union_all(shapes), columns, rows)


@pytest.mark.parametrize(("mpp", "classes"), [(1.0, 2), (0.5, 2), (0.37, 3), (1.6, 2)])
@pytest.mark.parametrize("workers", [0, 1])
def test_a_box_holds_what_the_whole_slide_has_there(tmp_path, mpp, classes, workers):
    path = slide_file(tmp_path, mpp)
    inference = segmenter(tmp_path, classes, num_workers=workers, find_tissue=tissue_of)
    whole = run(inference, path)
    (record,) = inference(None, {IMAGE: str(path), "box": BOX})
    expected = tifffile.imread(whole[FILES][0], level=0)
    result = tifffile.imread(record[FILES][0], level=0)
    x, y, width, height = BOX
    inside = np.s_[y : y + height, x : x + width]
    # The same windows see the same pixels: no margin at the sides, and a difference only where two scores are equal but
    # for rounding.
    assert (result[inside] == expected[inside]).mean() > 0.9999
    result[inside] = 0
    assert not result.any()
    shapes = shapes_of(record)
    assert (drawn(shapes)[inside] == (expected[inside] > 0)).mean() > 0.9999
    assert all(shapely.box(x, y, x + width, y + height).covers(shape) for shape in shapes)
    if classes == 2:
        assert ndimage.label(expected[inside])[1] == len(shapes), "glands are joined across blocks"
    assert record[FACTS]["box"] == list(BOX)
    assert 0.5 < record[FACTS]["share predicted"] <= 1.0
    assert Path(record[FILES][1]).name == "slide_x101_y57_w170_h160.geojson"


@pytest.mark.parametrize("mpp", [1.0, 0.37])
def test_a_box_around_all_is_the_whole_slide(tmp_path, mpp):
    path = slide_file(tmp_path, mpp)
    inference = segmenter(tmp_path, find_tissue=tissue_of)
    whole = run(inference, path)
    (record,) = inference(None, {IMAGE: str(path), "box": [-5, -10, WIDTH + 30, HEIGHT + 10]})
    for first, second in zip(whole[FILES], record[FILES], strict=True):
        assert Path(first).read_bytes() == Path(second).read_bytes()
        assert first != second
    assert whole[FACTS]["blocks"] == record[FACTS]["blocks"]


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((WIDTH, 0, 10, 10), "lies outside of .*slide.tif, which has 420 x 310 px; give one inside"),
        ((-20, 3, 20, 10), "lies outside of"),
        ((5, 5, 0, 10), "has no size; give x, y, width and height in px"),
        ((5, 5, 10, -1), "has no size"),
        ((5, 5, float("nan"), 1), "has no size"),
        ((5, 5, 10), "is invalid; give x, y, width and height"),
        ("here", "is invalid"),
    ],
)
def test_a_box_that_cannot_be_is_told(tmp_path, box, expected):
    path = slide_file(tmp_path, 1.0)
    (record,) = segmenter(tmp_path)(None, {IMAGE: str(path), "box": box})
    assert re.search(expected, record[FAILED])
    assert list(tmp_path.iterdir()) == [path]


def test_without_a_mask_there_are_polygons_alone(tmp_path):
    path = slide_file(tmp_path, 1.0)
    record = run(segmenter(tmp_path, layout="none"), path)
    assert [Path(file).name for file in record[FILES]] == ["slide.geojson"]
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["slide.geojson"]
    assert np.array_equal(drawn(shapes_of(record)), as_one_image(1.0) > 0)
