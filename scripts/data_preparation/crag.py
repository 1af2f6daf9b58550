"""CRAG: glands of colorectal adenocarcinoma in H&E, prepared from its published layout.

Graham et al., "MILD-Net: Minimal information loss dilated network for gland instance segmentation in colon histology
images", Medical Image Analysis 52, 2019, 199-211, doi 10.1016/j.media.2018.12.001. 213 images at 20x, 173 for training
and 40 for testing, most about 1512 x 1516 px, with instance masks. According to the paper they were scanned with an
Omnyx VL120 at 0.55 um/px. Patients and grades are not published, so parts cannot be split by patient. For research
only, no commercial use; the terms are part of the download.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundle.data.image_io.pictures import check_pair
from bundle.data.lists import LARGEST_MPP
from bundle.data.message_text import join_names, pluralize
from bundle.data.splits import PERCENTS, draw_split, heldout_lists, nested_draws, share_count
from scripts.data_preparation.folder_writer import Progress, check_new, natural_order, write_set

LICENSE = (
    "CRAG is for research only, no commercial use (check the terms of your download); cite Graham et al., MILD-Net, "
    "Medical Image Analysis 2019, doi 10.1016/j.media.2018.12.001."
)
"""Terms of the data set in one sentence, shown when it is prepared."""
PATIENTS = "CRAG does not publish patients, so validation and test may contain tissue of training patients."
"""Limitation of all scores on this data set."""
PARTS = {"train": ("train", 173), "valid": ("test", 40)}
"""Folder -> prefix and number of its images: ``train_1`` to ``train_173``, ``test_1`` to ``test_40``."""
IMAGES, MASKS = "Images", "Annotation"
PIXEL_SIZE = 0.55
"""Width of a pixel in um, from the paper."""
DOMAIN = "crag"
VALIDATION_PERCENT = 20
SEEDS = (0, 1, 2)
SPLITS = Path(__file__).with_name("crag_splits.json")
"""The published splits as image names, made by ``scripts/dev/make_splits.py``."""


@dataclass(frozen=True)
class CragImage:
    """Files of one image of CRAG: 8-bit RGB, and a mask of the same size, 0 background and 1..N glands."""

    name: str
    image: Path
    mask: Path


def crag_entry(name: str) -> dict[str, Any]:
    """Return the data list entry of an image, without ``mpp``, with the paths that ``prepare_crag`` writes."""
    return {"image": f"image/{name}.png", "label": f"label/{name}.png", "domain": DOMAIN}


def expected_names(part: str) -> list[str]:
    """Return the names of the images in the folder ``train`` or ``valid``."""
    begin, count = PARTS[part]
    return [f"{begin}_{number}" for number in range(1, count + 1)]


def check_crag(source: str | Path) -> list[CragImage]:
    """Check a folder of CRAG in its published layout and list its 213 images, training images first.

    Masks without an image are ignored: the first version of the data set had five of them.

    Args:
        source: folder with ``train/Images``, ``train/Annotation``, ``valid/Images``, ``valid/Annotation``.

    Raises:
        FileNotFoundError: if a folder, an image or a mask is missing.
        ValueError: if there are unknown images, a file is not a picture, or a mask and its image differ in size.
    """
    folder = Path(source).expanduser().absolute()
    crag_images = []
    for part in PARTS:
        names = expected_names(part)
        images, masks = _files(folder / part / IMAGES), _files(folder / part / MASKS)
        unknown = sorted(set(images) - set(names))
        if unknown:
            raise ValueError(
                f"{folder / part / IMAGES} holds {pluralize(len(unknown), 'image')} that CRAG does not have "
                f"({join_names(unknown)}); give the unchanged download"
            )
        for kind, files in ((IMAGES, images), (MASKS, masks)):
            missing = [name for name in names if name not in files]
            if missing:
                raise FileNotFoundError(
                    f"{len(missing)} of {len(names)} files of {folder / part / kind} are missing "
                    f"({join_names(missing)}); extract the CRAG download again"
                )
        crag_images += [CragImage(name, images[name], masks[name]) for name in names]
    for image in crag_images:
        check_pair(image.image, image.mask)
    return crag_images


def draw_crag_splits() -> dict[str, Any]:
    """Draw the published splits from image names: protocol -> split, as returned by ``splits.draw_split``.

    ``heldout`` uses 20 % of the 173 images for validation, the same for every seed; ``authors`` has no validation.
    """
    entries = [crag_entry(name) for name in expected_names("train")]
    count = share_count(VALIDATION_PERCENT, len(entries))
    held = nested_draws(entries, [count], seed=0)[count]
    return {
        "heldout": draw_split(entries, held, PERCENTS, SEEDS),
        "authors": draw_split(entries, [], PERCENTS, SEEDS),
    }


def crag_lists(mpp: float = PIXEL_SIZE) -> dict[str, Any]:
    """Return all data lists of CRAG from the published splits: file name -> data list; ``mpp`` in um/px."""
    train, test = ([crag_entry(name) | {"mpp": mpp} for name in expected_names(part)] for part in PARTS)
    lists: dict[str, Any] = {}
    for protocol, split in json.loads(SPLITS.read_text(encoding="utf-8")).items():
        lists |= heldout_lists(train, test, split, protocol)
    return lists


def prepare_crag(
    source: str | Path, output: str | Path, mpp: float = PIXEL_SIZE, progress: Progress | None = None
) -> list[str]:
    """Write a data folder of CRAG: ``image/NAME.png``, instance masks ``label/NAME.png``, and the data lists.

    Pixels are not changed. The folder is created only when it is complete.

    Args:
        source: folder of CRAG, see ``check_crag``.
        output: folder to create; may exist if it is empty.
        mpp: width of a pixel, um.
        progress: called after each image.

    Returns:
        File names of the data lists, sorted.

    Raises:
        FileNotFoundError: as ``check_crag``.
        ValueError: as ``check_crag``; or if ``output`` is not empty, ``mpp`` is not above 0, a picture is damaged, or a
            mask has colors.
    """
    if not 0 < mpp <= LARGEST_MPP:
        raise ValueError(f"mpp is {mpp}; give the width of a pixel in um, above 0 and at most {LARGEST_MPP}")
    check_new(output)
    images = check_crag(source)
    lists = crag_lists(mpp)
    write_set(output, {image.name: (image.image, image.mask) for image in images}, lists, progress)
    return natural_order(lists)


def _files(folder: Path) -> dict[str, Path]:
    """Return the PNG files of a folder by name."""
    if not folder.is_dir():
        raise FileNotFoundError(
            f"no folder {folder}; give --source, the folder that holds train/Images and valid/Images of CRAG"
        )
    files = [file for file in sorted(folder.iterdir()) if file.suffix.lower() == ".png"]
    return {file.stem: file for file in files if not file.name.startswith(".")}
