"""What every output of inference has in common: its name beside the mask, and the record of one picture."""

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

from bundle.inference.files import hidden_until_done
from bundle.types import FILES, IMAGE

Record = dict[Hashable, Any]
"""One picture after inference: the network's input, its scores (C, W, H), and whatever stands beside them."""


class Output(Transform, ABC):
    """A file that is written for each picture: NAME_POSTFIX.SUFFIX, where the mask is NAME_mask.png.

    The file appears whole or not at all. Its path is added to the record's ``files``; all else of the record stays as
    it is. An output that is there already, because two overlays ask for it, is not written again.

    Args:
        output_dir: folder of the file; made where it is missing.
        postfix: what the name gets.
        suffix: how the name ends, with its dot.
        key: scores (C, W, H) of the picture, at its own size, width first as MONAI's readers have it.
    """

    settings: Mapping[str, Any] = {}
    """What makes its files others, beside the prediction; plain values."""

    def __init__(self, output_dir: str | os.PathLike[str], postfix: str, suffix: str, key: Hashable) -> None:
        self.layout = FolderLayout(output_dir, postfix, suffix)
        self.key = key

    def __call__(self, data: Mapping[Hashable, Any]) -> Record:
        """Write the file and give a copy of the record that names it.

        Raises:
            OSError: where the file cannot be written, for instance on a full disk; names it.
        """
        record = dict(data)
        path = Path(self.layout.filename(source_of(record)))
        written = record.get(FILES, [])
        if not any(Path(name).with_suffix("") == path.with_suffix("") for name in written):
            record = self.prepared(record)
            record[FILES] = [*written, str(self.write(record, path))]
        return record

    def prepared(self, record: Record) -> Record:
        """The record with what the file needs; one that further outputs may find there."""
        return record

    @abstractmethod
    def write(self, record: Record, path: Path) -> Path:
        """Write the file, and give its path, which may end in another suffix than ``path``."""


def source_of(record: Mapping[Hashable, Any]) -> str:
    """Path of the picture that a record is of."""
    return str(record[IMAGE].meta["filename_or_obj"])


def microns_of(record: Mapping[Hashable, Any], override: float | None) -> float | None:
    """Side of a pixel of the picture in um, ``None`` where nobody knows.

    Args:
        record: its image has ``mpp`` among its metadata where its data list told it.
        override: um/px for all pictures, whatever their lists say.
    """
    told = override if override is not None else record[IMAGE].meta.get("mpp")
    return None if told is None else float(told)


def planes(maps: torch.Tensor) -> NDArray[np.float32]:
    """Maps (C, W, H) as an array (C, H, W), as files have it."""
    return np.ascontiguousarray(maps.detach().as_subclass(torch.Tensor).float().cpu().numpy().swapaxes(1, 2))


def probabilities(scores: torch.Tensor) -> NDArray[np.float32]:
    """Probability of each class (C, H, W) of scores (C, W, H), which may be logits or log-probabilities."""
    return planes(scores.as_subclass(torch.Tensor).float().softmax(dim=0))


def picture_of(record: Mapping[Hashable, Any], reader: Any) -> NDArray[np.uint8]:
    """The picture (H, W, 3) uint8 as its file has it.

    Args:
        record: of the picture.
        reader: MONAI's ``ImageReader`` for such files, which gives (W, H, 3).
    """
    pixels, _ = reader.get_data(reader.read(source_of(record)))
    return np.asarray(pixels, np.uint8).swapaxes(0, 1).copy()


def write_picture(pixels: NDArray[Any], path: Path) -> Path:
    """Write (H, W) or (H, W, 3) to a PNG, whole or not at all, and give its path.

    Raises:
        OSError: where it cannot be written; names it.
    """
    with hidden_until_done(path) as place:
        Image.fromarray(pixels).save(place)
    return path
