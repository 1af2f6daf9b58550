"""What a training learns from: labels of any format as masks, slides as tiles, and all images without a label."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib.refusals import BAD, RefusalError
from lib.slide_tiles import label_file, labeled_tiles, tidy, unlabeled_tiles
from lib.uploads import OUTLINES, check_image, check_label, ending_of, resolution
from monailabel.datastore.local import LocalDatastore
from monailabel.interfaces.datastore import Datastore

from bundle.annotation import Annotation, read_annotations
from bundle.data import picture_size
from bundle.inference.slides import SlideError, is_slide

logger = logging.getLogger(__name__)

Records = list[dict[str, Any]]
"""``image``, ``label`` where there is one, and ``mpp`` where it is known."""


@dataclass(frozen=True)
class Collected:
    """What there is to learn from.

    Attributes:
        labeled: records of each labeled image by its name; a slide gives one for each tile.
        unlabeled: records of the other images, and of tissue of slides that nobody outlined.
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
    """Gather records; files that must be made for them lie in ``folder``, and are used again by the next training.

    Args:
        datastore: images and labels; those with the tag ``final`` count.
        folder: for masks that are drawn and tiles that are cut.
        pixel_size: um/px at which slides are cut.
        side: of a training crop, px at that resolution.
        numbers: of the classes above 0 by name.
        mpp: um/px of pictures and slides of which nothing else is known.
        unlabeled_per_slide: how many tiles of tissue to take from a slide.
        seed: of their places.

    Raises:
        ValueError: where an image or a label cannot be read.
    """
    if not isinstance(datastore, LocalDatastore):
        raise RefusalError(
            BAD,
            "labels are learned from in a folder of images alone; download images and annotations into a folder",
        )
    labels = {Path(entry["image"]): Path(entry["label"]) for entry in datastore.datalist()}
    classes = dict(numbers) if len(numbers) > 1 else None
    labeled: dict[str, Records] = {}
    unlabeled: Records = []
    for name in sorted(datastore.list_images()):
        image, noted = Path(datastore.get_image_uri(name)), datastore.get_image_info(name).get("mpp")
        label = labels.get(image)
        if label is None and (reason := _fault(image, name)):
            logger.warning("left out: %s", reason)
            continue
        width = resolution(str(image), noted, mpp)
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
                logger.warning("left out: %s", error)
            continue
        scale = {} if width is None else {"mpp": width}
        if label is None:
            unlabeled.append({"image": str(image), **scale})
        else:
            check_label(label, name, image, list(numbers))
            labeled[name] = [{"image": str(image), "label": str(_mask(image, label, folder, classes)), **scale}]
    used = [record for records in labeled.values() for record in records] + unlabeled
    tidy(folder, {Path(record[key]) for record in used for key in ("image", "label") if key in record})
    keys = ("image", "label", "mpp")
    return Collected(
        {name: [_only(record, keys) for record in records] for name, records in labeled.items()},
        [_only(record, keys) for record in unlabeled],
    )


def _fault(image: Path, name: str) -> str | None:
    """Why an image without a label cannot teach; it must not keep the others from it."""
    try:
        check_image(image, name)
    except RefusalError as error:
        return str(error)
    return None


def _mask(image: Path, label: Path, folder: Path, classes: Mapping[str, int] | None) -> Path:
    """The label of a tile as a mask: as it is, or drawn from its outlines."""
    if not ending_of(label.name, OUTLINES):
        return label
    height, width = picture_size(image)
    outlines: Sequence[Annotation] = read_annotations(label)
    digest = hashlib.sha256(label.read_bytes() + repr((width, height, classes)).encode()).hexdigest()[:16]
    return label_file(outlines, (width, height), folder, f"{label.stem}_{digest}", classes)


def _only(record: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    return {key: record[key] for key in keys if key in record}
