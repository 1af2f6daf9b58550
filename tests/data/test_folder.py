"""Tests of data lists and folders: what is read, and what every refusal says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from bundle.data.folder import image_files, load_data_list


def make_folder(folder: Path, content: Any, files: tuple[str, ...] = ("a", "b", "c", "d")) -> Path:
    """Write empty pictures and masks, and ``content`` as ``list.json``."""
    for part in ("image", "label"):
        (folder / part).mkdir(parents=True)
        for name in files:
            (folder / part / f"{name}.png").touch()
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / "list.json").write_text(text, encoding="utf-8")
    return folder


def entry(name: str, label: bool = True) -> dict[str, Any]:
    """Entry of a list."""
    return {"image": f"image/{name}.png"} | ({"label": f"label/{name}.png"} if label else {})


def test_reads_parts_with_absolute_paths(tmp_path: Path) -> None:
    content = {"training": [entry("a") | {"mpp": 0.62}], "unlabeled": [entry("b", False)], "test": [entry("c")]}
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


def test_absolute_paths_in_the_list_stay(tmp_path: Path) -> None:
    elsewhere = make_folder(tmp_path / "elsewhere", {})
    held = {"image": str(elsewhere / "image/a.png"), "label": str(elsewhere / "label/a.png")}
    assert load_data_list(make_folder(tmp_path / "data", {"test": [held]}), "list.json")["test"] == [held]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is not JSON"),
        ([], "holds a list; a data list is an object"),
        ({"train": []}, "has none of training, unlabeled, validation, test"),
        ({"training": {}}, "training in .* is no list"),
        ({"training": [{"label": "label/a.png"}]}, "entry 0 of training in .* has no image"),
        ({"training": [entry("a") | {"label": None}]}, "entry 0 of training .* label that is no path"),
        ({"training": [entry("a"), entry("b", False)]}, "1 of 2 in training .*image/b.png.* has no label"),
        ({"validation": [entry("a", False)]}, "1 of 1 in validation .* has no label"),
        ({"unlabeled": [entry("a")]}, "1 of 1 in unlabeled .* has a label; take the key label away"),
        ({"training": [entry("a")], "test": [entry("a")]}, "1 images of .* both in test and in training"),
        ({"unlabeled": [entry("a", False)], "validation": [entry("a")]}, "both in validation and in unlabeled"),
    ],
)
def test_refuses(tmp_path: Path, content: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        load_data_list(make_folder(tmp_path, content), "list.json")
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_overlap_is_seen_through_another_spelling(tmp_path: Path) -> None:
    content = {"training": [entry("a")], "test": [entry("b") | {"image": "label/../image/a.png"}]}
    with pytest.raises(ValueError, match="both in test and in training"):
        load_data_list(make_folder(tmp_path, content), "list.json")


def test_one_image_may_be_labeled_and_unlabeled(tmp_path: Path) -> None:
    content = {"training": [entry("a")], "unlabeled": [entry("a", False)]}
    assert len(load_data_list(make_folder(tmp_path, content), "list.json")["unlabeled"]) == 1


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
    names = ("b.png", "a.TIF", "c.jpg", "a_anno.png", "notes.txt", ".hidden.png")
    for name in names:
        (tmp_path / name).touch()
    (tmp_path / "deep.png").mkdir()
    assert image_files(tmp_path) == [{"image": str(tmp_path / name)} for name in ("a.TIF", "b.png", "c.jpg")]


def test_image_files_refuses_a_folder_without_pictures(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no picture in"):
        image_files(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere; give a folder"):
        image_files(tmp_path / "nowhere")


def test_image_files_refuses_two_pictures_of_one_name(tmp_path: Path) -> None:
    """Their masks would overwrite each other."""
    for name in ("a.png", "a.jpg", "b.png"):
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    with pytest.raises(ValueError, match="share a name"):
        image_files(tmp_path)
