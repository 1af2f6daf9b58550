"""Maps that inference writes beside the mask: class probabilities and disagreement."""

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
from bundle.inference.outputs import Output, Record, load_picture, pixel_size_of, probabilities, to_numpy, write_picture
from bundle.utils import atomic_path

MICRONS_IN_CENTIMETER = 1e4


class SaveProbabilityd(Output):
    """Write NAME_probability.tif: float32 in [0, 1], one page for each class except background, in their order.

    Args:
        output_dir: folder of the file.
        class_names: names of the classes without background, for the descriptions of the pages.
        mpp: um/px of all pictures, for the resolution tag; ``None`` takes it from their data list.
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
            ValueError: if the number of names does not match the number of classes.
        """
        class_probabilities = probabilities(record[self.key])
        check_names(self.class_names, len(class_probabilities))
        texts = [f"probability of {name}, from 0 to 1" for name in self.class_names]
        return write_maps(class_probabilities[1:], texts, path, pixel_size_of(record, self.mpp))


class Disagreementd(Transform):
    """Dictionary transform that adds the map of disagreement; see :func:`consensus_entropy`.

    Args:
        scores_keys: keys of scores (C, W, H), of experts and gates, for the segmentation.
        distance_keys: keys of signed distances (1, W, H) in [-1, 1], positive inside; as many as ``scores_keys``. Each
            uses the gland classes of the scores at its position.
        target_key: key of the map.
    """

    def __init__(
        self, scores_keys: Sequence[Hashable], distance_keys: Sequence[Hashable], target_key: Hashable = "disagreement"
    ) -> None:
        self.scores_keys, self.distance_keys = list(scores_keys), list(distance_keys)
        self.target_key = target_key

    def __call__(self, data: Mapping[Hashable, Any]) -> Record:
        """Return a copy of the record with the map, (1, W, H) in [0, 1].

        Raises:
            KeyError: if the record lacks one of the maps.
        """
        record = dict(data)
        missing = [str(key) for key in (*self.scores_keys, *self.distance_keys) if key not in record]
        if missing:
            raise KeyError(
                f"no {', '.join(missing)} in the record, which has {sorted(map(str, record))}; the disagreement needs "
                "the outputs of experts and gates, see configs/inference/disagreement.yaml"
            )
        scores, distances = ([record[key][None] for key in keys] for keys in (self.scores_keys, self.distance_keys))
        record[self.target_key] = consensus_entropy(scores, distances)[0]
        return record


class SaveDisagreementd(Output):
    """Write NAME_disagreement.tif: float32, 0 where all heads are certain of the same class, 1 at maximum entropy.

    Args:
        output_dir: folder of the file.
        mpp: um/px of all pictures, for the resolution tag; ``None`` takes it from their data list.
        key: map (1, W, H), as :class:`Disagreementd` adds it.
    """

    def __init__(
        self, output_dir: str | os.PathLike[str], mpp: float | None = None, key: Hashable = "disagreement"
    ) -> None:
        super().__init__(output_dir, "disagreement", ".tif", key)
        self.mpp = mpp

    def write(self, record: Record, path: Path) -> Path:
        """Write the map."""
        text = "disagreement, from 0 (all heads are certain of the same class) to 1 (maximum entropy)"
        return write_maps(to_numpy(record[self.key]), [text], path, pixel_size_of(record, self.mpp))


class SaveUncertaintyd(Output):
    """Write NAME_doubt.png: the picture in gray, with uncertain pixels in color.

    Args:
        output_dir: folder of the file.
        reader: MONAI ``ImageReader`` for the pictures; returns (W, H, 3).
        color: red, green, blue at a disagreement of 1, each 0 to 255.
        power: the opacity of the color is the value of the map to this power, above 0. Entropy rises fast: it is 0.81
            at a mean probability of 0.75, so a higher power shows only the most uncertain pixels.
        key: map (1, W, H) in [0, 1].

    Raises:
        ValueError: if ``power`` is not above 0.
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
        """Write the overlay."""
        opacity = to_numpy(record[self.key])[0][..., None] ** self.power
        gray = load_picture(record, self.reader).mean(axis=2, keepdims=True, dtype=np.float32)
        return write_picture((gray + opacity * (self.color - gray)).round().astype(np.uint8), path)


def write_maps(maps: NDArray[np.float32], texts: Sequence[str], path: Path, mpp: float | None) -> Path:
    """Write maps to a TIFF atomically and return its path.

    Args:
        maps: (pages, H, W).
        texts: description of each page; ASCII only.
        path: path of the file.
        mpp: um/px, for the resolution tag; ``None`` leaves it out.

    Raises:
        OSError: if the file cannot be written; with its path.
    """
    size = None if mpp is None else (MICRONS_IN_CENTIMETER / mpp,) * 2
    with atomic_path(path, path.suffix, clean=True) as temporary, tifffile.TiffWriter(temporary) as file:
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
    """Check that there is one name for each class of the scores without background.

    Raises:
        ValueError: if not.
    """
    if len(class_names) != classes - 1:
        raise ValueError(
            f"class_names has {len(class_names)} names ({', '.join(class_names)}), but the network predicts "
            f"{classes - 1} classes without background; give each class a name"
        )
