"""Benchmark the phantom: tiles per second on one core, and the Dice of global thresholds.

    OMP_NUM_THREADS=1 taskset -c 0 python scripts/dev/benchmark_phantom.py --tiles 60

The Dice coefficient is pooled over all tiles. Otsu thresholds are computed once for the whole set or for each tile, on
the red, green, blue, hematoxylin, eosin and residual channel, with glands above or below the threshold.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
from numpy.typing import NDArray
from skimage.color import rgb2hed
from skimage.filters import threshold_otsu

from bundle.data.phantom import DOMAINS, GRADES, draw_tile

CHANNELS = ("red", "green", "blue", "hematoxylin", "eosin", "residual")


def draw_set(count: int, side: int, mpp: float, seed: int) -> tuple[NDArray, NDArray]:
    """Draw ``count`` tiles of all grades and domains in turn: images (N, H, W, 3) and instances (N, H, W)."""
    tiles = []
    for number in range(count):
        grade, domain = GRADES[number % len(GRADES)], list(DOMAINS)[number // len(GRADES) % len(DOMAINS)]
        tile = draw_tile([seed, number], (side, side), grade=grade, domain=domain, mpp=mpp, patient_seed=number // 4)
        tiles.append(tile)
    return np.stack([image for image, _ in tiles]), np.stack([instances for _, instances in tiles])


def threshold_dice(images: NDArray, instances: NDArray) -> dict[str, float]:
    """Return the pooled Dice in [0, 1] of every channel, threshold rule and polarity."""
    channels = np.concatenate([images.astype(np.float64), rgb2hed(images)], axis=-1)
    truth = instances > 0
    scores = {}
    for index, name in enumerate(CHANNELS):
        channel = channels[..., index]
        each = np.array([threshold_otsu(tile) for tile in channel])[:, None, None]
        for rule, threshold in (("one", threshold_otsu(channel)), ("each", each)):
            for polarity, mask in (("above", channel > threshold), ("below", channel <= threshold)):
                scores[f"{name} {rule} {polarity}"] = float(2 * (mask & truth).sum() / (mask.sum() + truth.sum()))
    return scores


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiles", type=int, default=60, help="number of tiles (default: 60)")
    parser.add_argument("--side", type=int, default=256, help="height and width, px (default: 256)")
    parser.add_argument("--mpp", type=float, default=1.0, help="pixel size, um/px (default: 1.0)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the tiles (default: 0)")
    options = parser.parse_args()
    started = time.perf_counter()
    draw_tile(0, (options.side, options.side), mpp=options.mpp)
    print(f"first tile, including setup: {time.perf_counter() - started:.2f} s")
    started = time.process_time()
    images, instances = draw_set(options.tiles, options.side, options.mpp, options.seed)
    spent = time.process_time() - started
    print(f"{options.tiles / spent:.1f} tiles/s ({1000 * spent / options.tiles:.1f} ms per tile, CPU time)")
    share = float((instances > 0).mean())
    print(f"share of glands {share:.3f}; Dice of all-foreground masks {2 * share / (1 + share):.3f}")
    scores = threshold_dice(images, instances)
    for name in sorted(scores, key=scores.__getitem__, reverse=True)[:5]:
        print(f"Otsu Dice {scores[name]:.3f}  {name}")


if __name__ == "__main__":
    main()
