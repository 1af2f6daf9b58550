"""GlaS: with a small folder of its layout, and with the real data set in ``GLAS_DIR``."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from bundle.data.lists import load_data_list
from scripts.data_preparation.folder_writer import write_lists
from scripts.data_preparation.glas import (
    SPLITS,
    check_glas,
    draw_glas_splits,
    expected_names,
    glas_entry,
    glas_lists,
    prepare_glas,
    read_grades,
)

ROOT = Path(__file__).resolve().parents[3]
real_glas = pytest.mark.skipif("GLAS_DIR" not in os.environ, reason="GLAS_DIR does not name a folder that holds GlaS")


def write_grades(path: Path, names: list[str]) -> None:
    """Write a Grade.csv with the spaces of the official one: the first 37 training images are benign."""
    rows = ["name,patient ID, grade (GlaS)"]
    for name in names:
        number = int(name.split("_")[1])
        rows.append(f"{name},{number}, {'benign' if number <= 37 else 'malignant'}")
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Folder of 165 tiny images and masks; those of testB are .png, all others .bmp."""
    folder = tmp_path / "source"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for name in expected_names():
        suffix = ".png" if name.startswith("testB") else ".bmp"
        Image.fromarray(generator.integers(0, 256, (6, 8, 3), dtype=np.uint8)).save(folder / f"{name}{suffix}")
        glands = np.repeat(generator.integers(0, 9, (2, 4), dtype=np.uint8), 3, axis=0).repeat(2, axis=1)
        Image.fromarray(glands).save(folder / f"{name}_anno{suffix}")
    write_grades(folder / "Grade.csv", expected_names())
    return folder


def pixels(path: Path) -> np.ndarray:
    """Values of a picture as stored."""
    with Image.open(path) as picture:
        return np.asarray(picture)


def test_prepares_pixels_and_lists(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "deep" / "glas"
    calls: list[tuple[int, int]] = []
    lists = prepare_glas(source, output, mpp=0.465, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(done, 165) for done in range(1, 166)]
    for name, suffix in (("train_1", ".bmp"), ("testA_60", ".bmp"), ("testB_20", ".png")):
        np.testing.assert_array_equal(pixels(output / "image" / f"{name}.png"), pixels(source / f"{name}{suffix}"))
        np.testing.assert_array_equal(pixels(output / "label" / f"{name}.png"), pixels(source / f"{name}_anno{suffix}"))
    for kind, name in (("image", "testB_20"), ("label", "testB_20_anno")):
        copied = output / kind / "testB_20.png"
        assert copied.read_bytes() == (source / f"{name}.png").read_bytes()
    assert len(lists) == 45
    assert sorted(file.name for file in output.iterdir()) == sorted([*lists, "image", "label"])
    assert sorted(file.name for file in output.parent.iterdir()) == ["glas"]
    for name in lists:
        parts = load_data_list(output, name)
        assert sum(len(parts[part]) for part in ("training", "unlabeled", "validation")) == 85
        assert len(parts["test"]) == 80
    first = json.loads((output / "heldout_10_seed0.json").read_text(encoding="utf-8"))["test"][0]
    assert first == glas_entry("testA_1", "1", "benign") | {"mpp": 0.465}


def test_palette_masks_keep_their_numbers(source: Path, tmp_path: Path) -> None:
    numbers = pixels(source / "train_1_anno.bmp")
    mask = Image.fromarray(numbers)
    mask.putpalette([value for step in range(256) for value in (255 - step, step, 7)])
    mask.save(source / "train_1_anno.bmp")
    prepare_glas(source, tmp_path / "glas")
    np.testing.assert_array_equal(pixels(tmp_path / "glas" / "label" / "train_1.png"), numbers)


def test_errors_name_the_cause_and_nothing_is_written(source: Path, tmp_path: Path) -> None:
    def refuse(message: str, kind: type[Exception] = ValueError) -> None:
        with pytest.raises(kind, match=message):
            prepare_glas(source, tmp_path / "glas")
        assert [file.name for file in tmp_path.iterdir()] == ["source"]

    whole = (source / "testB_3.png").read_bytes()
    (source / "testB_3.png").write_bytes(whole[: len(whole) - 30])
    refuse("testB_3.png is not a readable picture")
    (source / "testB_3.png").write_bytes(b"no picture")
    refuse("testB_3.png is not a readable PNG, JPEG, BMP or TIFF")
    (source / "testB_3.png").unlink()
    refuse(r"1 images of .* are missing \(testB_3\)", FileNotFoundError)
    (source / "testB_3.png").write_bytes(whole)
    Image.new("RGB", (8, 6), "red").save(source / "train_2_anno.bmp")
    refuse("train_2_anno.bmp: a mask must have one channel, this one has colors")
    Image.new("L", (8, 5)).save(source / "train_2_anno.bmp")
    refuse(r"train_2_anno.bmp is 8 x 5 px and its image 8 x 6 px")
    (source / "train_2_anno.bmp").unlink()
    refuse(r"1 masks of .* are missing \(train_2_anno\)", FileNotFoundError)
    (source / "Grade.csv").unlink()
    refuse("no Grade.csv in", FileNotFoundError)


def test_refuses_a_folder_in_use_and_a_wrong_mpp(source: Path, tmp_path: Path) -> None:
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "mine.txt").touch()
    with pytest.raises(ValueError, match="used exists and is not empty"):
        prepare_glas(source, tmp_path / "used")
    with pytest.raises(ValueError, match="mpp is nan; give the width"):
        prepare_glas(source, tmp_path / "glas", mpp=float("nan"))
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere; give --source"):
        prepare_glas(tmp_path / "nowhere", tmp_path / "glas")


