"""Data lists and folders: what is read, and all error messages."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image

from bundle.data import leakage
from bundle.data.lists import image_files, images_to_predict, load_data_list


def make_folder(folder: Path, content: Any, files: tuple[str, ...] = ("a", "b", "c", "d")) -> Path:
    """Write different pictures, their masks, and ``content`` as ``list.json``."""
    for part in ("image", "label"):
        (folder / part).mkdir(parents=True)
        for name in files:
            stripes = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3) + np.uint8(ord(name))
            pixels = stripes if part == "image" else np.eye(5, 4, dtype=np.uint8)
            Image.fromarray(pixels).save(folder / part / f"{name}.png")
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / "list.json").write_text(text, encoding="utf-8")
    return folder


def entry(name: str, label: bool = True, **known: Any) -> dict[str, Any]:
    """Entry of a list."""
    return {"image": f"image/{name}.png"} | ({"label": f"label/{name}.png"} if label else {}) | known


def test_reads_parts_with_absolute_paths(tmp_path: Path) -> None:
    content = {"training": [entry("a", mpp=0.62)], "unlabeled": [entry("b", False)], "test": [entry("c")]}
    lists = load_data_list(make_folder(tmp_path, content), "list.json")
    assert lists["training"] == [
        {"image": str(tmp_path / "image/a.png"), "label": str(tmp_path / "label/a.png"), "mpp": 0.62}
    ]
    assert lists["unlabeled"] == [{"image": str(tmp_path / "image/b.png")}]
    assert lists["validation"] == []
    assert list(lists) == ["training", "unlabeled", "validation", "test"]


def test_relative_folder_and_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_folder(tmp_path / "data", {"training": [entry("a")]})
    monkeypatch.chdir(tmp_path)
    assert load_data_list("data", "list.json")["training"][0]["image"] == str(tmp_path / "data/image/a.png")


def test_absolute_paths_in_the_folder_stay(tmp_path: Path) -> None:
    held = {"image": str(tmp_path / "image/a.png"), "label": str(tmp_path / "image/../label/a.png")}
    lists = load_data_list(make_folder(tmp_path, {"test": [held]}), "list.json")
    assert lists["test"] == [{"image": str(tmp_path / "image/a.png"), "label": str(tmp_path / "label/a.png")}]


def test_links_inside_the_folder_may_point_outside(tmp_path: Path) -> None:
    elsewhere = make_folder(tmp_path / "elsewhere", {})
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "image").symlink_to(elsewhere / "image")
    (folder / "label").symlink_to(elsewhere / "label")
    (folder / "list.json").write_text(json.dumps({"test": [entry("a")]}))
    assert load_data_list(folder, "list.json")["test"][0]["image"] == str(folder / "image/a.png")


def test_properties_are_text_and_empty_ones_are_removed(tmp_path: Path) -> None:
    known = {"patient": 7, "grade": None, "domain": "", "mpp": None, "slide": [1]}
    lists = load_data_list(make_folder(tmp_path, {"training": [entry("a", **known), entry("b")]}), "list.json")
    assert [set(item) for item in lists["training"]] == [{"image", "label", "patient", "slide"}, {"image", "label"}]
    assert lists["training"][0]["patient"] == "7"


def test_class_names_are_not_a_part(tmp_path: Path) -> None:
    content = {"labels": {"0": "background", "1": "gland"}, "name": "mine", "training": [entry("a")]}
    lists = load_data_list(make_folder(tmp_path, content), "list.json")
    assert list(lists) == ["training", "unlabeled", "validation", "test"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ('{"training": [], "training": []}', "is not JSON .the key 'training' stands twice in one object; keep one"),
        ('{"test": [{"image": "a.png", "image": "b.png"}]}', "the key 'image' stands twice in one object"),
        ({"test": [{"image": "image/\ud800.png", "label": "a"}]}, "holds a text that is not Unicode .*image/.ud800"),
        (
            {"test": [{"image": "a\0b.png"}]},
            r"entry 0 of test .* a path that no file can have \('a.x00b.png'\); correct",
        ),
        ({"test": [entry("a") | {"label": "n" * 5000}]}, "entry 0 of test .* has a path that no file can have"),
        ({"test": [entry("a", mpp=10**400)]}, "entry 0 of test .* the mpp 10{39}; give the width"),
        ({"test": [entry("a", mpp=1e300)]}, r"entry 0 of test .* the mpp 1e\+300; give .*, above 0 and at most 100"),
        ({"test": [entry("a", mpp=1000)]}, "entry 0 of test .* the mpp 1000; give the width"),
        ([], "holds a list; a data list is an object"),
        ({"train": []}, "has none of training, unlabeled, validation, test"),
        ({"labels": ["gland"], "training": []}, "labels in .* does not name classes"),
        ({"labels": {"one": "gland"}, "training": []}, "labels in .* does not name classes"),
        ({"training": {}}, "training in .* is not a list"),
        ({"training": [{"label": "label/a.png"}]}, "entry 0 of training in .* has no image"),
        ({"training": [entry("a") | {"label": None}]}, "entry 0 of training .* label that is not a path"),
        ({"training": [entry("a", patient=["1"])]}, "entry 0 of training .* a patient that is not text"),
        ({"training": [entry("a"), entry("b", mpp="0.5")]}, "entry 1 of training .* the mpp '0.5'; give the width"),
        ({"test": [entry("a", mpp=0)]}, "entry 0 of test .* the mpp 0; give the width"),
        ({"test": [entry("a", mpp=True)]}, "entry 0 of test .* the mpp True; give the width"),
        ({"training": [entry("a"), entry("b", False)]}, "1 of 2 in training .*image/b.png.* has no label"),
        ({"validation": [entry("a", False)]}, "1 of 1 in validation .* has no label"),
        ({"unlabeled": [entry("a")]}, "1 of 1 in unlabeled .* has a label; remove the key label"),
        ({"training": [entry("a")], "test": [entry("a")]}, "has 1 image both in test and in training"),
        ({"unlabeled": [entry("a", False)], "validation": [entry("a")]}, "both in validation and in unlabeled"),
        ({"unlabeled": [{"image": "../a.png"}]}, r"has 1 path of unlabeled outside the data folder \(\.\./a.png\)"),
        ({"unlabeled": [{"image": "image/../../a.png"}]}, "outside the data folder"),
        ({"test": [entry("a") | {"label": "/etc/hosts"}]}, r"outside the data folder \(/etc/hosts\)"),
        (
            {"training": [entry("a", patient="1")], "validation": [entry("b", patient=1)]},
            r"validation of .* shares patients with training or unlabeled \(1\), so it would choose",
        ),
        (
            {"unlabeled": [entry("a", False, patient="x")], "validation": [entry("b", patient="x")]},
            "validation of .* shares patients",
        ),
    ],
)
def test_refuses(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        load_data_list(make_folder(tmp_path, content), "list.json")
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_overlap_is_found_with_another_spelling(tmp_path: Path) -> None:
    content = {"training": [entry("a")], "test": [entry("b") | {"image": "label/../image/a.png"}]}
    with pytest.raises(ValueError, match="both in test and in training"):
        load_data_list(make_folder(tmp_path, content), "list.json")


def test_one_image_may_be_labeled_and_unlabeled(tmp_path: Path) -> None:
    content = {"training": [entry("a")], "unlabeled": [entry("a", False)]}
    assert len(load_data_list(make_folder(tmp_path, content), "list.json")["unlabeled"]) == 1


def test_a_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    make_folder(tmp_path, {"training": [entry("a"), entry("b")]})
    Image.new("L", (4, 6)).save(tmp_path / "label/b.png")
    with pytest.raises(
        ValueError, match=r"label/b.png is 4 x 6 px and its image 4 x 5 px; .* \(training of .*list.json"
    ):
        load_data_list(tmp_path, "list.json")


@pytest.mark.parametrize("held", ["validation", "test"])
@pytest.mark.parametrize("training_image", ["training", "unlabeled"])
def test_the_same_picture_under_two_names_is_refused(tmp_path: Path, held: str, training_image: str) -> None:
    make_folder(
        tmp_path,
        {
            training_image: [entry("a", training_image == "training"), entry("b", training_image == "training")],
            held: [entry("c")],
        },
    )
    load_data_list(tmp_path, "list.json")
    (tmp_path / "image/c.png").write_bytes((tmp_path / "image/b.png").read_bytes())
    with pytest.raises(
        ValueError, match=rf"1 image of {held} under another name in {training_image} \(.*c.png is .*b.png\)"
    ):
        load_data_list(tmp_path, "list.json")


def test_pictures_of_one_color_are_not_duplicates(tmp_path: Path) -> None:
    make_folder(tmp_path, {"training": [entry("a")], "test": [entry("b")]})
    for name in "ab":
        Image.new("RGB", (4, 5), "white").save(tmp_path / f"image/{name}.png")
    assert len(load_data_list(tmp_path, "list.json")["test"]) == 1


def test_only_files_of_one_size_are_opened_to_compare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [tmp_path / name for name in "abc"]
    for file, text in zip(files, ("1", "22", "33"), strict=True):
        file.write_text(text)
    opened: list[Path] = []
    look = leakage._middle
    monkeypatch.setattr(leakage, "_middle", lambda file: opened.append(file) or look(file))
    assert leakage.same_content(files[:2], files[2:]) == []
    assert opened == files[1:]


def test_test_images_of_known_patients_are_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = {
        "training": [entry("a", patient="1")],
        "unlabeled": [entry("b", False, patient="2")],
        "test": [entry("c", patient="2"), entry("d")],
    }
    load_data_list(make_folder(tmp_path, content), "list.json")
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith("list.json: 1 of 2 test images are of training patients")


def test_test_images_in_validation_are_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = {"training": [entry("a")], "validation": [entry("b"), entry("c")], "test": [entry("b")]}
    load_data_list(make_folder(tmp_path, content), "list.json")
    (record,) = caplog.records
    assert record.getMessage().startswith("list.json: 1 of 1 test images are also in validation")


def test_a_list_without_patients_has_no_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = {"training": [entry("a"), entry("b", patient="1")], "validation": [entry("c")], "test": [entry("d")]}
    load_data_list(make_folder(tmp_path, content), "list.json")
    assert caplog.records == []


@pytest.mark.parametrize("part", [3, True, 1e300, {"a": 1}, "text"])
def test_a_part_to_predict_that_is_no_list_is_refused(tmp_path: Path, part: Any) -> None:
    with pytest.raises(ValueError, match=rf"test in {tmp_path}/list.json is not a list; write entries"):
        images_to_predict(make_folder(tmp_path, {"test": part}), "list.json")


def test_a_protocol_selects_from_the_list(tmp_path: Path) -> None:
    make_folder(tmp_path, {"training": [entry("a")]})
    served = load_data_list(tmp_path, "list.json", serve=lambda lists: {"training": lists["training"] * 2})
    assert [len(entries) for entries in served.values()] == [2]


def test_missing_files_are_counted_and_named(tmp_path: Path) -> None:
    content = {"test": [entry(name) for name in "avwxyz"]}
    with pytest.raises(FileNotFoundError, match=r"10 of 12 files of test in .*image/v.png, .*, .*, \.\.\.\)"):
        load_data_list(make_folder(tmp_path, content), "list.json")


def test_missing_list_names_the_others(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no data list other.json in .*; it holds list.json"):
        load_data_list(make_folder(tmp_path, {}), "other.json")


def test_missing_list_without_others(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no data list list.json in .*prepare_data.py"):
        load_data_list(tmp_path, "list.json")


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no data folder .*nowhere; give --dataset_dir, or .*prepare_data.py"):
        load_data_list(tmp_path / "nowhere", "list.json")


def test_image_files_are_sorted_and_without_masks(tmp_path: Path) -> None:
    names = ("b.png", "a.TIF", "c.jpg", "d.nii.gz", "a_anno.png", "e_anno.nii.gz", "notes.txt", ".hidden.png")
    for name in names:
        (tmp_path / name).touch()
    (tmp_path / "deep.png").mkdir()
    names = [Path(item["image"]).name for item in image_files(tmp_path)]
    assert names == ["a.TIF", "b.png", "c.jpg", "d.nii.gz"]


def test_image_files_refuses_a_folder_without_pictures(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no picture in"):
        image_files(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere; give a folder"):
        image_files(tmp_path / "nowhere")


def test_image_files_refuses_two_pictures_of_one_name(tmp_path: Path) -> None:
    """Their masks would overwrite each other."""
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4), np.uint8), np.eye(4)), tmp_path / "a.nii.gz")
    with pytest.raises(ValueError, match="differ only in suffix or folder"):
        image_files(tmp_path)


def test_images_to_predict_have_no_label(tmp_path: Path) -> None:
    make_folder(tmp_path, {"test": [entry("a", grade="benign")]})
    expected = [{"image": str(tmp_path / "image/a.png"), "grade": "benign"}]
    assert images_to_predict(tmp_path, "list.json") == expected
    assert len(images_to_predict(tmp_path / "image")) == 4
