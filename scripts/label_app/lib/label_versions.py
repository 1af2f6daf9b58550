"""Versions of labels: two people who work on one image do not replace each other's label unseen."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from lib.request_errors import CONFLICT, RefusalError


def label_version(path: str) -> str:
    """Return a short text that identifies the content of a label; empty if there is none."""
    if not path or not os.path.isfile(path):
        return ""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]


def check_replaced(info: dict[str, Any], path: str, name: str) -> dict[str, Any]:
    """Check that a label is still the one that its annotator saw, ``replaces`` of its metadata, if that is given.

    Args:
        info: metadata of the new label.
        path: path of the label that is replaced, if there is one.
        name: name of the image.

    Returns:
        The metadata without ``replaces``.

    Raises:
        RefusalError: 409 if somebody else has saved another label.
    """
    if info.get("replaces", label_version(path)) != label_version(path):
        raise RefusalError(CONFLICT, f"somebody else has saved a label of {name} meanwhile; load it, or replace it")
    return {key: value for key, value in info.items() if key != "replaces"}
