"""A slide as a whole: its mask is that of the same picture as one image, its polygons are its mask."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import shapely
import tifffile
import torch
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer
from monai.transforms import Compose, Invertd, NormalizeIntensityd, ScaleIntensityRanged, Spacingd
from scipy import ndimage
from torch import nn

from bundle.inference.slides import SlideSegmenter, find_tissue, open_slide, scale_of
from bundle.types import FACTS, FAILED, FILES, IMAGE

WIDTH, HEIGHT = 420, 310
NORMALISATION = [
    ScaleIntensityRanged("image", 0.0, 255.0, 0.0, 1.0),
    NormalizeIntensityd("image", subtrahend=[0.788, 0.512, 0.785], divisor=[0.168, 0.248, 0.132], channel_wise=True),
]


def tissue_picture() -> np.ndarray:
    """(H, W, 3): smooth colours, light and dark, with a strip of glass at the right."""
    noise = np.random.default_rng(0).normal(size=(HEIGHT, WIDTH, 3))
    smooth = np.stack([ndimage.gaussian_filter(noise[..., channel], 9) for channel in range(3)], -1)
    picture = np.clip(150 + smooth * 1500, 0, 250).astype(np.uint8)
    picture[:, 330:] = 243
    return picture


def slide_file(folder: Path, mpp: float | None, pixels: np.ndarray | None = None) -> Path:
    path = folder / "slide.tif"
    told = {} if mpp is None else {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"}
    with tifffile.TiffWriter(path) as writer:
        writer.write(tissue_picture() if pixels is None else pixels, tile=(64, 64), photometric="rgb", **told)
    return path


def network(classes: int = 2) -> nn.Module:
    """Sees 9 x 9 px, so that what stands around a block matters."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 6, 5, padding=2), nn.ReLU(), nn.Conv2d(6, classes, 5, padding=2)).eval()


def segmenter(folder: Path, classes: int = 2, **changes) -> SlideSegmenter:
    settings = {
        "network": network(classes),
        "inferer": SlidingWindowInferer(roi_size=[32, 32], overlap=0.5, mode="gaussian"),
        "normalisation": Compose(NORMALISATION),
        "output_dir": str(folder / "out"),
        "device": "cpu",
        "pixel_size": 1.0,
        "classes": classes,
        "class_names": ["Gland", "Tumour"][: classes - 1],
        "class_colors": [[0, 158, 115], [213, 94, 0]][: classes - 1],
        "block": 96,
    }
    return SlideSegmenter(**(settings | changes))


def as_one_image(mpp: float, classes: int = 2) -> np.ndarray:
    """What inference makes of the picture as a tile, (H, W)."""
    affine = torch.diag(torch.tensor([mpp, mpp, 1.0, 1.0], dtype=torch.float64))[:3, :3]
    affine[2, 2] = 1
    image = MetaTensor(torch.from_numpy(tissue_picture()).permute(2, 1, 0).float(), affine=affine)
    steps = Compose([Spacingd("image", (1.0, 1.0), mode="bilinear", padding_mode="border"), *NORMALISATION])
    record = steps({"image": image})
    with torch.no_grad():
        inferer = SlidingWindowInferer(roi_size=[32, 32], overlap=0.5, mode="gaussian")
        record["pred"] = inferer(record["image"][None], network(classes))[0]
    back = Invertd("pred", steps, "image", nearest_interp=False, to_tensor=True)(record)
    return back["pred"].argmax(0).T.numpy()


def run(made: SlideSegmenter, path: Path) -> dict:
    return made(None, {IMAGE: str(path)})[0]


