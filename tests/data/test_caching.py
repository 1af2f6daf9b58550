"""Cached tiles: as many as fit into memory, the same crops as without a cache, and unchanged by training."""

from __future__ import annotations

import logging
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import DataLoader
from monai.data.utils import set_rnd
from monai.transforms import Compose, LoadImaged
from PIL import Image

from bundle.data import PictureReader, TileCache, cached_share
from bundle.data.caching import ENTRY_BYTES, GIB

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
SIZE = {"pixel_size": 1.0, "crop_size": [1, 1]}


@pytest.fixture
def tile(tmp_path) -> Callable[..., dict[str, Any]]:
    """Function that writes a blank tile of size (H, W) and returns its entry."""

    def write(name: str, height: int, width: int, label: np.dtype | type | None = None, **known: Any) -> dict[str, Any]:
        entry = {"image": str(tmp_path / f"{name}.png"), **known}
        Image.new("RGB", (width, height)).save(entry["image"])
        if label is not None:
            entry["label"] = str(tmp_path / f"{name}_label.png")
            Image.fromarray(np.zeros((height, width), label)).save(entry["label"])
        return entry

    return write


@pytest.fixture
def train(tiny) -> Callable[..., ConfigParser]:
    """train.json with tiny settings and changes."""

    def parse(*overlays: str, **changes: Any) -> ConfigParser:
        parser = ConfigParser()
        parser.read_config([str(CONFIGS / name) for name in ("train.json", *overlays)])
        parser.update(tiny | changes)
        return parser

    return parse


# The share


def needed(caplog, **parts: Any) -> float:
    """Bytes that all tiles would take, from the log."""
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="bundle.data.caching"):
        assert cached_share(**{"labeled": [], "unlabeled": [], "validation": []} | SIZE | parts, memory_gib=0.0) == 0
    return float(caplog.messages[0].rpartition("would take ")[2].split()[0]) * GIB


def test_a_training_tile_takes_3_bytes_a_pixel_and_its_label_1(tile, caplog):
    area = 300 * 2000
    cases = {
        3: {"unlabeled": [tile("bare", 300, 2000)]},
        4: {"labeled": [tile("bytes", 300, 2000, np.uint8)]},
        5: {"labeled": [tile("words", 300, 2000, np.uint16)]},
        13: {"validation": [tile("judged", 300, 2000, np.uint8)]},
        12: {"validation": [tile("unjudged", 300, 2000)]},
    }
    for bytes_a_pixel, parts in cases.items():
        assert needed(caplog, **parts) == pytest.approx(area * bytes_a_pixel + ENTRY_BYTES, rel=0.05), bytes_a_pixel


def test_tiles_count_at_the_working_resolution_and_padded(tile, caplog):
    coarse = tile("coarse", 400, 800, mpp=0.5)
    assert needed(caplog, unlabeled=[coarse]) == pytest.approx(200 * 400 * 3 + ENTRY_BYTES, rel=0.05)
    assert needed(caplog, unlabeled=[coarse], pixel_size=0.25) == pytest.approx(800 * 1600 * 3 + ENTRY_BYTES, rel=0.05)
    wide = needed(caplog, unlabeled=[coarse], crop_size=[1000, 100])  # width first
    assert wide == pytest.approx(1000 * 200 * 3 + ENTRY_BYTES, rel=0.05)


def test_the_share_is_the_largest_that_fits(tile, caplog):
    """Tiles of different sizes: the sum of those that would be cached counts, the first of each part."""
    big, small = tile("big", 1000, 1000), tile("small", 100, 100)
    many = {"labeled": [big, *[small] * 9], "unlabeled": [small] * 10, "validation": []} | SIZE
    first = 1000 * 1000 * 3 + 100 * 100 * 3 + 2 * ENTRY_BYTES
    assert cached_share(**many, memory_gib=first * 0.99 / GIB) == 0.0
    assert cached_share(**many, memory_gib=first * 1.001 / GIB) == 0.1
    with caplog.at_level(logging.INFO, logger="bundle.data.caching"):
        share = cached_share(**many, memory_gib=(first + 11 * (30_000 + ENTRY_BYTES)) / GIB)
    assert share == pytest.approx(0.6)
    assert "12 of 20 tiles (10 labeled, 10 unlabeled)" in caplog.messages[-1]
    assert "the other 8 are decoded each time" in caplog.messages[-1]


