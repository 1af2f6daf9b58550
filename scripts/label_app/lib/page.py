"""The labeling page: its files, and the requests that only it sends. All others are those of other viewers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import APIRouter, Depends
from fastapi.responses import FileResponse, JSONResponse, Response
from lib.annotation import Annotation, read_annotations
from lib.label_versions import label_version
from lib.picture_tiles import SIDE, file_stamp, open_picture
from lib.request_errors import NOT_FOUND, RefusalError, refusing
from lib.uploads import OUTLINES, check_tag, ending_of, resolution
from monailabel.config import settings
from monailabel.endpoints.user.auth import RBAC
from monailabel.interfaces.utils.app import app_instance

from bundle.data import read_label
from bundle.inference.geojson import feature
from bundle.inference.polygons import pieces

FILES = Path(__file__).resolve().parents[1] / "page" / "dist"
"""The built page, made by ``npm run build`` in the folder ``page``."""
KINDS = {"index.html": "text/html", "page.js": "text/javascript", "page.css": "text/css", "LICENSES.txt": "text/plain"}
HEADERS = {
    "Cache-Control": "no-cache",  # browsers ask whether the file has changed
    "Content-Security-Policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' blob: data:; "
    "frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
}
YEAR = 365 * 24 * 3600
"""Seconds that a browser may keep a tile; its address changes with the file."""
UNCLASSIFIED = [128, 128, 128]
SIMPLIFY = 0.5
"""Maximum distance of the outline of a mask from the edges of its pixels, px."""
TRUSTED = [Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER))]

router = APIRouter(tags=["Page"])


@router.get("/", include_in_schema=False)
def page() -> Response:
    """Return the page; it has no data, so it needs no token."""
    return page_file("index.html")


@router.get("/page/{name}", include_in_schema=False)
def page_file(name: str) -> Response:
    """Return a file of the page.

    Raises:
        RefusalError: 404 if there is none.
    """
    if name not in KINDS:
        raise RefusalError(NOT_FOUND, f"the page has no file {name[:80]!r}")
    return FileResponse(FILES / name, media_type=KINDS[name], headers=HEADERS)


@router.get("/view/image", summary="Size and zoom levels of an image", dependencies=TRUSTED)
def view_image(image: str) -> dict[str, Any]:
    """Return what a viewer must know of an image: its size, zoom levels, um/px, and the classes of outlines."""
    path, instance = _path(image), app_instance()
    with refusing():
        picture = open_picture(path)
        stored = instance.datastore().get_image_info(image).get("mpp")
        mpp = resolution(path, stored, instance.default_mpp) or picture.mpp
    known = {"side": SIDE, "first": picture.first, "deepest": picture.deepest, "slide": picture.is_slide, "mpp": mpp}
    return known | {
        "width": picture.size[0],
        "height": picture.size[1],
        "stamp": file_stamp(path),
        "bytes": os.path.getsize(path),
        "classes": instance.colors,
    }


@router.get("/view/tile", summary="Tile of an image as JPEG", dependencies=TRUSTED)
def view_tile(image: str, level: int, x: int, y: int) -> Response:
    """Return a tile of a zoom level."""
    with refusing():
        tile = open_picture(_path(image)).tile(level, x, y)
    return Response(tile, media_type="image/jpeg", headers={"Cache-Control": f"private, max-age={YEAR}"})


@router.get("/view/label", summary="Label of an image as GeoJSON", dependencies=TRUSTED)
def view_label(image: str, tag: str = "final") -> Response:
    """Return a label of any format as GeoJSON with its ``version``, empty if there is none."""
    check_tag(tag)
    _path(image)
    instance = app_instance()
    path = instance.datastore().get_label_uri(image, tag)
    annotations: list[Annotation] = []
    if path and os.path.isfile(path):
        with refusing():
            annotations = _annotations(path, list(instance.colors))
    features = [feature(item.shape, item.name, instance.colors.get(item.name, UNCLASSIFIED)) for item in annotations]
    return JSONResponse({"type": "FeatureCollection", "features": features, "version": label_version(path)})


def _annotations(path: str, names: list[str]) -> list[Annotation]:
    """Read outlines, or the outlines of a mask."""
    if ending_of(Path(path).name, OUTLINES):
        return read_annotations(path)
    mask = read_label(path, None if len(names) == 1 else len(names) + 1).pixels
    parts = pieces(mask.astype(np.int32), tolerance=SIMPLIFY)
    return [Annotation(names[0 if len(names) == 1 else item.value - 1], item.shape) for item in parts]


def _path(image: str) -> str:
    """Return the path of an image of the folder.

    Raises:
        RefusalError: 404 if there is none.
    """
    path = app_instance().datastore().get_image_uri(image)
    if not path or not os.path.isfile(path):
        raise RefusalError(NOT_FOUND, f"there is no image {image[:80]!r} in the folder; reload the list of images")
    return str(path)