@pytest.mark.parametrize(("mpp", "classes", "workers"), [(1.0, 2, 0), (0.5, 2, 1), (0.37, 3, 0), (1.6, 2, 0)])
def test_the_mask_is_that_of_the_picture_as_one_image(tmp_path, mpp, classes, workers):
    path = slide_file(tmp_path, mpp)
    record = run(segmenter(tmp_path, classes, num_workers=workers), path)
    files = [Path(file) for file in record[FILES]]
    assert [file.name for file in files] == ["slide_mask.ome.tif", "slide.geojson"]
    found = tifffile.imread(files[0], level=0)
    assert found.shape == (HEIGHT, WIDTH)
    expected = as_one_image(mpp, classes)
    assert len(np.unique(expected)) == classes
    agreement = (found == (expected * 255 if classes == 2 else expected)).mean()
    assert agreement == 1.0 if mpp == 1.0 else agreement > 0.998
    with tifffile.TiffFile(files[0]) as file:
        assert f'PhysicalSizeX="{mpp}"' in file.ome_metadata

    features = json.loads(files[1].read_text())["features"]
    names = {name: value for value, name in enumerate(["Gland", "Tumour"], start=1)}
    area = dict.fromkeys(names.values(), 0.0)
    for feature in features:
        shape = shapely.geometry.shape(feature["geometry"])
        assert shape.is_valid
        area[names[feature["properties"]["classification"]["name"]]] += shape.area
        assert feature["properties"]["measurements"]["Area um^2"] == pytest.approx(shape.area * mpp**2)
    classes_found = found // 255 if classes == 2 else found
    for value in range(1, classes):
        assert area[value] == (classes_found == value).sum()
        assert ndimage.label(classes_found == value)[1] == sum(
            names[feature["properties"]["classification"]["name"]] == value for feature in features
        )
    assert record[FACTS]["share predicted"] == 1.0


def test_glass_is_left_out_and_tissue_is_not(tmp_path):
    def tissue(slide, scale):
        return find_tissue(slide, scale, resolution=8.0, margin=16.0, least=100.0, holes=100.0)

    path = slide_file(tmp_path, 1.0)
    record = run(segmenter(tmp_path, find_tissue=tissue), path)
    found, expected = tifffile.imread(record[FILES][0], level=0) > 0, as_one_image(1.0) > 0
    assert 0.6 < record[FACTS]["share predicted"] < 0.95
    with open_slide(path) as slide:
        where = tissue(slide, scale_of(slide, 1.0)).at(0, 0, WIDTH, HEIGHT)
    assert np.array_equal(found, expected & where)
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
    assert run(segmenter(tmp_path), path)[FAILED] == f"{path} does not tell its microns per pixel; give --mpp"
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


def test_a_full_disk_stops_the_run_and_leaves_nothing(tmp_path, monkeypatch):
    from bundle.inference.slides import segmenter as module

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


def test_names_and_colours_fit_the_classes(tmp_path):
    with pytest.raises(ValueError, match="3 classes need 2 class_names and class_colors"):
        segmenter(tmp_path, 3, class_names=["Gland"])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"block": 0}, "block is 0 px; write 1 or more"),
        ({"min_area": -5}, "min_area is -5 px; write 0 or more"),
        ({"simplify": "much"}, "simplify is 'much' px"),
        ({"mpp": "abc"}, "mpp is 'abc'; write the width of a pixel in um"),
        ({"backend": "foo"}, "backend is 'foo'; choose from auto, openslide, tifffile"),
        ({"layout": "foo"}, "layout is 'foo'; choose from ome, plain"),
        ({"predict_glass": "perhaps"}, "predict_glass is 'perhaps'; write True or False"),
        ({"outputs": [find_tissue]}, "of whole slides mask and GeoJSON alone are written"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_any_slide(tmp_path, changes, told):
    with pytest.raises(ValueError, match=told):
        segmenter(tmp_path, **changes)


def test_glass_is_predicted_where_asked(tmp_path):
    record = run(segmenter(tmp_path, find_tissue=find_tissue, predict_glass="True"), slide_file(tmp_path, 1.0))
    assert np.array_equal(tifffile.imread(record[FILES][0], level=0) > 0, as_one_image(1.0) > 0)
