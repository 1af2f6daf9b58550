"""Maps of numbers beside the mask: how probable a gland is at each pixel, and how far the opinions go apart."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from monai.transforms.transform import Transform
from numpy.typing import NDArray

from bundle.inference.disagreement import consensus_entropy
from bundle.inference.files import hidden_until_done
from bundle.inference.outputs import Output, Record, microns_of, picture_of, planes, probabilities, write_picture

MICRONS_IN_CENTIMETER = 1e4


class SaveProbabilityd(Output):
    """Writes NAME_probability.tif: float32 in [0, 1], a page for each class but background, in their order.

    Args:
        output_dir: folder of the file.
        class_names: of the classes but background; they stand in the description of the pages.
        mpp: um/px of all pictures, for the file's resolution; ``None`` takes it from their data list.
        key: scores (C, W, H).
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        class_names: Sequence[str],
        mpp: float | None = None,
        key: Hashable = "pred",
    ) -> None:
        super().__init__(output_dir, "probability", ".tif", key)
        self.class_names = list(class_names)
        self.mpp = mpp

    def write(self, record: Record, path: Path) -> Path:
        """Write the softmax of the scores.

        Raises:
            ValueError: where the scores have another number of classes than there are names.
        """
        chances = probabilities(record[self.key])
        check_names(self.class_names, len(chances))
        texts = [f"probability of {name}, from 0 to 1" for name in self.class_names]
        return write_maps(chances[1:], texts, path, microns_of(record, self.mpp))


class Disagreementd(Transform):
    """Dictionary transform that adds where not to trust the mask; see :func:`consensus_entropy`.

    Args:
        scores_keys: scores (C, W, H) of the experts and gates for the segmentation.
        distance_keys: signed distances (1, W, H) in [-1, 1], positive inside, as many; each shares its classes with
            the scores of the same place.
        target_key: where the map goes.
    """

    def __init__(
        self, scores_keys: Sequence[Hashable], distance_keys: Sequence[Hashable], target_key: Hashable = "disagreement"
    ) -> None:
        self.scores_keys, self.distance_keys = list(scores_keys), list(distance_keys)
        self.target_key = target_key

    def __call__(self, data: Mapping[Hashable, Any]) -> Record:
        """Give a copy of the record with the map, (1, W, H) in [0, 1].

        Raises:
            KeyError: where the record lacks one of the maps.
        """
        record = dict(data)
        missing = [str(key) for key in (*self.scores_keys, *self.distance_keys) if key not in record]
        if missing:
            raise KeyError(
                f"no {', '.join(missing)} in the record, which has {sorted(map(str, record))}; the disagreement needs "
                "the answers of experts and gates, see configs/inference/disagreement.yaml"
            )
        scores, distances = ([record[key][None] for key in keys] for keys in (self.scores_keys, self.distance_keys))
        record[self.target_key] = consensus_entropy(scores, distances)[0]
        return record


class SaveDisagreementd(Output):
    """Writes NAME_disagreement.tif: float32, 0 where all opinions agree and are sure, 1 where they cancel out.

    Args:
        output_dir: folder of the file.
        mpp: um/px of all pictures, for the file's resolution; ``None`` takes it from their data list.
        key: the map (1, W, H), as :class:`Disagreementd` makes it.
    """

    def __init__(
        self, output_dir: str | os.PathLike[str], mpp: float | None = None, key: Hashable = "disagreement"
    ) -> None:
        super().__init__(output_dir, "disagreement", ".tif", key)
        self.mpp = mpp

    def write(self, record: Record, path: Path) -> Path:
        """Write the map."""
        text = "disagreement, from 0 (all agree and are sure) to 1 (no opinion is left)"
        return write_maps(planes(record[self.key]), [text], path, microns_of(record, self.mpp))


class SaveDoubtd(Output):
    """Writes NAME_doubt.png: the picture in gray, and over it in color where not to trust the mask.

    Args:
        output_dir: folder of the file.
        reader: MONAI's ``ImageReader`` for the pictures, which gives (W, H, 3).
        color: red, green, blue of full doubt, each 0 to 255.
        power: the share of the color at a pixel is the map's value to this power, above 0. Entropy rises fast: a
            mean opinion of 0.75 is at 0.81 already, so a higher power shows what is worst.
        key: the map (1, W, H) in [0, 1].

    Raises:
        ValueError: for another power.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        reader: Any,
        color: Sequence[int],
        power: float = 1.0,
        key: Hashable = "disagreement",
    ) -> None:
        super().__init__(output_dir, "doubt", ".png", key)
        if not power > 0:
            raise ValueError(f"power is {power!r}; it must be above 0")
        self.reader, self.color, self.power = reader, np.asarray(color, np.float32), power
        self.settings = {"color": list(color), "power": power}

    def write(self, record: Record, path: Path) -> Path:
        """Write the picture in gray with its veil."""
        doubt = planes(record[self.key])[0][..., None] ** self.power
        gray = picture_of(record, self.reader).mean(axis=2, keepdims=True, dtype=np.float32)
        return write_picture((gray + doubt * (self.color - gray)).round().astype(np.uint8), path)


def write_maps(maps: NDArray[np.float32], texts: Sequence[str], path: Path, mpp: float | None) -> Path:
    """Write maps to a TIFF, whole or not at all, and give its path.

    Args:
        maps: (pages, H, W).
        texts: what each page shows, in ASCII alone.
        path: of the file.
        mpp: um/px, for the resolution that viewers read; ``None`` leaves it out.

    Raises:
        OSError: where it cannot be written; names it.
    """
    size = None if mpp is None else (MICRONS_IN_CENTIMETER / mpp,) * 2
    with hidden_until_done(path) as place, tifffile.TiffWriter(place) as file:
        for plane, text in zip(maps, texts, strict=True):
            description = text.encode("ascii", "replace").decode()
            file.write(
                plane,
                photometric="minisblack",
                compression="zlib",
                description=description,
                metadata=None,
                resolution=size,
                resolutionunit="NONE" if size is None else "CENTIMETER",
            )
    return path


def check_names(class_names: Sequence[str], classes: int) -> None:
    """Refuse names that do not fit the scores.

    Raises:
        ValueError: says how many names there must be.
    """
    if len(class_names) != classes - 1:
        raise ValueError(
            f"class_names has {len(class_names)} names ({', '.join(class_names)}), but the network tells {classes - 1} "
            "classes beside background; give each its name"
        )
