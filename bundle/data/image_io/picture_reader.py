"""Reader of pictures and masks for MONAI's ``LoadImaged``."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.config import PathLike
from monai.data import ImageReader
from monai.utils import ensure_tuple
from monai.utils.enums import MetaKeys
from numpy.typing import NDArray

from bundle.data.image_io.pictures import is_picture, read_image, read_label

KINDS = ("image", "label")


class PictureReader(ImageReader):
    """Image reader for ``LoadImaged(reader=...)``, with the axis order of MONAI's ``PILReader``.

    Arrays are (W, H, 3) for images, RGB in [0, 255], and (W, H) for labels; ``SaveImage`` transposes them back. The
    first picture of each kind of conversion is logged, at level INFO.
    """

    def __init__(self, kind: str = "image", classes: int | None = None) -> None:
        """Make the reader.

        Args:
            kind: ``image`` or ``label``.
            classes: number of classes, background included, of labels whose values are classes.

        Raises:
            ValueError: if ``kind`` is unknown.
        """
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f"kind is {kind!r}; give one of {', '.join(KINDS)}")
        self.kind = kind
        self.classes = classes
        self._logged_notes: set[str] = set()

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        """Return whether all files are pictures by their suffix."""
        return all(is_picture(Path(name)) for name in ensure_tuple(filename))

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> tuple[Path, ...]:
        """Return only the paths: after an error here, ``LoadImage`` would silently try MONAI's own readers."""
        return tuple(Path(name) for name in ensure_tuple(data))

    def get_data(self, img: tuple[Path, ...]) -> tuple[NDArray[Any], dict[str, Any]]:
        """Decode a picture.

        Args:
            img: one path, as returned by ``read``.

        Returns:
            (W, H, 3), uint8, or (W, H), int32, and its ``spatial_shape`` and ``original_channel_dim``.

        Raises:
            FileNotFoundError: if the file does not exist.
            ValueError: if the file is damaged or invalid.
        """
        if len(img) != 1:
            raise ValueError(f"{len(img)} files are given for one picture ({img[0]} is the first); give one per entry")
        picture = read_image(img[0]) if self.kind == "image" else read_label(img[0], self.classes)
        self._log_conversion(picture.note, img[0])
        height, width = picture.pixels.shape[:2]
        meta: dict[str, Any] = {
            MetaKeys.SPATIAL_SHAPE: np.asarray((width, height)),
            MetaKeys.ORIGINAL_CHANNEL_DIM: -1 if self.kind == "image" else float("nan"),
        }
        return np.moveaxis(picture.pixels, 0, 1), meta

    def _log_conversion(self, note: str | None, path: Path) -> None:
        if note is not None and note not in self._logged_notes:
            self._logged_notes.add(note)
            logging.getLogger(__name__).info("%s: %s; further files are not logged", path, note)