def test_an_empty_output_folder_is_filled(source: Path, tmp_path: Path) -> None:
    (tmp_path / "glas").mkdir()
    prepare_glas(source, tmp_path / "glas")
    assert (tmp_path / "glas" / "image" / "train_85.png").is_file()


def test_grades_must_be_those_of_the_set(tmp_path: Path) -> None:
    path = tmp_path / "Grade.csv"
    with pytest.raises(FileNotFoundError, match=r"no file .*Grade.csv"):
        read_grades(path)
    path.write_text("name,grade\ntrain_1,benign\n", encoding="utf-8")
    with pytest.raises(ValueError, match="lacks a column of"):
        read_grades(path)
    write_grades(path, expected_names()[:-2])
    with pytest.raises(FileNotFoundError, match=r"2 rows of .* are missing \(testB_19, testB_20\)"):
        read_grades(path)
    write_grades(path, expected_names())
    path.write_text(path.read_text(encoding="utf-8").replace("train_1,1, benign", "train_1,1, malignant"))
    with pytest.raises(ValueError, match="training grades"):
        read_grades(path)


def test_published_splits() -> None:
    splits = json.loads(SPLITS.read_text(encoding="utf-8"))
    train = {name for name in expected_names() if name.startswith("train_")}
    assert list(splits) == ["heldout", "authors", "fold0", "fold1", "fold2"]
    sizes = {name: [len(names) for names in split["labeled"]["0"].values()] for name, split in splits.items()}
    assert sizes["heldout"] == [3, 7, 14, 34, 68]
    assert sizes["authors"] == [4, 9, 17, 43, 85]
    assert len(splits["heldout"]["validation"]) == 17
    assert splits["authors"]["validation"] == []
    assert sorted(name for fold in range(3) for name in splits[f"fold{fold}"]["validation"]) == sorted(train)
    for split in splits.values():
        for draws in split["labeled"].values():
            drawn = [set(names) for names in draws.values()]
            assert all(small < large for small, large in pairwise(drawn))
            assert drawn[-1] == train - set(split["validation"])


@real_glas
def test_real_set_is_complete() -> None:
    images = check_glas(os.environ["GLAS_DIR"])
    assert sum(int(pixels(image.mask).max()) for image in images) == 1530
    assert Counter(image.grade for image in images if image.name.startswith("train")) == {"benign": 37, "malignant": 48}


@real_glas
def test_real_lists_load_with_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """49 of the 80 test images are of training patients of the default list."""
    images = check_glas(os.environ["GLAS_DIR"])
    for kind in ("image", "label"):
        (tmp_path / kind).mkdir()
    for image in images:
        (tmp_path / "image" / f"{image.name}.png").symlink_to(image.image)
        (tmp_path / "label" / f"{image.name}.png").symlink_to(image.mask)
    name = "heldout_10_seed0.json"
    write_lists(tmp_path, {name: glas_lists(images)[name]})
    load_data_list(tmp_path, name)
    (record,) = caplog.records
    assert record.getMessage().startswith("heldout_10_seed0.json: 49 of 80 test images are of training patients")
    assert "\n" not in record.getMessage()


@real_glas
def test_real_splits_are_those_of_the_repository(load_program: Callable[[str], ModuleType]) -> None:
    program = load_program("make_splits")
    grades = read_grades(Path(os.environ["GLAS_DIR"]) / "Grade.csv")
    splits = draw_glas_splits(grades)
    assert program.as_text(splits) == SPLITS.read_text(encoding="utf-8")
    for name in ("heldout", "fold0", "fold1", "fold2"):
        held = {grades[image][0] for image in splits[name]["validation"]}
        assert not held & {grades[image][0] for image in splits[name]["labeled"]["0"]["100"]}
    assert {grades[image][1] for image in splits["heldout"]["validation"]} == {"benign", "malignant"}
