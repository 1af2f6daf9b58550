"""Training data of the label app: labels as masks, slides as tiles, and all unlabeled images."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib.annotation import Annotation, read_annotations
from lib.request_errors import BAD, RefusalError
from lib.slide_tiles import label_file, labeled_tiles, tidy, unlabeled_tiles
from lib.uploads import OUTLINES, check_image, check_label, ending_of, resolution
from monailabel.datastore.local import LocalDatastore
from monailabel.interfaces.datastore import Datastore

from bundle.data import picture_size
from bundle.slides import SlideError, is_slide

logger = logging.getLogger(__name__)

PATHS = ("image", "label")
Records = list[dict[str, Any]]
"""Dicts of ``image``, and ``label`` and ``mpp`` if known."""


@dataclass(frozen=True)
class Collected:
    """Training data.

    Attributes:
        labeled: name of a labeled image -> its records; a slide has one record per tile.
        unlabeled: records of the unlabeled images, and of unlabeled tissue tiles of slides.
    """

    labeled: Mapping[str, Records]
    unlabeled: Records


def collect(
    datastore: Datastore,
    folder: Path,
    *,
    pixel_size: float,
    side: int,
    numbers: Mapping[str, int],
    mpp: float | None,
    unlabeled_per_slide: int,
    seed: int = 0,
) -> Collected:
    """Collect the training data; drawn masks and cut tiles are written to ``folder`` and reused by the next training.

    Args:
        datastore: images and labels; only labels with the tag ``final`` are used.
        folder: output folder for masks and tiles.
        pixel_size: um/px of the tiles of slides.
        side: side of a training crop, px at that resolution.
        numbers: class name -> number above 0.
        mpp: um/px of images and slides without a known value.
        unlabeled_per_slide: number of unlabeled tissue tiles of each slide.
        seed: seed of their positions.

    Raises:
        ValueError: if an image or a label cannot be read.
        RefusalError: if the datastore is not a local folder, or a label is invalid.
    """
    if not isinstance(datastore, LocalDatastore):
        raise RefusalError(
            BAD, "training requires a local folder of images; download images and annotations into a folder"
        )
    labels = {Path(entry["image"]): Path(entry["label"]) for entry in datastore.datalist()}
    classes = dict(numbers) if len(numbers) > 1 else None
    labeled: dict[str, Records] = {}
    unlabeled: Records = []
    for name in sorted(datastore.list_images()):
        image, stored = Path(datastore.get_image_uri(name)), datastore.get_image_info(name).get("mpp")
        label = labels.get(image)
        if label is None and (reason := _problem(image, name)):
            logger.warning("skipped: %s", reason)
            continue
        width = resolution(str(image), stored, mpp)
        # Slides: tiles around the outlines, and random tiles of unlabeled tissue.
        if is_slide(image):
            tiles: Records = []
            if label is not None:
                check_label(label, name, image, list(numbers))
                outlines = read_annotations(label)
                tiles = labeled_tiles(image, outlines, folder, pixel_size, side, mpp=width, numbers=classes)
            if tiles:
                labeled[name] = tiles
            avoid = [tile["box"] for tile in tiles]
            try:
                unlabeled += unlabeled_tiles(
                    image, folder, pixel_size, side, unlabeled_per_slide, seed, mpp=width, avoid=avoid
                )
            except SlideError as error:
                if label is not None:
                    raise
                logger.warning("skipped: %s", error)
            continue
        # Pictures: labeled with their mask, or unlabeled.
        scale = {} if width is None else {"mpp": width}
        if label is None:
            unlabeled.append({"image": str(image), **scale})
        else:
            check_label(label, name, image, list(numbers))
            labeled[name] = [{"image": str(image), "label": str(_mask(image, label, folder, classes)), **scale}]
    # Remove tiles of earlier trainings that are not used any more.
    used = [record for records in labeled.values() for record in records] + unlabeled
    tidy(folder, {Path(record[key]) for record in used for key in ("image", "label") if key in record})
    keys = ("image", "label", "mpp")
    return Collected(
        {name: [_only(record, keys) for record in records] for name, records in labeled.items()},
        [_only(record, keys) for record in unlabeled],
    )


def _problem(image: Path, name: str) -> str | None:
    """Return why an unlabeled image cannot be used; it is skipped and does not stop the training."""
    try:
        check_image(image, name)
    except RefusalError as error:
        return str(error)
    return None


def _mask(image: Path, label: Path, folder: Path, classes: Mapping[str, int] | None) -> Path:
    """Return the mask of a tile: its label, or a mask drawn from its outlines."""
    if not ending_of(label.name, OUTLINES):
        return label
    height, width = picture_size(image)
    outlines: Sequence[Annotation] = read_annotations(label)
    digest = hashlib.sha256(label.read_bytes() + repr((width, height, classes)).encode()).hexdigest()[:16]
    return label_file(outlines, (width, height), folder, f"{label.stem}_{digest}", classes)


def _only(record: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """Return these entries of a record; paths as ``Path``, because MONAI's parser would replace ``#`` in texts."""
    return {key: Path(record[key]) if key in PATHS else record[key] for key in keys if key in record}
