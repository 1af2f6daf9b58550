"""The phantom data set: drawing, files, and safe writing."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from skimage.color import rgb2hed
from skimage.filters import threshold_otsu

from bundle.data.phantom import DOMAINS, GRADES, check_phantom, draw_tile, phantom_data_list, write_phantom
from bundle.data.phantom import dataset as phantom

SMALL = {"size": (32, 40), "parts": {"training": (7, 20), "validation": (2, 3), "test": (6, 6)}}


@pytest.fixture(scope="module")
def tiles() -> list[tuple[NDArray[np.uint8], NDArray[np.uint16]]]:
    """A dozen tiles of all grades and domains."""
    domains = list(DOMAINS)
    return [
        draw_tile([5, number], (192, 192), grade=GRADES[number % 2], domain=domains[number % 3], patient_seed=number)
        for number in range(12)
    ]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small phantom on disk."""
    folder = tmp_path_factory.mktemp("phantom") / "set"
    write_phantom(folder, **SMALL)
    return folder


def test_same_seed_same_pixels() -> None:
    first = draw_tile(3, (64, 64), grade="malignant", patient_seed=4)
    repeated = draw_tile(3, (64, 64), grade="malignant", patient_seed=4)
    assert all(np.array_equal(left, right) for left, right in zip(first, repeated, strict=True))


@pytest.mark.parametrize("change", [{"seed": 4}, {"seed": [3, 1]}, {"patient_seed": 5}, {"grade": "malignant"}])
def test_other_arguments_give_other_tissue(change: dict) -> None:
    arguments = {"seed": 3, "size": (96, 96), "patient_seed": 4}
    image, instances = draw_tile(**arguments)
    other_image, other_instances = draw_tile(**{**arguments, **change})
    assert np.abs(image.astype(int) - other_image).mean() > 5
    assert not np.array_equal(instances > 0, other_instances > 0)


def test_domains_stain_the_same_tissue_differently() -> None:
    drawn = {name: draw_tile(1, (96, 96), domain=name) for name in DOMAINS}
    masks = [instances for _, instances in drawn.values()]
    assert all(np.array_equal(masks[0], mask) for mask in masks)
    colors = np.array([image.mean(axis=(0, 1)) for image, _ in drawn.values()])
    distances = np.linalg.norm(colors[:, None] - colors[None], axis=-1)
    assert distances[~np.eye(len(colors), dtype=bool)].min() > 15


def test_instances_are_numbered_without_holes(tiles: list) -> None:
    for image, instances in tiles:
        assert (image.dtype, image.shape) == (np.uint8, (192, 192, 3))
        assert (instances.dtype, instances.shape) == (np.uint16, (192, 192))
        assert np.array_equal(np.unique(instances), np.arange(instances.max() + 1))
        assert instances.max() >= 1


def test_some_glands_touch_without_a_gap(tiles: list) -> None:
    touching = 0
    for _, instances in tiles:
        left, right = instances[:, :-1], instances[:, 1:]
        touching += int(((left != right) & (left > 0) & (right > 0)).sum())
    assert touching > 20


@pytest.mark.parametrize("size", [(97, 160), (16, 16), (33, 300)])
def test_any_size(size: tuple[int, int]) -> None:
    image, instances = draw_tile(2, size)
    assert image.shape == (*size, 3)
    assert instances.shape == size


def test_scale_changes_the_size_of_glands_in_pixels() -> None:
    def area(mpp: float) -> float:
        masks = [draw_tile(seed, (192, 192), mpp=mpp)[1] for seed in range(3)]
        return float(np.mean([count for mask in masks for count in np.bincount(mask.ravel())[1:]]))

    assert area(0.5) > 2 * area(1.0)


@pytest.mark.parametrize(
    "arguments",
    [{"grade": "odd"}, {"domain": "moon"}, {"size": (8, 64)}, {"mpp": 0.0}, {"seed": -1}],
)
def test_bad_arguments_are_refused(arguments: dict) -> None:
    with pytest.raises(ValueError, match=r"no grade|no domain|too small|out of range|non-negative"):
        draw_tile(**{"seed": 0, "size": (32, 32), **arguments})


def test_no_single_threshold_finds_the_glands(tiles: list) -> None:
    images = np.stack([image for image, _ in tiles])
    truth = np.stack([instances for _, instances in tiles]) > 0
    channels = np.concatenate([images.astype(np.float64), rgb2hed(images)], axis=-1)
    best = 0.0
    for channel in np.moveaxis(channels, -1, 0):
        above = channel > threshold_otsu(channel)
        for result in (above, ~above):
            best = max(best, 2 * (result & truth).sum() / (result.sum() + truth.sum()))
    assert best < 0.75
    assert 0.25 < truth.mean() < 0.55


def test_the_whole_set_has_the_counts_it_states() -> None:
    assert [phantom.PARTS[part][1] for part in ("training", "validation", "test")] == [100, 20, 40]
    assert phantom.PARTS["training"][0] >= 20


