"""Picture that compares the masks of several methods with the ground truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bundle.handlers import drawing


def draw_comparison(
    entries: Sequence[Mapping[str, Any]], masks: Mapping[str, Path], path: Path, width: int | None = None
) -> None:
    """Draw a row for each image: the image, and ground truth and prediction of each method as contours.

    Args:
        entries: entries of a data list, with ``image`` and ``label``.
        masks: method -> folder with a file NAME_mask.png for each image.
        path: output PNG.
        width: width of an image in the picture, px; by default that of the first image.

    Raises:
        FileNotFoundError: if a mask is missing.
    """
    rows = []
    for entry in entries:
        name = Path(entry["image"]).stem
        photo, truth = _read(entry["image"]), _read(entry["label"]) > 0
        width = width or photo.shape[1]
        size = (round(photo.shape[0] * width / photo.shape[1]), width)
        small, small_truth = drawing.resized(photo, size), drawing.resized(truth, size)
        pictures, scores = [small], []
        for method, folder in masks.items():
            predicted = _read(folder / f"{name}_mask.png") > 0
            overlap = 2 * (predicted & truth).sum() / max(predicted.sum() + truth.sum(), 1)
            scores.append(f"{method} {overlap:.3f}")
            pictures.append(drawing.compared(small, drawing.resized(predicted, size), small_truth))
        rows.append((f"{name}    Dice: {', '.join(scores)}", pictures))
    sheet = drawing.sheet("test tiles", ("image", *masks), rows, width or 0)
    drawing.in_palette(sheet).save(path, optimize=True)


def _read(path: str | Path) -> np.ndarray:
    """Read an RGB image (H, W, 3) or a label map (H, W)."""
    with Image.open(path) as picture:
        return np.asarray(picture)