def test_all_tiles_are_cached_if_they_fit(tile, caplog):
    parts = {"labeled": [tile("one", 50, 60, np.uint8)], "unlabeled": [], "validation": [tile("two", 50, 60)]}
    with caplog.at_level(logging.INFO, logger="bundle.data.caching"):
        assert cached_share(**parts, **SIZE, memory_gib=1) == 1.0
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("Cached: all 2 tiles (1 labeled, 1 validation) in about ")
    assert caplog.messages[0].endswith(" GiB of at most 1 (--data#cache_gib).")


def test_empty_parts_are_allowed():
    assert cached_share([], [], [], memory_gib=1.0, **SIZE) == 1.0


def test_tiles_that_cannot_be_measured_count_as_the_mean(tile, tmp_path, caplog):
    (tmp_path / "damaged.png").write_bytes(b"no picture")
    strange = [
        {"image": str(tmp_path / "missing.png")},
        {"image": str(tmp_path / "damaged.png")},
        {"image": np.zeros((3, 8, 8))},
        {"other": 1},
        tile("unsaid", 100, 100, mpp="wide"),
    ]
    assert cached_share(strange, [], [], memory_gib=0.0, **SIZE) == 1.0, "nothing is known, so nothing is held against"
    alone, together = (
        needed(caplog, labeled=[tile("a", 500, 500)]),
        needed(caplog, labeled=[tile("a", 500, 500), *strange]),
    )
    assert together == pytest.approx(6 * alone, rel=0.1)


@pytest.mark.parametrize("memory", [-1, "much", None, float("nan")])
def test_invalid_memory_is_refused(memory):
    with pytest.raises(ValueError, match=r"cache_gib is .*; give the memory for cached tiles"):
        cached_share([], [], [], memory_gib=memory, **SIZE)


# The cache in the config


def cached_bytes(dataset: TileCache) -> int:
    tensors = [value for item in dataset._cache for value in item.values() if isinstance(value, torch.Tensor)]
    return sum(value.untyped_storage().nbytes() for value in tensors)


def test_the_config_caches_as_logged(train, tiny, caplog):
    """8 training and 2 validation tiles of 48 x 64 px: estimated and actual bytes."""
    parser = train()
    with caplog.at_level(logging.INFO, logger="bundle.data.caching"):
        share = parser.get_parsed_content("data#cache_rate")
    assert share == 1.0
    assert "all 10 tiles (4 labeled, 4 unlabeled, 2 validation)" in caplog.text
    pixels, expected = 48 * 64, {"train#dataset": 4 * 4, "train#unlabeled_dataset": 4 * 3, "validate#dataset": 2 * 13}
    for key, bytes_a_pixel in expected.items():
        assert cached_bytes(parser.get_parsed_content(key)) == pixels * bytes_a_pixel, key


@pytest.mark.parametrize(("changes", "share"), [({"data#cache_gib": 0}, 0.0), ({"data#cache_rate": 0.5}, 0.5)])
def test_share_and_memory_can_be_set(changes, share, train):
    parser = train(**changes)
    for key in ("train#dataset", "train#unlabeled_dataset", "validate#dataset"):
        dataset = parser.get_parsed_content(key)
        assert dataset.cache_num == int(len(dataset) * share), key


def test_unused_unlabeled_tiles_take_no_memory(train, caplog):
    parser = train("methods/supervised.yaml")
    with caplog.at_level(logging.INFO, logger="bundle.data.caching"):
        assert parser.get_parsed_content("train#unlabeled_dataset").cache_num == 0
    assert "all 6 tiles (4 labeled, 2 validation)" in caplog.text


def test_replaced_training_data_is_counted(train, phantom_dir, tmp_path, caplog):
    """MONAI Label and federated clients put a list of dicts in place of the training data."""
    shutil.copytree(phantom_dir, tmp_path / "theirs")
    entries = train().get_parsed_content("data#datalist")["training"][:3]
    theirs = [
        {key: entry[key].replace(str(phantom_dir), str(tmp_path / "theirs")) for key in ("image", "label")}
        for entry in entries
    ]
    parser = train()
    parser["train#dataset#data"] = theirs
    with caplog.at_level(logging.INFO, logger="bundle.data.caching"):
        assert parser.get_parsed_content("train#dataset").cache_num == 3
    assert "all 5 tiles (3 labeled, 2 validation)" in caplog.text


# Crops


def batches(parser: ConfigParser, key: str, epochs: int = 2) -> list[dict[str, Any]]:
    """All batches of a loader in some epochs, seeded like the trainer."""
    loader = parser.get_parsed_content(key)
    batches = []
    for epoch in range(epochs):
        set_rnd(loader.dataset, seed=7 + epoch)
        torch.manual_seed(epoch)
        batches += list(loader)
    return batches


