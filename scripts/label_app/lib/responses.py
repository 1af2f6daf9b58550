"""Response files for viewers: a mask as an image, or glands as polygons in the format of the viewer."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from lib.annotation import Annotation, contours_document, dsa_document, write_asap
from lib.request_errors import BAD, RefusalError
from numpy.typing import NDArray
from PIL import Image

from bundle.inference.geojson import GeoJSONWriter, feature

FORMATS = ("image", "json", "all", "asap", "dsa", "geojson")
"""``image`` is a mask; ``json`` and ``all`` include contours in CVAT's format."""
POLYGONS = ("json", "asap", "dsa", "geojson")
MASK_ENDINGS = (".png", ".tif", ".tiff", ".bmp")


@dataclass(frozen=True)
class Subject:
    """Context of a response.

    Attributes:
        model: name of the model.
        description: description of the model.
        colors: class name -> RGB in [0, 255].
        box: (x, y, width, height), px of the full resolution.
    """

    model: str
    description: str
    colors: Mapping[str, Sequence[int]]
    box: tuple[int, int, int, int]


def write_mask(classes: NDArray[np.uint8], ending: str) -> str:
    """Write class indices (H, W) to a new lossless image file and return its path.

    Raises:
        RefusalError: if the format of ``ending`` would change the values.
    """
    if ending.lower() not in MASK_ENDINGS:
        raise RefusalError(BAD, f"a mask cannot be written as {ending!r}; choose one of {', '.join(MASK_ENDINGS)}")
    path = _new_file(ending)
    Image.fromarray(classes).save(path)
    return path


def write_polygons(form: str, annotations: Sequence[Annotation], subject: Subject) -> tuple[str | None, dict[str, Any]]:
    """Write outlines in a viewer's format.

    Returns:
        Path of the file, or ``None`` for plain JSON; and the JSON of the response.
    """
    name = f"{subject.model}: {len(annotations)} outlines in {list(subject.box)}"
    document = contours_document(annotations, subject.colors, subject.box[:2], subject.box[2:])
    document |= {"name": name, "description": subject.description, "model": subject.model}
    if form == "asap":
        path = _new_file(".xml")
        write_asap(path, annotations, subject.colors, name, subject.description, subject.model, subject.box)
    elif form == "dsa":
        path = _new_file(".json")
        text = json.dumps(dsa_document(annotations, subject.colors, name, subject.description))
        Path(path).write_text(text, encoding="utf-8")
    elif form == "geojson":
        path = _new_file(".geojson")
        with GeoJSONWriter(path) as writer:
            for annotation in annotations:
                writer.write(feature(annotation.shape, annotation.name, subject.colors[annotation.name]))
    else:
        return None, document
    return path, document


def _new_file(ending: str) -> str:
    """Create an empty file, which the server removes after sending it, and return its path."""
    with tempfile.NamedTemporaryFile(suffix=ending, prefix="answer_", delete=False) as file:
        return file.name