def test_small_set_is_valid(small: Path) -> None:
    check_phantom(small)
    lists = phantom_data_list(small, "heldout_10_seed1.json")
    assert [len(lists[part]) for part in ("training", "unlabeled", "validation", "test")] == [2, 18, 3, 6]
    assert not any("label" in entry for entry in lists["unlabeled"])
    assert {entry["grade"] for entry in lists["training"]} == set(GRADES)
    assert {entry["domain"] for entry in lists["test"]} == set(DOMAINS)
    assert all(entry["mpp"] == 1.0 for part in lists.values() for entry in part)


def test_draws_are_nested(small: Path) -> None:
    previous: set[str] = set()
    for percent in (5, 10, 20, 50, 100):
        lists = phantom_data_list(small, f"heldout_{percent}_seed2.json")
        drawn = {entry["image"] for entry in lists["training"]}
        assert previous < drawn or percent == 5
        previous = drawn
    assert len(previous) == 20


def test_files_have_the_drawn_pixels(small: Path) -> None:
    entry = phantom_data_list(small, "heldout_100_seed0.json")["training"][0]
    image, instances = draw_tile([0, 0, 0], SMALL["size"], grade=entry["grade"], domain=entry["domain"], patient_seed=0)
    assert np.array_equal(np.asarray(Image.open(entry["image"])), image)
    assert np.array_equal(np.asarray(Image.open(entry["label"])), instances)


def test_made_on_first_use_and_only_then(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "deep" / "set"
    with caplog.at_level(logging.INFO, logger=phantom.__name__):
        first = phantom_data_list(folder, **SMALL)
    assert [record.getMessage().count("\n") for record in caplog.records] == [0]
    before = (folder / phantom.MARKER).stat().st_mtime_ns
    caplog.clear()
    with caplog.at_level(logging.INFO, logger=phantom.__name__):
        assert phantom_data_list(folder) == first
    assert not caplog.records
    assert (folder / phantom.MARKER).stat().st_mtime_ns == before
    assert [path.name for path in folder.parent.iterdir()] == ["set"]


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    assert phantom_data_list(tmp_path, **SMALL)["test"]


def test_a_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []

    def fail_halfway(*arguments, **settings):
        drawn.append(arguments)
        if len(drawn) > 5:
            raise OSError("disk full")
        return draw_tile(*arguments, **settings)

    monkeypatch.setattr(phantom, "draw_tile", fail_halfway)
    with pytest.raises(OSError, match="disk full"):
        write_phantom(tmp_path / "set", **SMALL)
    assert not list(tmp_path.iterdir())


def test_the_slower_process_uses_the_faster_ones_set(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "set"
    fill = phantom._write_all

    def fill_while_another_publishes(draft, settings):
        fill(draft, settings)
        if not folder.exists():
            monkeypatch.setattr(phantom, "_write_all", fill)
            write_phantom(folder, **SMALL)
            (folder / "winner").touch()

    monkeypatch.setattr(phantom, "_write_all", fill_while_another_publishes)
    write_phantom(folder, **SMALL)
    assert (folder / "winner").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_foreign_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not a phantom"):
        phantom_data_list(tmp_path)
    with pytest.raises(ValueError, match="is not a phantom"):
        write_phantom(tmp_path, **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_folder_with_other_lists_names_them(tmp_path: Path) -> None:
    (tmp_path / "heldout_100_seed0.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"it holds heldout_100_seed0\.json: give one as --data_list"):
        phantom_data_list(tmp_path, "heldout_10_seed0.json")
    assert [path.name for path in tmp_path.iterdir()] == ["heldout_100_seed0.json"]


def test_other_settings_are_refused(small: Path) -> None:
    with pytest.raises(ValueError, match="made with seed 0, not 1"):
        phantom_data_list(small, seed=1)
    with pytest.raises(ValueError, match="size"):
        write_phantom(small, **{**SMALL, "size": (48, 48)})


def test_the_check_finds_faults(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no phantom"):
        check_phantom(tmp_path / "missing")
    folder = tmp_path / "set"
    write_phantom(folder, **SMALL)
    label = folder / "label" / "patient01_1.png"
    broken = np.zeros(SMALL["size"], np.uint8)
    broken[:4] = 2
    Image.fromarray(broken).save(label)
    with pytest.raises(ValueError, match="number its glands"):
        check_phantom(folder)
    path = folder / "heldout_10_seed0.json"
    lists = json.loads(path.read_text())
    lists["test"].pop()
    path.write_text(json.dumps(lists))
    with pytest.raises(ValueError, match=r"test of .* has 5 entries"):
        check_phantom(folder)
    label.unlink()
    with pytest.raises(ValueError, match="28 files, expected 29"):
        check_phantom(folder)


@pytest.mark.parametrize("parts", [{"training": (1, 1)}, {**phantom.PARTS, "test": (3, 2)}])
def test_impossible_parts_are_refused(tmp_path: Path, parts: dict) -> None:
    with pytest.raises(ValueError, match=r"give exactly|at least one tile"):
        write_phantom(tmp_path / "set", parts=parts)
