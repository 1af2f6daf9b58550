"""The phantom: a synthetic data set of H&E-like colon tissue, which needs no download.

Glands can only be recognized by their structure (a ring of nuclei around a lumen), in benign and malignant patients of
three laboratories. It is for tests, teaching and trying methods; scores on it do not transfer to real tissue.

Layout: ``image/NAME.png`` (RGB), ``label/NAME.png`` (0 is background, 1..N are glands, lumen included),
``phantom.json`` (its settings) and data lists ``heldout_{percent}_seed{seed}.json``. Draws of one seed are nested and
stratified by grade; training, validation and test share no patient.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bundle.data.lists import load_data_list
from bundle.data.phantom.drawing import DOMAINS, GRADES, draw_tile
from bundle.data.splits import PERCENTS, draw_split, heldout_lists, share_count
from bundle.utils import naming_full_disk

LICENSE = "Apache-2.0"
DESCRIPTION = "Phantom: drawn H&E-like colon tissue with gland instances; no patient's tissue is in it."
MARKER = "phantom.json"
"""File that marks a folder as a phantom, with its settings."""
PARTS: dict[str, tuple[int, int]] = {"training": (24, 100), "validation": (6, 20), "test": (12, 40)}
"""Number of patients and tiles of each part; grades and domains alternate between patients."""
SEEDS = (0, 1, 2)
"""Seeds of the labeled draws."""

logger = logging.getLogger(__name__)


def write_phantom(
    folder: str | Path,
    *,
    seed: int = 0,
    size: Sequence[int] = (256, 256),
    mpp: float = 1.0,
    parts: Mapping[str, Sequence[int]] = PARTS,
) -> None:
    """Write the data set, complete or not at all; several processes may do so at the same time.

    Args:
        folder: output folder; missing, empty, or a phantom with the same settings, which is not changed.
        seed: seed of the tissue; different seeds give different patients.
        size: (height, width) of a tile, px.
        mpp: resolution, um/px.
        parts: ``training``, ``validation`` and ``test`` -> (patients, tiles), at least one tile for each patient.

    Raises:
        ValueError: if the folder has other content, or settings are out of range.
    """
    path = Path(folder).expanduser().absolute()
    settings = _settings(seed=seed, size=size, mpp=mpp, parts=parts)
    if _is_phantom(path):
        _check_settings(path, settings)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.parent / f".{path.name}.{uuid.uuid4().hex}"
    try:
        with naming_full_disk(path):
            _write_all(draft, settings)
            _publish(draft, path)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    _check_settings(path, settings)


def phantom_data_list(
    dataset_dir: str | Path,
    name: str = "heldout_10_seed0.json",
    serve: Callable[[dict[str, list[dict[str, Any]]]], dict[str, list[dict[str, Any]]]] | None = None,
    **settings: Any,
) -> dict[str, list[dict[str, Any]]]:
    """Load a data list of the phantom, which is written first if ``dataset_dir`` is missing or empty.

    A folder of other data with data lists is read with ``load_data_list``.

    Args:
        dataset_dir: folder of the phantom.
        name: file name of the list, ``heldout_{percent}_seed{seed}.json``.
        serve: function of a protocol, as for ``load_data_list``.
        settings: arguments of ``write_phantom``; they must match an existing phantom.

    Returns:
        Entries of ``training``, ``unlabeled``, ``validation`` and ``test``, as returned by ``load_data_list``.

    Raises:
        ValueError: if the folder has other content, or a phantom with other settings.
        FileNotFoundError: if there is no list of that name.
    """
    path = Path(dataset_dir).expanduser().absolute()
    if not (path / MARKER).is_file() and any(path.glob("*.json")):
        return load_data_list(path, name, serve)
    if not _is_phantom(path):
        logger.warning(
            "no data in %s: drawing the embedded data set (phantom) there, which takes some seconds. Its tiles are "
            "not real tissue; for your own data, add configs/data/folder.yaml and give --dataset_dir (docs/data.md)",
            path,
        )
        write_phantom(path, **settings)
    elif settings:
        _check_settings(path, _settings(**settings), only=settings)
    return load_data_list(path, name, serve)


def check_phantom(dataset_dir: str | Path) -> None:
    """Check files, sizes, label values and counts of a phantom, and that parts share no patient.

    Raises:
        ValueError: if anything is wrong.
        FileNotFoundError: if a file of a list is missing.
    """
    path = Path(dataset_dir).expanduser().absolute()
    if not _is_phantom(path):
        raise ValueError(f"{path} has no phantom; make one with write_phantom")
    settings = json.loads((path / MARKER).read_text(encoding="utf-8"))
    total = sum(tiles for _, tiles in settings["parts"].values())
    for kind in ("image", "label"):
        file_count = len(list((path / kind).glob("*.png")))
        if file_count != total:
            raise ValueError(f"{path / kind} has {file_count} files, expected {total}; make the phantom again")
    for seed in SEEDS:
        for percent in PERCENTS:
            _check_list(path, f"heldout_{percent}_seed{seed}.json", percent, settings)
    for label in sorted((path / "label").glob("*.png")):
        _check_tile(path / "image" / label.name, label, settings)


def _is_phantom(path: Path) -> bool:
    """Return whether ``path`` is a phantom; refuse a folder with other content."""
    if (path / MARKER).is_file():
        return True
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ValueError(
            f"{path} exists and is not a phantom (no {MARKER} in it); give another dataset_dir or an empty folder"
        )
    return False


def _settings(
    seed: int = 0,
    size: Sequence[int] = (256, 256),
    mpp: float = 1.0,
    parts: Mapping[str, Sequence[int]] = PARTS,
) -> dict[str, Any]:
    """Check the settings and return them as stored in the marker."""
    if set(parts) != set(PARTS):
        raise ValueError(f"the parts are {', '.join(parts)}; give exactly {', '.join(PARTS)}")
    for part, (patients, tiles) in parts.items():
        if not 1 <= patients <= tiles:
            raise ValueError(f"{part} has {patients} patients and {tiles} tiles; each patient needs at least one tile")
    counts = {part: [int(count) for count in parts[part]] for part in PARTS}
    return {"seed": int(seed), "size": [int(side) for side in size], "mpp": float(mpp), "parts": counts}


def _check_settings(path: Path, expected: Mapping[str, Any], only: Mapping[str, Any] | None = None) -> None:
    settings = json.loads((path / MARKER).read_text(encoding="utf-8"))
    for key in expected if only is None else only:
        if settings.get(key) != expected[key]:
            raise ValueError(
                f"the phantom in {path} was made with {key} {settings.get(key)}, not {expected[key]}; "
                "give another folder, or delete this one"
            )


def _write_all(draft: Path, settings: Mapping[str, Any]) -> None:
    """Write a whole phantom into the new folder ``draft``."""
    (draft / "image").mkdir(parents=True)
    (draft / "label").mkdir()
    entries: dict[str, list[dict[str, Any]]] = {}
    patient = 0
    for part, (patients, tiles) in settings["parts"].items():
        entries[part] = []
        for number in range(patients):
            share = tiles // patients + (number < tiles % patients)
            entries[part] += [_write_tile(draft, patient, tile, settings) for tile in range(share)]
            patient += 1
    learned = entries["training"] + entries["validation"]
    held = range(len(entries["training"]), len(learned))
    split = draw_split(learned, held, PERCENTS, SEEDS)
    for name, data_list in heldout_lists(learned, entries["test"], split).items():
        (draft / name).write_text(json.dumps(data_list, indent=1) + "\n", encoding="utf-8")
    marker = {"description": DESCRIPTION, "license": LICENSE, **settings}
    (draft / MARKER).write_text(json.dumps(marker, indent=1) + "\n", encoding="utf-8")


def _write_tile(draft: Path, patient: int, tile: int, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Draw and save one tile; return its entry."""
    grade = GRADES[patient % len(GRADES)]
    domain = list(DOMAINS)[patient // len(GRADES) % len(DOMAINS)]
    height, width = settings["size"]
    image, instances = draw_tile(
        [settings["seed"], patient, tile],
        (height, width),
        grade=grade,
        domain=domain,
        mpp=settings["mpp"],
        patient_seed=settings["seed"] * 10_000 + patient,
    )
    name = f"patient{patient + 1:02d}_{tile + 1}"
    entry = {"image": f"image/{name}.png", "label": f"label/{name}.png", "patient": f"patient{patient + 1:02d}"}
    Image.fromarray(image).save(draft / entry["image"], compress_level=3)
    Image.fromarray(instances.astype(np.uint8 if instances.max() < 256 else np.uint16)).save(draft / entry["label"])
    return {**entry, "grade": grade, "domain": domain, "mpp": settings["mpp"]}


def _publish(draft: Path, path: Path) -> None:
    """Rename the finished ``draft``; keep an existing phantom if another process was faster."""
    try:
        if path.is_dir() and not any(path.iterdir()) and os.name == "nt":
            path.rmdir()
        draft.rename(path)
    except OSError:
        if not _is_phantom(path):
            raise


def _check_list(path: Path, name: str, percent: int, settings: Mapping[str, Any]) -> None:
    lists = load_data_list(path, name)
    parts = settings["parts"]
    labeled = share_count(percent, parts["training"][1])
    expected = {"training": labeled, "unlabeled": parts["training"][1] - labeled}
    expected |= {part: parts[part][1] for part in ("validation", "test")}
    for part, count in expected.items():
        if len(lists[part]) != count:
            raise ValueError(f"{part} of {path / name} has {len(lists[part])} entries, expected {count}")
    groups = [{entry["patient"] for entry in lists[part]} for part in ("validation", "test")]
    groups.append({entry["patient"] for part in ("training", "unlabeled") for entry in lists[part]})
    if len(set.union(*groups)) != sum(len(group) for group in groups):
        raise ValueError(f"parts of {path / name} share a patient; make the phantom again")


def _check_tile(image: Path, label: Path, settings: Mapping[str, Any]) -> None:
    with Image.open(image) as picture, Image.open(label) as mask:
        sizes = {picture.size, mask.size, (settings["size"][1], settings["size"][0])}
        values = np.unique(np.asarray(mask))
    if len(sizes) > 1:
        raise ValueError(f"{image.name} differs in size from its label or from {settings['size']}")
    values = values[values > 0]
    if not np.array_equal(values, np.arange(1, len(values) + 1)):
        raise ValueError(f"label {label} does not number its glands 1 to {len(values)}")
