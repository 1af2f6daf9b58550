"""Benchmark the targets: CPU milliseconds to compute signed distance and boundary of one mask.

    python scripts/dev/benchmark_targets.py [--tiles FOLDER] [--size 256] [--repeats 20]

The masks are drawn (glands as random ellipses), or read from a folder of PNG, BMP or TIFF masks and resized to one
size. Time is the CPU time of the thread, so that other programs have little influence. The ratio compares with the
Semi-MoE authors' code, which takes 22.6 ms for both targets at 256 x 256.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Compose
from numpy.typing import NDArray
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bundle.transforms import Boundaryd, SignedDistanced

AUTHORS_MILLISECONDS = 22.6
SUFFIXES = {".png", ".bmp", ".tif", ".tiff"}


def drawn_masks(count: int, size: int, seed: int = 0) -> list[NDArray[np.int32]]:
    """Draw ``count`` instance masks (size, size) of 8 to 24 ellipses each, some of them touching."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size]
    masks = []
    for _ in range(count):
        mask = np.zeros((size, size), np.int32)
        for instance in range(1, int(generator.integers(8, 25)) + 1):
            row, column = generator.uniform(0, size, 2)
            long, short = generator.uniform(size / 20, size / 6, 2)
            angle = generator.uniform(0, np.pi)
            along = (columns - column) * np.cos(angle) + (rows - row) * np.sin(angle)
            across = (rows - row) * np.cos(angle) - (columns - column) * np.sin(angle)
            mask[(along / long) ** 2 + (across / short) ** 2 <= 1] = instance
        masks.append(mask)
    return masks


def read_masks(folder: Path, size: int) -> list[NDArray[np.int32]]:
    """Read the masks of a folder, resized to (size, size) by nearest neighbor."""
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES)
    if not files:
        raise SystemExit(f"no masks ({', '.join(sorted(SUFFIXES))}) in {folder}")
    masks = []
    for file in files:
        with Image.open(file) as image:
            resized = image.convert("I").resize((size, size), Image.Resampling.NEAREST)
        masks.append(np.array(resized, np.int32))
    return masks


def median_milliseconds(transform: Any, masks: list[NDArray[np.int32]], repeats: int) -> float:
    """Return the median time of ``transform`` over all masks, each a float32 MetaTensor (1, H, W) as in the loader."""
    records = [{"label": MetaTensor(torch.as_tensor(mask[None], dtype=torch.float32))} for mask in masks]
    transform(records[0])
    times = []
    for _ in range(repeats):
        for record in records:
            start = time.thread_time()
            transform(record)
            times.append(time.thread_time() - start)
    return 1000 * statistics.median(times)


def main() -> None:
    """Run the program and print one line for each mode."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiles", type=Path, help="folder of masks (default: draw masks)")
    parser.add_argument("--size", type=int, default=256, help="height and width of a mask, px (default: 256)")
    parser.add_argument("--repeats", type=int, default=20, help="measurements of each mask (default: 20)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    masks = read_masks(arguments.tiles, arguments.size) if arguments.tiles else drawn_masks(16, arguments.size)
    modes = {
        "both: clip, instances (default)": Compose([SignedDistanced(), Boundaryd()]),
        "both: maximum, binary (authors')": Compose([SignedDistanced(mode="maximum"), Boundaryd(instances=False)]),
        "signed distance, clip": SignedDistanced(),
        "signed distance, maximum": SignedDistanced(mode="maximum"),
        "boundary, instances": Boundaryd(),
        "boundary, binary": Boundaryd(instances=False),
    }
    print(f"{len(masks)} masks of {arguments.size} x {arguments.size}, one thread, median of {arguments.repeats} runs")
    for name, transform in modes.items():
        spent = median_milliseconds(transform, masks, arguments.repeats)
        faster = AUTHORS_MILLISECONDS / spent
        ratio = f"  {faster:5.1f} times as fast as the authors' code" if name.startswith("both") else ""
        print(f"{name:34s} {spent:6.2f} ms per mask{ratio}")


if __name__ == "__main__":
    main()
