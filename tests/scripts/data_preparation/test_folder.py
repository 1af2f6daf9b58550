"""Preparation of a user's folder, and that nothing is written if the folder is invalid."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image

from bundle.data.image_io.conversion import MaskCoding
from bundle.data.lists import load_data_list
from scripts.data_preparation.folder import class_names, prepare_folder
from scripts.data_preparation.split_plan import Plan

LIST = "heldout_100_seed0.json"


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """10 images with instance masks, and 2 images without, 8 x 6 px."""
    folder = tmp_path / "mine"
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    generator = np.random.default_rng(0)
    for number in range(12):
        name = f"tïle {number:02d}.png"
        Image.fromarray(generator.integers(0, 256, (6, 8, 3), dtype=np.uint8)).save(folder / "images" / name)
        if number < 10:
            save_mask(folder / "masks" / name, 1, 2)
    return folder


def save_mask(path: Path, first: int, second: int) -> None:
    """Two glands that do not touch."""
    mask = np.zeros((6, 8), np.uint8)
    mask[1:4, 1:3] = first
    mask[1:4, 5:7] = second
    Image.fromarray(mask).save(path)


def prepare(mine: Path, **settings: Any) -> Any:
    settings = {"masks": mine / "masks"} | settings
    return prepare_folder(mine / "images", mine.parent / "data", **settings)


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


@pytest.mark.parametrize("turned", [False, True])
def test_masks_drawn_on_the_view_fit_turned_photos(mine: Path, turned: bool) -> None:
    """Viewers turn a photo by its EXIF orientation, and people draw on what they see; square, so that no size tells."""
    exif = Image.Exif()
    exif[274] = 3 if turned else 1
    image = np.full((8, 8, 3), 240, np.uint8)
    image[1:4, 1:3] = 60
    mask = np.zeros((8, 8), np.uint8)
    mask[1:4, 1:3] = 1
    stored = image[::-1, ::-1] if turned else image
    Image.fromarray(stored).save(mine / "images" / "photo.png", exif=exif)
    Image.fromarray(mask).save(mine / "masks" / "photo.png")
    prepared = prepare(mine)
    written = mine.parent / "data"
    assert np.array_equal(
        pixels(written / "image" / "photo.png")[..., 0] < 100, pixels(written / "label" / "photo.png") > 0
    )
    with Image.open(written / "image" / "photo.png") as picture:
        assert picture.getexif().get(274, 1) == 1
    note = "1 of 13 images: turned upright by its EXIF or TIFF orientation"
    assert (note in prepared.notes) == turned


def test_files_that_are_left_out_are_told(mine: Path) -> None:
    (mine / "images" / "photo.webp").write_bytes(b"")
    (mine / "images" / "lost.png").symlink_to(mine / "nowhere.png")
    (mine / "masks" / "table.csv").write_text("image,patient\n" + "".join(f"tïle {n:02d},{n}\n" for n in range(12)))
    notes = prepare(mine, table=mine / "masks" / "table.csv").notes
    note = f"2 files in {mine / 'images'} are left out: lost.png (broken link); photo.webp (another format)"
    assert [text for text in notes if "left out" in text] == [note]


def read_list(folder: Path, name: str = LIST) -> dict[str, Any]:
    return json.loads((folder / name).read_text(encoding="utf-8"))


def test_a_folder_becomes_pictures_and_a_list(mine: Path, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    prepared = prepare(mine, mpp=0.5, progress=lambda done, total: calls.append((done, total)))
    data = tmp_path / "data"
    assert calls == [(done, 12) for done in range(1, 13)]
    assert prepared.lists == {LIST: {"training": 6, "unlabeled": 2, "validation": 2, "test": 2}}
    assert sorted(file.name for file in data.iterdir()) == [LIST, "image", "label"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["data", "mine"]
    for source in (mine / "images").iterdir():
        assert (data / "image" / source.name).read_bytes() == source.read_bytes()
    assert len(list((data / "label").iterdir())) == 10
    parts = load_data_list(data, LIST)
    assert {Path(entry["image"]).name for entry in parts["unlabeled"]} == {"tïle 10.png", "tïle 11.png"}
    assert all(entry["mpp"] == 0.5 for entries in parts.values() for entry in entries)
    assert prepared.notes == [
        "no patients are known; if patients have several images, give --table, or scores are optimistic"
    ]


def test_leftovers_of_a_killed_run_do_not_matter(mine: Path, tmp_path: Path) -> None:
    """In containers, all runs may have the same process id."""
    (tmp_path / f".data.partial-{os.getpid()}").mkdir()
    prepare(mine)
    assert (tmp_path / "data" / LIST).is_file()


def test_lists_do_not_follow_the_order_of_the_file_system(mine: Path, tmp_path: Path) -> None:
    plan = Plan(labeled=("50%", "3"), seeds=(0, 1), folds=3)
    prepared = prepare(mine, plan=plan)
    other = tmp_path / "other" / "mine"
    for part in ("images", "masks"):
        (other / part).mkdir(parents=True)
        for file in sorted((mine / part).iterdir(), reverse=True):
            shutil.copy(file, other / part)
    assert prepare(other, plan=plan).lists == prepared.lists
    assert len(prepared.lists) == 2 * 2 + 3 * 2
    for name in prepared.lists:
        assert (other.parent / "data" / name).read_bytes() == (tmp_path / "data" / name).read_bytes()


def test_conversions_are_counted_and_right(mine: Path, tmp_path: Path) -> None:
    images, masks, data = mine / "images", mine / "masks", tmp_path / "data"
    colors = {number: pixels(images / f"tïle {number:02d}.png") for number in range(12)}
    for number in (0, 1, 2):
        (images / f"tïle {number:02d}.png").unlink()
        tifffile.imwrite(images / f"tïle {number:02d}.TIF", colors[number].astype(np.uint16) * 257, photometric="rgb")
    (images / "tïle 03.png").unlink()
    Image.fromarray(colors[3]).save(images / "tïle 03.bmp")
    nibabel.save(nibabel.Nifti1Image(colors[4].transpose(1, 0, 2), np.eye(4)), images / "tïle 04.nii.gz")
    (images / "tïle 04.png").unlink()
    Image.fromarray(colors[5][..., 0]).save(images / "tïle 05.png")
    save_mask(masks / "tïle 00.png", 255, 255)
    numbers = np.zeros((6, 8), np.uint16)
    numbers[0, 0], numbers[5, 5] = 7, 900
    tifffile.imwrite(masks / "tïle 01.tif", numbers)
    (masks / "tïle 01.png").unlink()
    prepared = prepare(mine)
    for number in range(12):
        written = pixels(data / "image" / f"tïle {number:02d}.png")
        expected = colors[number][..., :1].repeat(3, axis=2) if number == 5 else colors[number]
        np.testing.assert_array_equal(written, expected)
    assert prepared.notes[:3] == [
        "3 of 12 images: 16 bits scaled to 8",
        "1 of 12 images: gray repeated to RGB",
        "1 of 10 masks: one value for all glands, connected components numbered",
    ]
    assert np.unique(pixels(data / "label" / "tïle 00.png")).tolist() == [0, 1, 2]
    np.testing.assert_array_equal(pixels(data / "label" / "tïle 01.png"), numbers)


BLACK_RED_BLUE = {(0, 0, 0): 0, (255, 0, 0): 1, (0, 0, 255): 2}


def test_gray_and_colored_masks_are_read_by_a_coding(mine: Path, tmp_path: Path) -> None:
    """A threshold for smoothed, 1-bit and palette masks; values for colors; every other color is an error."""
    masks, data = mine / "masks", tmp_path / "data"
    smooth = np.uint8([[0, 40, 120, 200, 255, 130, 60, 0]] * 6)
    Image.fromarray(smooth).save(masks / "tïle 00.png")
    inverted = Image.fromarray(255 - smooth).convert("P")
    inverted.putpalette([255 - index for index in range(256) for _ in range(3)])
    inverted.save(masks / "tïle 01.png")
    Image.fromarray(smooth > 127).save(masks / "tïle 02.png")
    for number in range(3, 10):
        save_mask(masks / f"tïle {number:02d}.png", 200, 100)
    prepared = prepare(mine, coding=MaskCoding(127))
    assert "10 of 10 masks: values above 127 read as foreground" in prepared.notes
    for number in range(3):
        np.testing.assert_array_equal(pixels(data / "label" / f"tïle {number:02d}.png"), smooth > 127)
    assert pixels(data / "label" / "tïle 09.png").max() == 1
    shutil.rmtree(data)

    def refuse(message: str, **settings: Any) -> None:
        with pytest.raises(ValueError, match=message) as caught:
            prepare(mine, **settings)
        assert "\n" not in str(caught.value)
        assert not data.exists()

    refuse("--threshold is nan; give a value of the masks", coding=MaskCoding(float("nan")))
    refuse("--threshold is -1; give a value of the masks, 0 or more", coding=MaskCoding(-1))
    refuse("no mask has foreground with this --threshold", coding=MaskCoding(255))
    refuse("--threshold makes two classes, but --classes gives 3", coding=MaskCoding(127), classes=["a", "b", "c"])
    refuse("--colors has the value 2, but without --classes it may only", coding=MaskCoding(colors=BLACK_RED_BLUE))
    refuse("--classes gives values up to 1", coding=MaskCoding(colors=BLACK_RED_BLUE), classes=["a", "b"])
    codes = [random_classes(number) for number in range(10)]
    for number, code in enumerate(codes):
        colors = np.uint8(list(BLACK_RED_BLUE))[code]
        Image.fromarray(colors).convert("RGBA" if number % 2 else "RGB").save(masks / f"tïle {number:02d}.png")
    Image.fromarray(np.uint8(list(BLACK_RED_BLUE))[codes[1]]).convert("P").save(masks / "tïle 01.png")
    refuse(r"this one has colors; .* prepare it with --colors")
    refuse("has colors, to which --threshold does not apply; give --colors", coding=MaskCoding(127))
    classes = class_names(["3"])
    prepare(mine, coding=MaskCoding(colors=BLACK_RED_BLUE), classes=classes)
    for number, code in enumerate(codes):
        np.testing.assert_array_equal(pixels(data / "label" / f"tïle {number:02d}.png"), code)
    shutil.rmtree(data)
    without_blue = {color: value for color, value in BLACK_RED_BLUE.items() if value < 2}
    arguments = r"tïle 00.png: \d+ px have colors without a value, first 0,0,255; add 0,0,255=VALUE to --colors"
    refuse(arguments, coding=MaskCoding(colors=without_blue))


def random_classes(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 3, (6, 8))


def test_classes_are_indices_with_names(mine: Path, tmp_path: Path) -> None:
    prepared = prepare(mine, classes=class_names(["background", "benign", "malignant"]))
    assert read_list(tmp_path / "data")["labels"] == {"0": "background", "1": "benign", "2": "malignant"}
    assert np.unique(pixels(tmp_path / "data" / "label" / "tïle 00.png")).tolist() == [0, 1, 2]
    assert load_data_list(tmp_path / "data", LIST)["training"]
    assert len(prepared.notes) == 2


def test_classes_read_as_glands_are_reported(mine: Path) -> None:
    for file in (mine / "masks").iterdir():
        save_mask(file, 1, 1)
        mask = pixels(file).copy()
        mask[5, 5] = 2
        Image.fromarray(mask).save(file)
    assert (
        "in 10 of 10 masks a value has several separate pieces; if values are classes, give --classes"
        in prepare(mine).notes
    )


@pytest.mark.parametrize("arguments", [["1"], ["background"], ["a", "a"], ["300"]])
def test_invalid_class_names_are_refused(arguments: list[str]) -> None:
    with pytest.raises(ValueError, match=r"--classes gives .*; give a number from 2 to 255, or names"):
        class_names(arguments)


def test_a_number_of_classes_gets_names() -> None:
    assert class_names(["3"]) == ["background", "class_1", "class_2"]


def test_patients_of_a_table_are_not_split(mine: Path, tmp_path: Path) -> None:
    """Patient 0 has the masks of four images and one image without a mask."""
    rows = [f"tïle {number:02d};{number // 4 if number < 10 else 0};{'xy'[number % 2]}" for number in range(11)]
    (mine / "table.csv").write_text("\n".join(["image;patient;grade", *rows, "tïle 11;;"]), encoding="utf-8")
    prepared = prepare(mine, table=mine / "table.csv", mpp=1.0)
    parts = load_data_list(tmp_path / "data", LIST)
    sides = [
        {entry["patient"] for part in side for entry in parts[part] if "patient" in entry}
        for side in (["training", "unlabeled"], ["validation"], ["test"])
    ]
    assert sorted(patient for side in sides for patient in side) == ["0", "1", "2"]
    assert prepared.notes[0] == "1 of 12 images have no patient; each counts as a separate patient"
    assert {entry["grade"] for entry in parts["training"]} == {"x", "y"}


def make_volumes(folder: Path, masked: int = 5) -> None:
    """6 volumes of 8 x 6 px and 5 slices, the first slice empty."""
    for part in ("images", "masks"):
        shutil.rmtree(folder / part)
        (folder / part).mkdir()
    generator = np.random.default_rng(0)
    for number in range(6):
        volume = generator.integers(0, 256, (8, 6, 5)).astype(np.uint8)
        volume[..., 0] = 0
        labels = np.zeros((8, 6, 5), np.uint8)
        labels[6, 1, 2] = 1
        nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), folder / "images" / f"vol{number}.nii.gz")
        if number < masked:
            nibabel.save(nibabel.Nifti1Image(labels, np.eye(4)), folder / "masks" / f"vol{number}.nii.gz")


def test_volumes_become_slices_of_one_patient(mine: Path, tmp_path: Path) -> None:
    make_volumes(mine)
    prepared = prepare(mine, axis=2)
    assert prepared.lists[LIST] == {"training": 15, "unlabeled": 5, "validation": 5, "test": 5}
    assert "30 of 30 images: slice of a NIfTI volume" in prepared.notes
    parts = load_data_list(tmp_path / "data", LIST)
    patients = [{entry["patient"] for entry in parts[part]} for part in parts]
    assert [len(names) for names in patients] == [3, 1, 1, 1]
    assert set.union(*patients) == {f"vol{number}" for number in range(6)}
    label = pixels(tmp_path / "data" / "label" / "vol0_s002.png")
    assert label.shape == (6, 8)
    assert np.argwhere(label).tolist() == [[1, 6]]


def test_a_table_may_have_volumes_and_slices(mine: Path, tmp_path: Path) -> None:
    make_volumes(mine)
    (mine / "table.csv").write_text("image,patient,grade\nvol0.nii.gz,anna,\nvol0_s001,,benign\n")
    prepare(mine, axis=2, table=mine / "table.csv", plan=Plan(validation="0", test="0"))
    entries = {Path(entry["image"]).stem: entry for entry in load_data_list(tmp_path / "data", LIST)["training"]}
    assert [entries[f"vol0_s00{number}"]["patient"] for number in range(5)] == ["anna"] * 5
    assert [name for name, entry in entries.items() if "grade" in entry] == ["vol0_s001"]


def test_volumes_need_an_axis_and_masks_of_their_shape(mine: Path, tmp_path: Path) -> None:
    make_volumes(mine)
    with pytest.raises(ValueError, match=r"6 of 6 images cannot be used: .*vol0.nii.gz is a volume .* --axis"):
        prepare(mine)
    other = np.zeros((8, 6, 7), np.uint8)
    nibabel.save(nibabel.Nifti1Image(other, np.eye(4)), mine / "masks" / "vol1.nii.gz")
    with pytest.raises(ValueError, match=r"vol1.nii.gz has 7 slices and its image 5; give the mask"):
        prepare(mine, axis=2)
    with pytest.raises(ValueError, match=r"vol1.nii.gz is 6 x 7 px and its image 6 x 5 px"):
        prepare(mine, axis=0)
    assert [file.name for file in tmp_path.iterdir()] == ["mine"]


def test_all_bad_files_are_reported_and_nothing_is_written(mine: Path, tmp_path: Path) -> None:
    images, masks = mine / "images", mine / "masks"

    def refuse(message: str) -> None:
        with pytest.raises(ValueError, match=message) as caught:
            prepare(mine)
        assert "\n" not in str(caught.value)
        assert [file.name for file in tmp_path.iterdir()] == ["mine"]

    Image.new("L", (8, 7)).save(masks / "tïle 01.png")
    refuse(r"^.*masks/tïle 01.png is 8 x 7 px and its image 8 x 6 px; give the mask of this image$")
    whole = (images / "tïle 02.png").read_bytes()
    (images / "tïle 02.png").write_bytes(whole[: len(whole) - 40])
    (images / "tïle 03.png").write_bytes(b"")
    Image.new("RGB", (8, 6), "red").save(masks / "tïle 04.png")
    refuse(
        r"4 of 12 images cannot be used: .*tïle 01.png is 8 x 7.*; .*tïle 02.png is not .*; .*03.png is empty.*; \.\.\."
    )


def test_the_same_picture_twice_is_refused(mine: Path, tmp_path: Path) -> None:
    test = Path(read_test_image(mine, tmp_path))
    shutil.copy(mine / "images" / test.name, mine / "images" / "copy.png")
    with pytest.raises(ValueError, match=rf"the same picture has two names \({test.stem} and copy\)"):
        prepare(mine)


def read_test_image(mine: Path, tmp_path: Path) -> str:
    """The folder is prepared once to find an image of the test part."""
    prepare(mine)
    image = read_list(tmp_path / "data")["test"][0]["image"]
    shutil.rmtree(tmp_path / "data")
    return image


def test_wrong_settings_are_reported_first(mine: Path, tmp_path: Path) -> None:
    (mine / "table.csv").write_text("image,patient\nother,1\n")
    for settings, message in (
        ({"mpp": 0}, "--mpp is 0; give the width of a pixel in um"),
        ({"plan": Plan(validation="x")}, "'x' is not an amount"),
        ({"plan": Plan(test="90%")}, "leave none for training"),
        ({"table": mine / "table.csv"}, r"1 row without an image \(other\)"),
    ):
        with pytest.raises(ValueError, match=message):
            prepare(mine, **settings)
    with pytest.raises(ValueError, match=r"table.csv/data cannot be created \(.*\); give a writable --output"):
        prepare_folder(mine / "images", mine / "table.csv" / "data", mine / "masks")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.txt").touch()
    with pytest.raises(ValueError, match="data exists and is not empty"):
        prepare(mine)