@pytest.mark.parametrize("key", ["train#dataloader", "train#unlabeled_dataloader"])
@pytest.mark.parametrize(
    "changes", [{}, {"pixel_size": 0.7}, {"crop_size": [64, 64]}], ids=["plain", "resampled", "padded"]
)
def test_crops_are_the_same_without_a_cache(key, changes, train):
    cached, read = (batches(train(**changes, **{"data#cache_rate": rate}), key) for rate in (1.0, 0.0))
    assert len(cached) == len(read) == 4
    for first, second in zip(cached, read, strict=True):
        assert first.keys() == second.keys()
        for name, value in first.items():
            assert torch.equal(value, second[name]) if isinstance(value, torch.Tensor) else value == second[name], name
    assert not torch.equal(cached[0]["image"], cached[2]["image"]), "each epoch has crops of its own"


def test_training_does_not_change_cached_tiles(train):
    """Cached tiles are not copied before the random transforms, so these must not change them."""
    parser = train()
    for stream in ("", "unlabeled_"):
        dataset = parser.get_parsed_content(f"train#{stream}dataset")
        before = [{key: value.clone() for key, value in item.items()} for item in dataset._cache]
        done = [len(item["image"].applied_operations) for item in dataset._cache]
        batches(parser, f"train#{stream}dataloader", epochs=3)
        for item, old in zip(dataset._cache, before, strict=True):
            assert item.keys() == old.keys()
            assert all(torch.equal(item[key], old[key]) for key in old)
        assert [len(item["image"].applied_operations) for item in dataset._cache] == done


def test_training_and_validation_values_differ_only_by_rounding(train):
    """At most half a step of 256, divided by the standard deviation of the color."""
    changes = {"pixel_size": 0.7, "crop_size": [8, 8], "train#random_transforms": []}
    parser = train(**changes)
    entry = parser.get_parsed_content("data#datalist")["training"][0]
    learned = parser.get_parsed_content("train#preprocessing")(entry)["image"]
    judged = parser.get_parsed_content("validate#preprocessing")(entry)["image"].as_tensor()
    step = torch.tensor([1 / 0.168, 1 / 0.248, 1 / 0.132])[:, None, None] / 255
    assert ((learned - judged).abs() <= 0.501 * step).all()
    assert not torch.equal(learned, judged)


@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_while_caching_names_the_file(threads, tmp_path, tile):
    entries = [tile(f"good{number}", 8, 8) for number in range(3)]
    entries.insert(1, {"image": str(tmp_path / "damaged.png")})
    (tmp_path / "damaged.png").write_bytes(b"no picture")
    reading = Compose([LoadImaged("image", reader=PictureReader())])
    with pytest.raises(RuntimeError) as caught:
        TileCache(entries, reading, num_workers=threads, progress=False)
    causes, error = [], caught.value
    while error is not None:
        causes.append(str(error))
        error = error.__cause__
    assert any("damaged.png is not a readable PNG, JPEG, BMP or TIFF" in cause for cause in causes)


# Epochs


def test_a_short_stream_lasts_an_epoch(train):
    """Workers are started once an epoch, not each time the few images are used up, because that is slow."""
    parser = train(data_list="heldout_5_seed0.json", batch_size=2)
    labeled, unlabeled = (parser.get_parsed_content(f"train#{stream}dataset") for stream in ("", "unlabeled_"))
    steps = parser.get_parsed_content("train#trainer#epoch_length")
    assert len(labeled) < len(unlabeled)
    for stream in ("", "unlabeled_"):
        loader = parser.get_parsed_content(f"train#{stream}dataloader")
        assert len(loader) == steps
        assert all(len(batch["image"]) == 2 for batch in loader)
    drawn = list(parser.get_parsed_content("train#dataloader").sampler)
    count = len(labeled)
    passes = [drawn[start : start + count] for start in range(0, len(drawn) - count + 1, count)]
    assert len(passes) >= 2
    assert all(sorted(item) == list(range(count)) for item in passes), "each image once before any comes again"


def test_workers_give_batches_of_plain_tensors(train):
    loader = train(num_workers=1).get_parsed_content("train#dataloader")
    assert isinstance(loader, DataLoader)
    if sys.platform == "linux":  # other start methods copy the cache and import torch in each epoch
        assert loader.multiprocessing_context.get_start_method() == "fork"
    for batch in loader:
        assert all(type(batch[name]) is torch.Tensor for name in ("image", "label", "sdf", "boundary"))
        assert all(Path(name).is_file() for name in batch["file"])
