"""Base class of the files that inference writes, and functions on the record of one picture."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import FolderLayout
from monai.transforms.transform import Transform
from numpy.typing import NDArray
from PIL import Image

from bundle.types import FILES, IMAGE
from bundle.utils import atomic_path

Record = dict[Hashable, Any]
"""One picture after inference: the network's input, its scores (C, W, H), and other maps."""


class Output(Transform, ABC):
    """Transform that writes one file for each picture: NAME_POSTFIX.SUFFIX, where the mask is NAME_mask.png.

    The file is written atomically. Its path is added to ``files`` of the record. An output that two overlays ask for
    is written once.

    Args:
        output_dir: folder of the file; created if missing.
        postfix: added to the name of the picture.
        suffix: suffix of the file, with its dot.
        key: scores (C, W, H) of the picture at its own size; width first, as MONAI's readers return images.

    Attributes:
        endings: what the name of the file has after that of its picture; several if it depends on the content.
    """

    settings: Mapping[str, Any] = {}
    """Settings that change the content of the file, as plain values."""

    def __init__(self, output_dir: str | os.PathLike[str], postfix: str, suffix: str, key: Hashable) -> None:
        self.layout = FolderLayout(output_dir, postfix, suffix)
        self.endings = [f"_{postfix}{suffix}" if postfix else suffix]
        self.key = key

    def __call__(self, data: Mapping[Hashable, Any]) -> Record:
        """Write the file and return a copy of the record with its path.

        Raises:
            OSError: if the file cannot be written, for example on a full disk; with its path.
        """
        record = dict(data)
        path = Path(self.layout.filename(picture_path(record)))
        written = record.get(FILES, [])
        if not any(Path(name).with_suffix("") == path.with_suffix("") for name in written):
            record = self.prepare(record)
            record[FILES] = [*written, str(self.write(record, path))]
        return record

    def prepare(self, record: Record) -> Record:
        """Return the record with the maps that the file needs; later outputs can use them too."""
        return record

    @abstractmethod
    def write(self, record: Record, path: Path) -> Path:
        """Write the file and return its path, whose suffix may differ from that of ``path``."""


def picture_path(record: Mapping[Hashable, Any]) -> str:
    """Return the path of the picture of a record."""
    return str(record[IMAGE].meta["filename_or_obj"])


def pixel_size_of(record: Mapping[Hashable, Any], override: float | None) -> float | None:
    """Return the pixel size of the picture in um/px, ``None`` if it is unknown.

    Args:
        record: its image has ``mpp`` in its metadata if its data list gives it.
        override: um/px for all pictures, in place of that of their lists.
    """
    mpp = override if override is not None else record[IMAGE].meta.get("mpp")
    return None if mpp is None else float(mpp)


def to_numpy(maps: torch.Tensor) -> NDArray[np.float32]:
    """Convert maps (C, W, H) to a numpy array (C, H, W), the order of axes in files."""
    return np.ascontiguousarray(maps.detach().as_subclass(torch.Tensor).float().cpu().numpy().swapaxes(1, 2))


def probabilities(scores: torch.Tensor) -> NDArray[np.float32]:
    """Return the class probabilities (C, H, W) of scores (C, W, H), which may be logits or log-probabilities."""
    return to_numpy(scores.as_subclass(torch.Tensor).float().softmax(dim=0))


def load_picture(record: Mapping[Hashable, Any], reader: Any) -> NDArray[np.uint8]:
    """Read the picture of a record from its file, (H, W, 3) uint8.

    Args:
        record: record of the picture.
        reader: MONAI ``ImageReader`` for such files; returns (W, H, 3).
    """
    pixels, _ = reader.get_data(reader.read(picture_path(record)))
    return np.asarray(pixels, np.uint8).swapaxes(0, 1).copy()


def write_picture(pixels: NDArray[Any], path: Path) -> Path:
    """Write pixels (H, W) or (H, W, 3) to a PNG atomically and return its path.

    Raises:
        OSError: if the file cannot be written; with its path.
    """
    with atomic_path(path, path.suffix, clean=True) as temporary:
        Image.fromarray(pixels).save(temporary)
    return path
