"""Tests of the tiles of slides: pixels, places and names."""

from __future__ import annotations

import inspect
import logging
import sys
from pathlib import Path

import numpy as np
import pytest
import shapely
import tifffile
import yaml
from lib.annotation import Annotation
from monai.bundle import ConfigParser
from PIL import Image

from bundle.slides import find_tissue, open_slide, read_working, scale_of
from bundle.types import IGNORE

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts" / "label_app"))

from lib import slide_tiles, tile_positions  # noqa: E402
from lib.slide_tiles import label_file, labeled_tiles, next_patch, tidy, unlabeled_tiles  # noqa: E402

WIDTH, HEIGHT, MPP = 720, 420, 0.5
TISSUE = (slice(40, 380), slice(60, 540))
"""Rows and columns of the tissue; the rest is glass."""


@pytest.fixture
def slide(tmp_path):
    """An oblong pyramid of 0.5 um/px in which no two positions look alike."""
    pixels = np.full((HEIGHT, WIDTH, 3), 245, np.uint8)
    rows, columns = np.mgrid[TISSUE]
    noise = np.random.default_rng(0).integers(0, 12, (*rows.shape, 3))
    pixels[TISSUE] = np.stack([160 + columns // 12, 40 + rows // 4, 120 + (columns + rows) // 16], axis=-1) + noise
    path = tmp_path / "slide.tif"
    with tifffile.TiffWriter(path) as file:
        for step in (1, 2, 4):
            level = pixels.reshape(HEIGHT // step, step, WIDTH // step, step, 3).mean(axis=(1, 3)).astype(np.uint8)
            tags = {"resolution": (1e4 / MPP, 1e4 / MPP), "resolutionunit": "CENTIMETER", "metadata": None}
            file.write(level, tile=(64, 64), photometric="rgb", subfiletype=int(step > 1), **tags)
    return path


def gland(x0, y0, x1, y1, name="Gland"):
    return Annotation(name, shapely.box(x0, y0, x1, y1))


def pixels_of(record, key="image"):
    return np.asarray(Image.open(record[key]))


def seen(path, record, pixel_size):
    """Return the pixels that inference reads in the box of a record; the box must lie on whole working pixels."""
    with open_slide(path) as slide:
        scale = scale_of(slide, pixel_size)
        x, y, width, height = record["box"]
        ratio = scale.ratio
        assert all(round(part / ratio) * ratio == part for part in (x, y, width, height))
        return read_working(slide, scale, *(round(part / ratio) for part in (x, y, x + width, y + height)))


@pytest.mark.parametrize("pixel_size", [0.5, 1.0])
def test_a_tile_has_the_pixels_that_inference_sees_and_the_outlines_where_they_are(slide, tmp_path, pixel_size):
    glands = [gland(203, 121, 261, 163), gland(270, 150, 301, 223)]
    (record,) = labeled_tiles(slide, glands, tmp_path / "tiles", pixel_size, 64, margin=10)
    ratio = round(pixel_size / MPP)
    assert record["mpp"] == pixel_size
    x, y, width, height = record["box"]
    assert (x, y, x + width, y + height) == ((183, 101, 321, 243) if ratio == 1 else (182, 100, 322, 244))  # 10 um more
    image, label = pixels_of(record), pixels_of(record, "label")
    assert image.shape == (height // ratio, width // ratio, 3)
    np.testing.assert_array_equal(image, seen(slide, record, pixel_size))
    numbers = np.zeros((HEIGHT, WIDTH), int)
    numbers[121:163, 203:261], numbers[150:223, 270:301] = 1, 2
    expected = numbers[y : y + height, x : x + width]
    if ratio == 2:  # a working pixel is centerd on the first of its two
        expected = expected[::2, ::2]
    np.testing.assert_array_equal(label, expected)
    assert label.dtype == np.uint16


def test_places_between_the_pixels_are_no_half_pixel_off(slide, tmp_path):
    """At 0.8 um, a working pixel is 1.6 px; outline and picture must be moved alike."""
    box = (240, 160, 320, 216)
    (record,) = labeled_tiles(slide, [gland(*box)], tmp_path, 0.8, 64, margin=10)
    label = pixels_of(record, "label") > 0
    height, width = label.shape
    x0, y0 = int(record["box"][0] / 1.6), int(record["box"][1] / 1.6)
    with open_slide(slide) as opened:
        scale = scale_of(opened, 0.8)
        np.testing.assert_array_equal(pixels_of(record), read_working(opened, scale, x0, y0, x0 + width, y0 + height))
    rows, columns = np.mgrid[y0 : y0 + height, x0 : x0 + width]
    centers = columns * scale.ratio + 0.5, rows * scale.ratio + 0.5
    inside = (centers[0] > box[0]) & (centers[0] < box[2]) & (centers[1] > box[1]) & (centers[1] < box[3])
    np.testing.assert_array_equal(label, inside)


def test_outlines_far_apart_give_tiles_of_their_own_and_those_near_one_do_so_together(slide, tmp_path):
    far = [gland(80, 60, 100, 80), gland(500, 300, 520, 360)]
    records = labeled_tiles(slide, [*far, gland(110, 60, 130, 70)], tmp_path, 1.0, 64, margin=10)
    assert [record["box"] for record in records] == [(60, 40, 90, 60), (480, 280, 60, 100)]
    assert [pixels_of(record, "label").max() for record in records] == [2, 1]


def test_classes_are_drawn_by_name(slide, tmp_path):
    glands = [gland(200, 120, 260, 160, "Benign"), gland(270, 150, 300, 220, "malignant")]
    (record,) = labeled_tiles(slide, glands, tmp_path, 0.5, 64, numbers={"Benign": 1, "Malignant": 2})
    label = pixels_of(record, "label")
    assert label.dtype == np.uint8
    assert (label[30, 30], label[60, 100], label[0, 0]) == (1, 2, 0)
    with pytest.raises(ValueError, match="no class is called 'Stroma'"):
        labeled_tiles(slide, [gland(9, 9, 20, 20, "Stroma")], tmp_path, 0.5, 64, numbers={"Benign": 1})


def test_large_groups_are_cut_into_tiles_that_show_something(slide, tmp_path, monkeypatch):
    monkeypatch.setattr(tile_positions, "LARGEST", 100)
    bow = shapely.union_all([shapely.box(60, 60, 80, 380), shapely.box(60, 360, 560, 380)])  # an L
    records = labeled_tiles(slide, [Annotation("Gland", bow)], tmp_path, 1.0, 64, margin=5)
    painted = np.zeros((HEIGHT, WIDTH), int)
    for record in records:
        x, y, width, height = record["box"]
        label = pixels_of(record, "label")
        assert max(label.shape) <= 100
        np.testing.assert_array_equal(pixels_of(record), seen(slide, record, 1.0))
        assert not painted[y : y + height, x : x + width].any()
        painted[y : y + height, x : x + width] = 1 + (label > 0).repeat(2, axis=0).repeat(2, axis=1)
    assert len(records) == 4, "of six parts the L leaves two free"
    assert not painted[60:200, 300:560].any()
    assert (painted[60:380, 60:80] == 2).all()
    assert (painted[360:380, 60:560] == 2).all()
    assert (painted == 2).sum() == bow.area


def test_a_region_is_known_as_a_whole_and_no_gland(slide, tmp_path):
    inside, crossing = gland(200, 120, 260, 160), gland(290, 200, 400, 240)
    field = gland(180, 100, 320, 300, " REGION ")
    empty = gland(420, 60, 500, 100, "region")
    records = labeled_tiles(slide, [inside, field, crossing, empty], tmp_path, 0.5, 16)
    assert [record["box"] for record in records] == [(420, 60, 80, 40), (180, 100, 140, 200)]
    label = pixels_of(records[1], "label")
    assert label[120 - 100, 200 - 180] == 1
    assert (label[100:140, 110:] == 2).all()
    assert (label > 0).sum() == 60 * 40 + 30 * 40
    assert not pixels_of(records[0], "label").any()


def test_unknown_pixels_have_their_number(slide, tmp_path):
    glands = [gland(200, 120, 260, 160), gland(400, 250, 440, 270), gland(380, 240, 460, 300, "Region")]
    first, second = sorted(
        labeled_tiles(slide, glands, tmp_path, 0.5, 128, margin=10, unknown=65535), key=lambda record: record["box"]
    )
    assert first["box"] == (166, 76, 128, 128)  # around the middle of gland and band
    label = pixels_of(first, "label")
    assert set(np.unique(label)) == {0, 1, 65535}
    rows, columns = np.mgrid[76 : 76 + 128, 166 : 166 + 128] + 0.5
    away = shapely.distance(glands[0].shape, shapely.points(columns, rows))
    assert (label[away == 0] == 1).all()
    assert (label[(away > 0) & (away < 19.5)] == 0).all()
    assert (label[away > 20.5] == 65535).all()
    field = pixels_of(second, "label")
    x, y = second["box"][:2]
    known = np.zeros((HEIGHT, WIDTH), bool)
    known[240:300, 380:460] = True
    np.testing.assert_array_equal(field != 65535, known[y : y + 128, x : x + 128])
    with pytest.raises(ValueError, match="300 cannot mark unknown pixels in a uint8 label"):
        labeled_tiles(slide, glands[:1], tmp_path, 0.5, 128, numbers={"Gland": 1}, unknown=300)


@pytest.mark.parametrize("classes", [2, 3])
def test_unknown_pixels_pass_the_preprocessing_of_a_training(slide, tmp_path, tiny, classes):
    unknown = 65535 if classes == 2 else 255
    glands = [gland(200, 120, 260, 160, "Benign"), gland(290, 150, 300, 200, "Malignant")]
    numbers = None if classes == 2 else {"Benign": 1, "Malignant": 2}
    records = labeled_tiles(slide, glands, tmp_path, 0.5, 64, margin=5, numbers=numbers, unknown=unknown)
    forget = {"_target_": "MapLabelValued", "keys": "label", "orig_labels": [unknown], "target_labels": [-1]}
    parser = ConfigParser()
    parser.read_config(str(ROOT / "configs" / "train.json"))
    parser.update(tiny | {"pixel_size": 0.5, "crop_size": [64, 64], "classes": classes})
    parser["train#annotation"] = [forget | {"dtype": "$__import__('numpy').int32", "allow_missing_keys": True}]
    if classes == 3:
        parser["data#label_classes"] = 256
        parser["data#class_target#_target_"] = "bundle.transforms.ClassIndexd"
    prepared = parser.get_parsed_content("train#preprocessing")
    result = set()
    for record in records:
        item = prepared({key: record[key] for key in ("image", "label", "mpp")})
        assert item["image"].shape == (3, 64, 64)
        for key in ("label", "sdf", "boundary"):
            assert (item[key] == IGNORE).any()
            assert (item[key] != IGNORE).any()
        result |= set(item["label"].unique().tolist())
    assert result == set(range(classes)) | {IGNORE}


def test_the_numbers_of_a_label_are_read_by_a_training(slide, tmp_path, tiny):
    (record,) = labeled_tiles(slide, [gland(200, 120, 264, 160)], tmp_path, 1.0, 32, margin=10)
    parser = ConfigParser()
    parser.read_config(str(ROOT / "configs" / "train.json"))
    parser.update(tiny | {"crop_size": [8, 8]})
    steps = parser.get_parsed_content("data#image_reading") + parser.get_parsed_content("train#fixed_transforms")
    item = {key: record[key] for key in ("image", "label", "mpp")}
    for step in steps:
        item = step(item)
    np.testing.assert_array_equal(item["image"].numpy().transpose(2, 1, 0), pixels_of(record))
    np.testing.assert_array_equal(item["label"][0].numpy().T, pixels_of(record, "label"))


def test_outlines_at_the_border_and_beside_the_slide(slide, tmp_path, caplog):
    (record,) = labeled_tiles(slide, [gland(700, 400, 760, 500)], tmp_path, 1.0, 64, margin=10)
    assert record["box"] == (680, 380, 40, 40)
    (record,) = labeled_tiles(slide, [gland(700, 400, 760, 500)], tmp_path, 1.0, 64, margin=10, unknown=65535)
    assert record["box"] == (720 - 128, 420 - 128, 128, 128)
    with caplog.at_level(logging.WARNING):
        assert labeled_tiles(slide, [gland(800, 10, 900, 100)], tmp_path, 1.0, 64) == []
    assert "none of its 1 outlines is on the slide" in caplog.text


def test_nothing_is_cut_twice_and_what_changed_is(slide, tmp_path, monkeypatch):
    written = []
    write = slide_tiles._write
    monkeypatch.setattr(slide_tiles, "_write", lambda pixels, path: written.append(path.name) or write(pixels, path))
    glands = [gland(200, 120, 260, 160), gland(400, 250, 440, 270)]
    before = labeled_tiles(slide, glands, tmp_path, 1.0, 64)
    assert len(written) == 4
    assert labeled_tiles(slide, glands, tmp_path, 1.0, 64) == before
    assert len(written) == 4
    longer = Annotation("Gland", shapely.box(200, 120, 260, 160).difference(shapely.box(210, 130, 215, 135)))
    after = labeled_tiles(slide, [longer, glands[1]], tmp_path, 1.0, 64)
    assert len(written) == 5, "the label that changed, and no picture"
    assert [first["image"] == second["image"] for first, second in zip(before, after, strict=True)] == [True, True]
    assert [first["label"] == second["label"] for first, second in zip(before, after, strict=True)] == [False, True]
    labeled_tiles(slide, glands, tmp_path, 0.5, 64)
    assert len(written) == 9
    slide.write_bytes(slide.read_bytes() + b" ")  # another file now
    labeled_tiles(slide, glands, tmp_path, 1.0, 64)
    assert len(written) == 13


def test_a_label_of_a_picture_is_drawn_once(tmp_path):
    shapes = [gland(10, 5, 20, 9), gland(0, 0, 30, 20, "Region")]
    path = label_file(shapes, (30, 20), tmp_path, "tile_0123456789abcdef")
    label = np.asarray(Image.open(path))
    assert label.shape == (20, 30)
    assert (label[5:9, 10:20] == 1).all()
    assert label.sum() == 40
    changed = path.stat().st_mtime_ns
    assert label_file([], (30, 20), tmp_path, "tile_0123456789abcdef") == path
    assert path.stat().st_mtime_ns == changed
    assert label_file(shapes, (30, 20), tmp_path, "x_0123456789abcdef", {"gland": 3}).stat().st_size > 0


def test_tidy_removes_what_was_made_here_and_is_no_longer_used(slide, tmp_path):
    folder = tmp_path / "tiles"
    old = labeled_tiles(slide, [gland(200, 120, 260, 160)], folder, 1.0, 64)
    new = labeled_tiles(slide, [gland(200, 120, 262, 160)], folder, 1.0, 64)
    strange = [folder / "notes.txt", folder / "photo.png", folder / "photo_label.png"]
    for path in strange:
        path.write_bytes(b"mine")
    (folder / f".{Path(new[0]['image']).name}.77.partial.png").write_bytes(b"half")
    tidy(folder, {Path(new[0]["image"]), new[0]["label"]})
    assert sorted(folder.iterdir()) == sorted([*strange, Path(new[0]["image"]), Path(new[0]["label"])])
    assert old[0]["image"] != new[0]["image"]
    tidy(tmp_path / "nowhere", [])


def overlap(first, second):
    return shapely.box(first[0], first[1], first[0] + first[2], first[1] + first[3]).intersects(
        shapely.box(second[0] + 1e-3, second[1] + 1e-3, second[0] + second[2] - 1e-3, second[1] + second[3] - 1e-3)
    )


@pytest.mark.parametrize("pixel_size", [0.5, 1.0, 0.8])
def test_unlabeled_tiles_lie_on_tissue_beside_each_other(slide, tmp_path, pixel_size):
    avoid = [(100, 60, 130, 100), (400, 200, 100, 100)]
    side = round(32 / pixel_size)
    records = unlabeled_tiles(slide, tmp_path, pixel_size, side, 9, 3, avoid=avoid)
    assert len(records) == 9
    boxes = [record["box"] for record in records]
    shown = []
    for index, box in enumerate(boxes):
        assert not any(overlap(box, other) for other in (*avoid, *boxes[:index]))
        x, y, width, height = box
        assert width == pytest.approx(64, abs=2)
        assert height == pytest.approx(64, abs=2)
        assert 60 - 48 <= x <= 540 - 16  # a quarter of it lies on tissue, at least
        assert 40 - 48 <= y <= 380 - 16
        image = pixels_of(records[index])
        assert image.shape == (side, side, 3)
        if pixel_size != 0.8:
            np.testing.assert_array_equal(image, seen(slide, records[index], pixel_size))
        shown.append((image.min(axis=-1) < 240).mean())
    assert min(shown) > 0.3
    assert unlabeled_tiles(slide, tmp_path, pixel_size, side, 9, 3, avoid=avoid) == records
    assert unlabeled_tiles(slide, tmp_path, pixel_size, side, 9, 4, avoid=avoid) != records
    assert set(records[0]) == {"image", "mpp", "box"}


def test_there_are_fewer_where_there_is_less_tissue(slide, tmp_path):
    many = unlabeled_tiles(slide, tmp_path, 1.0, 32, 1000, 0)
    assert 10 < len(many) <= 60  # 480 x 340 px of tissue and a margin, tiles of 64 px
    assert unlabeled_tiles(slide, tmp_path, 1.0, 32, 1000, 0, avoid=[(0, 0, WIDTH, HEIGHT)]) == []
    (whole,) = unlabeled_tiles(slide, tmp_path, 1.0, 5000, 3, 0)
    assert whole["box"] == (0, 0, WIDTH, HEIGHT)
    assert pixels_of(whole).shape == (HEIGHT // 2, WIDTH // 2, 3)


def test_the_tissue_is_that_of_inference():
    reported = yaml.safe_load((ROOT / "configs" / "inference" / "slides.yaml").read_text())["tissue"]
    usual = {name: given.default for name, given in inspect.signature(find_tissue).parameters.items()}
    assert {name: value for name, value in reported.items() if name in ("resolution", "least")}.items() <= usual.items()


def test_the_next_patch_is_the_one_with_the_highest_score(slide):
    seen_scores = []

    def reddest(pixels):
        assert pixels.dtype == np.uint8
        assert pixels.shape == (40, 60, 3)
        seen_scores.append(float(pixels[..., 0][pixels.max(axis=-1) < 240].mean()))
        return seen_scores[-1]

    x, y, width, height = next_patch(slide, (120, 80), [], reddest, 8, 5, 1.0)
    assert (width, height) == (120, 80)
    assert 4 <= len(seen_scores) <= 8
    with open_slide(slide) as opened:
        pixels = read_working(opened, scale_of(opened, 1.0), x // 2, y // 2, x // 2 + 60, y // 2 + 40)
    assert reddest(pixels) == pytest.approx(max(seen_scores[:-1]), abs=1.0)  # an odd corner lies between the pixels
    assert next_patch(slide, (120, 80), [], reddest, 8, 5, 1.0) == (x, y, width, height)


def test_the_next_patch_avoids_what_is_taken_while_there_is_other_tissue(slide):
    left = (0, 0, 300, HEIGHT)
    for seed in range(8):
        position = next_patch(slide, (120, 80), [left], None, 8, seed, 1.0)
        assert position[0] >= 300
        assert position[0] < 540
        assert not overlap(position, left)
    assert len({next_patch(slide, (120, 80), [], None, 8, seed, 1.0) for seed in range(5)}) > 1
    everything = [(0, 0, WIDTH, HEIGHT)]
    x, _, width, height = next_patch(slide, (120, 80), everything, None, 8, 0, 1.0)
    assert x < 540
    assert (width, height) == (120, 80)
    assert next_patch(slide, (9000, 100), [], None, 8, 0, 1.0)[2:] == (WIDTH, 100)


def test_a_slide_of_glass_has_a_next_patch_too(tmp_path):
    path = tmp_path / "glass.tif"
    tags = {"resolution": (2e4, 2e4), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(path, np.full((HEIGHT, WIDTH, 3), 245, np.uint8), tile=(64, 64), photometric="rgb", **tags)
    x, _, width, height = next_patch(path, (100, 60), [(0, 0, 300, 420)], None, 4, 0, 1.0)
    assert (width, height) == (100, 60)
    assert x >= 300
    assert unlabeled_tiles(path, tmp_path, 1.0, 32, 5, 0) == []
