"""Benchmark the check of a data list: images with masks per second, for several numbers of threads.

    python scripts/dev/benchmark_check.py --tiles 200 --workers 1 2
    python scripts/dev/benchmark_check.py --list DIR/heldout_10_seed0.json

Without a list, tiles of the size of GlaS images are drawn into a temporary folder. Wall time depends on the load of the
machine; 1 / CPU time is the speed of one free core.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from bundle.data.phantom import draw_tile
from scripts.data_preparation.folder_writer import save_image, save_label, write_lists
from scripts.dataset_check.checked_list import check_list
from scripts.dataset_check.findings import find_faults
from scripts.dataset_check.report import table

SIZE = (522, 775)
"""Height and width of most GlaS images, px."""
DRAWN = 8
"""Number of drawn tiles; the others are shifted copies, so that all differ."""


def write_tiles(folder: Path, count: int) -> Path:
    """Write ``count`` images and masks and a data list; return the path of the list."""
    (folder / "image").mkdir()
    (folder / "label").mkdir()
    drawn = [draw_tile([0, number], SIZE, mpp=0.62) for number in range(min(count, DRAWN))]
    entries = []
    for number in range(count):
        image, label = drawn[number % DRAWN]
        entry = {key: f"{key}/tile_{number:05d}.png" for key in ("image", "label")}
        save_image(np.roll(image, number // DRAWN, axis=1), folder / entry["image"])
        save_label(np.roll(label, number // DRAWN, axis=1), folder / entry["label"])
        entries.append({**entry, "mpp": 0.62})
    tests = max(count // 4, 1)
    write_lists(folder, {"tiles.json": {"training": entries[tests:], "validation": [], "test": entries[:tests]}})
    return folder / "tiles.json"


def measure(path: Path, workers: int) -> tuple[int, float, float]:
    """Return the number of entries, and wall time and CPU time of check and report, s."""
    wall, processor = time.perf_counter(), time.process_time()
    checked = check_list(path, workers=workers)
    table(checked, find_faults(checked, crop=(256, 256), pixel_size=1.0))
    return len(checked.entries), time.perf_counter() - wall, time.process_time() - processor


def main() -> None:
    """Read the command line and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", type=Path, help="data list to check (default: draw tiles)")
    parser.add_argument("--tiles", type=int, default=200, help="number of drawn tiles (default: 200)")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="numbers of threads (default: 1 2)")
    parser.add_argument("--repeats", type=int, default=3, help="runs per number of threads; the fastest counts")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = options.list or write_tiles(Path(folder), options.tiles)
        measure(path, max(options.workers))  # warm-up: caches files and imports modules
        for workers in options.workers:
            runs = [measure(path, workers) for _ in range(options.repeats)]
            count, wall, _ = min(runs, key=lambda run: run[1])
            processor = min(run[2] for run in runs)
            print(
                f"{workers} threads: {count / wall:.1f} tiles/s; "
                f"CPU time {1000 * processor / count:.1f} ms per tile ({count} tiles, fastest of {options.repeats})"
            )


if __name__ == "__main__":
    main()
