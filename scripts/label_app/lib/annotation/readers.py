"""Reading of annotation files in all supported formats."""

from __future__ import annotations

import json
import logging
import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .asap import read_asap
from .dsa import read_dsa
from .geojson import read_geojson
from .shapes import Annotation, AnnotationError

UNCLASSIFIED = "Unclassified"
"""QuPath's name for objects without a class."""
MEBIBYTE = 2**20

logger = logging.getLogger(__name__)


def read_annotations(
    path: str | os.PathLike[str],
    default_name: str = UNCLASSIFIED,
    max_bytes: int = 64 * MEBIBYTE,
    max_seconds: float = 60.0,
) -> list[Annotation]:
    """Read annotations from ASAP XML, GeoJSON (as QuPath exports it) or the JSON of HistomicsUI.

    Open rings are closed, and rings that cross or touch themselves are read by even-odd filling. Objects without an
    area, such as points and lines, are left out; their number is logged at the level INFO.

    Args:
        path: path of the file; its format is detected from its content.
        default_name: label of objects without one.
        max_bytes: maximum size of the file.
        max_seconds: maximum computing time, which many tangled outlines would exceed; time of other threads, and of
            waiting for them, does not count. One outline takes a few seconds at most (``crossings``).

    Returns:
        Annotations in the order of the file, each with a valid shape and an area.

    Raises:
        AnnotationError: if the file has another format, is too large or takes too long, or a ring has fewer than three
            points, coordinates that are not finite, or too many crossings; with the path.
        OSError: if the file cannot be read.
    """
    with Path(path).open("rb") as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        limit = f"{max_bytes / MEBIBYTE:g} MiB"
        raise AnnotationError(f"{path} is larger than {limit}; export fewer objects, or raise the limit")
    left_out: Counter[str] = Counter()
    try:
        annotations = []
        end = time.thread_time() + max_seconds
        for annotation in _parse(data, default_name, left_out):
            annotations.append(annotation)
            if time.thread_time() > end:
                raise AnnotationError(
                    f"the first {len(annotations)} objects took more than {max_seconds:g} s; simplify the outlines, or "
                    "export fewer"
                )
    except AnnotationError as error:
        raise AnnotationError(f"{path} cannot be read: {error}") from error
    except RecursionError as error:
        raise AnnotationError(f"{path} cannot be read: it is nested too deeply; export it again") from error
    if left_out:
        counts = ", ".join(f"{count} {kind}" for kind, count in sorted(left_out.items()))
        logger.info("%s: left out %d objects without an area: %s", path, left_out.total(), counts)
    return annotations


def _parse(data: bytes, default_name: str, left_out: Counter[str]) -> Iterator[Annotation]:
    """Yield the annotations of a file; its first character decides the format."""
    start = data[:64].lstrip(b"\xef\xbb\xbf\xff\xfe\x00 \t\r\n")[:1]
    if start == b"<":
        yield from read_asap(data, default_name, left_out)
    elif start in (b"{", b"["):
        yield from _parse_json(data, default_name, left_out)
    else:
        raise AnnotationError("it is neither XML nor JSON; export it from the viewer as ASAP XML or GeoJSON")


def _parse_json(data: bytes, default_name: str, left_out: Counter[str]) -> Iterator[Annotation]:
    """Yield the annotations of a JSON document, or of a list of documents."""
    try:
        content: Any = json.loads(data)
    except ValueError as error:
        raise AnnotationError(f"it is not JSON ({error}); export it from the viewer again") from error
    documents = content if isinstance(content, list) else [content]
    if documents and all(map(_is_dsa, documents)):
        for document in documents:
            yield from read_dsa(document, default_name, left_out)
    elif isinstance(content, list):
        yield from read_geojson({"type": "FeatureCollection", "features": content}, default_name, left_out)
    elif isinstance(content, dict) and "type" in content:
        yield from read_geojson(content, default_name, left_out)
    else:
        raise AnnotationError("it holds neither features nor elements; export it from the viewer as GeoJSON")


def _is_dsa(document: Any) -> bool:
    """Return whether a document is an annotation of the Digital Slide Archive."""
    return isinstance(document, dict) and ("elements" in document or isinstance(document.get("annotation"), dict))
