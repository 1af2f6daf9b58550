"""What a viewer gets: the mask as a picture, or the glands as polygons in its own format."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from lib.refusals import BAD, RefusalError
from numpy.typing import NDArray
from PIL import Image

from bundle.annotation import Annotation, contours_document, dsa_document, write_asap
from bundle.inference.geojson import GeoJSONWriter, feature

FORMATS = ("image", "json", "all", "asap", "dsa", "geojson")
"""``image`` is a mask; ``json`` and ``all`` come with contours as CVAT wants them."""
POLYGONS = ("json", "asap", "dsa", "geojson")
MASK_ENDINGS = (".png", ".tif", ".tiff", ".bmp")


@dataclass(frozen=True)
class Subject:
    """What an answer is about.

    Attributes:
        model: name of the model.
        description: of it.
        colors: RGB in [0, 255] of each class by name.
        box: (x, y, width, height), px of the full resolution.
    """

    model: str
    description: str
    colors: Mapping[str, Sequence[int]]
    box: tuple[int, int, int, int]


def write_mask(classes: NDArray[np.uint8], ending: str) -> str:
    """Write class indices (H, W) as a picture without loss; gives its place, a new file of its own.

    Raises:
        RefusalError: for an ending under which a mask would lose or change its numbers.
    """
    if ending.lower() not in MASK_ENDINGS:
        raise RefusalError(BAD, f"a mask cannot be written as {ending!r}; ask for one of {', '.join(MASK_ENDINGS)}")
    place = _place(ending)
    Image.fromarray(classes).save(place)
    return place


def write_polygons(form: str, annotations: Sequence[Annotation], subject: Subject) -> tuple[str | None, dict[str, Any]]:
    """Write outlines in a viewer's format.

    Returns:
        Place of the file, ``None`` for plain JSON; and the JSON that goes with it.
    """
    name = f"{subject.model}: {len(annotations)} outlines in {list(subject.box)}"
    document = contours_document(annotations, subject.colors, subject.box[:2], subject.box[2:])
    document |= {"name": name, "description": subject.description, "model": subject.model}
    if form == "asap":
        place = _place(".xml")
        write_asap(place, annotations, subject.colors, name, subject.description, subject.model, subject.box)
    elif form == "dsa":
        place = _place(".json")
        text = json.dumps(dsa_document(annotations, subject.colors, name, subject.description))
        Path(place).write_text(text, encoding="utf-8")
    elif form == "geojson":
        place = _place(".geojson")
        with GeoJSONWriter(place) as writer:
            for annotation in annotations:
                writer.write(feature(annotation.shape, annotation.name, subject.colors[annotation.name]))
    else:
        return None, document
    return place, document


def _place(ending: str) -> str:
    """A new empty file that the server removes when it has sent it."""
    with tempfile.NamedTemporaryFile(suffix=ending, prefix="answer_", delete=False) as file:
        return file.name
