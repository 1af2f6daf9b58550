"""Removal of the server's folders from responses: clients need names only, and paths expose details of the server."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

from monailabel.config import settings

ROOT = Path(__file__).resolve().parents[3]
SEPARATORS = ("/", "\\")


def without_paths(content: Any) -> Any:
    """Return a response with paths relative to the folders of the server.

    Args:
        content: content of a JSON response: dicts, lists, texts and numbers.
    """
    if isinstance(content, str):
        return _pattern(tuple(_folders())).sub(_shortened, content)
    if isinstance(content, dict):
        # A copy, because another request may change the server's own dictionary meanwhile.
        return {without_paths(key): without_paths(value) for key, value in list(content.items())}
    if isinstance(content, (list, tuple)) and not (content and isinstance(content[0], int | float)):
        return [without_paths(item) for item in content]
    return content


def _folders() -> list[str]:
    """Return the folders of the server, with links resolved and not."""
    conf = settings.MONAI_LABEL_APP_CONF
    named = [settings.MONAI_LABEL_STUDIES, settings.MONAI_LABEL_APP_DIR, conf.get("bundle"), conf.get("model_dir")]
    named += [str(ROOT), tempfile.gettempdir(), sys.prefix, sys.base_prefix, str(Path.home()), os.getcwd()]
    local = [folder for folder in named if folder and "://" not in folder]
    folders = {folder.rstrip("/\\") for path in local for folder in (os.path.abspath(path), os.path.realpath(path))}
    return sorted((folder for folder in folders if len(folder) > 2), key=lambda folder: (-len(folder), folder))


@lru_cache(maxsize=4)
def _pattern(folders: tuple[str, ...]) -> re.Pattern[str]:
    """Return a pattern of whole paths of folders, with the separator after it."""
    alternatives = "|".join(map(re.escape, folders))
    return re.compile(rf"(?<![\w.\\/-])(?:{alternatives})(?:[\\/]|(?![\w.-]))")


def _shortened(match: re.Match[str]) -> str:
    return "" if match[0].endswith(SEPARATORS) else Path(match[0]).name
