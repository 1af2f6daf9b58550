"""CRAG, with tiny pictures in its published layout."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bundle.data.lists import load_data_list
from scripts.data_preparation.crag import (
    SPLITS,
    check_crag,
    crag_entry,
    crag_lists,
    draw_crag_splits,
    expected_names,
    prepare_crag,
)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The complete layout, with different images of 5 x 4 px."""
    folder = tmp_path / "CRAG"
    for part, code in (("train", 0), ("valid", 1)):
        for kind in ("Images", "Annotation", "Overlay"):
            (folder / part / kind).mkdir(parents=True)
        for number, name in enumerate(expected_names(part)):
            pixels = np.full((4, 5, 3), number, np.uint8)
            pixels[0, 0] = (code, 7, 7)
            Image.fromarray(pixels).save(folder / part / "Images" / f"{name}.png")
            label = np.array([[0, 0, 0, 0, 0], [1, 1, 0, 2, 2], [1, 1, 0, 2, 2], [0, 0, 0, 0, 0]], np.uint8)
            Image.fromarray(label).save(folder / part / "Annotation" / f"{name}.png")
    return folder


def test_prepares_copies_and_lists(source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    output = tmp_path / "data"
    calls: list[tuple[int, int]] = []
    lists = prepare_crag(source, output, mpp=0.5, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (213, 213)
    for part, name in (("train", "train_173"), ("valid", "test_40")):
        for kind, target in (("Images", "image"), ("Annotation", "label")):
            copied = output / target / f"{name}.png"
            assert copied.read_bytes() == (source / part / kind / f"{name}.png").read_bytes()
    protocols = [(name, percent) for name in ("authors", "heldout") for percent in (5, 10, 20, 50, 100)]
    assert lists == [f"{name}_{percent}_seed{seed}.json" for name, percent in protocols for seed in (0, 1, 2)]
    assert sorted(file.name for file in output.iterdir()) == sorted([*lists, "image", "label"])
    counts = {"heldout_10_seed0.json": (14, 124, 35), "authors_5_seed2.json": (9, 164, 0)}
    for name, expected in counts.items():
        parts = load_data_list(output, name)
        assert tuple(len(parts[part]) for part in ("training", "unlabeled", "validation")) == expected
        assert [Path(entry["image"]).stem for entry in parts["test"]] == expected_names("valid")
        assert parts["test"][0]["mpp"] == 0.5
    assert caplog.records == []


def test_published_splits_are_those_that_are_drawn() -> None:
    splits = json.loads(SPLITS.read_text(encoding="utf-8"))
    assert splits == draw_crag_splits()
    names = set(expected_names("train"))
    assert list(splits) == ["heldout", "authors"]
    assert [len(drawn) for drawn in splits["heldout"]["labeled"]["0"].values()] == [7, 14, 28, 69, 138]
    assert [len(drawn) for drawn in splits["authors"]["labeled"]["0"].values()] == [9, 17, 35, 87, 173]
    assert len(splits["heldout"]["validation"]) == 35
    for split in splits.values():
        for draws in split["labeled"].values():
            drawn = [set(labeled) for labeled in draws.values()]
            assert all(small < large for small, large in pairwise(drawn))
            assert drawn[-1] == names - set(split["validation"])


def test_every_list_holds_all_images_once() -> None:
    for parts in crag_lists(mpp=0.55).values():
        entries = [entry for part in parts.values() for entry in part]
        assert sorted(entry["image"] for entry in entries) == sorted(
            crag_entry(name)["image"] for part in ("train", "valid") for name in expected_names(part)
        )
        assert not any("label" in entry for entry in parts["unlabeled"])


def test_masks_without_image_are_ignored(source: Path) -> None:
    Image.new("L", (5, 4)).save(source / "valid" / "Annotation" / "test_41.png")
    assert len(check_crag(source)) == 213


def test_errors_name_the_cause_and_nothing_is_written(source: Path, tmp_path: Path) -> None:
    def refuse(message: str, kind: type[Exception] = ValueError) -> None:
        with pytest.raises(kind, match=message) as caught:
            prepare_crag(source, tmp_path / "data")
        assert "\n" not in str(caught.value)
        assert [file.name for file in tmp_path.iterdir()] == ["CRAG"]

    images, masks = source / "train" / "Images", source / "valid" / "Annotation"
    whole = (images / "train_3.png").read_bytes()
    (images / "train_3.png").write_bytes(whole[: len(whole) // 2])
    refuse(r"train_3.png is not a readable picture")
    for number in (3, 4, 5, 60):
        (images / f"train_{number}.png").unlink()
    refuse(
        r"4 of 173 files of .*train/Images are missing \(train_3, train_4, train_5, \.\.\.\); extr",
        FileNotFoundError,
    )
    for number in (3, 4, 5, 60):
        (images / f"train_{number}.png").write_bytes(whole)
    Image.new("L", (5, 5)).save(masks / "test_7.png")
    refuse(r"valid/Annotation/test_7.png is 5 x 5 px and its image 5 x 4 px")
    (masks / "test_7.png").unlink()
    refuse(r"1 of 40 files of .*valid/Annotation are missing \(test_7\)", FileNotFoundError)
    (images / "train_174.png").write_bytes(whole)
    refuse(r"train/Images holds 1 image that CRAG does not have \(train_174\)")
    masks.rename(source / "valid" / "Masks")
    (images / "train_174.png").unlink()
    refuse(r"no folder .*valid/Annotation; give --source, the folder that holds train/Images", FileNotFoundError)


def test_refuses_a_folder_in_use_and_a_wrong_mpp(tmp_path: Path) -> None:
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "mine.txt").touch()
    with pytest.raises(ValueError, match="used exists and is not empty"):
        prepare_crag(tmp_path, tmp_path / "used")
    with pytest.raises(ValueError, match=r"mpp is -1; give the width"):
        prepare_crag(tmp_path, tmp_path / "new", mpp=-1)
