"""Benchmark of the check of a data list: images with their masks a second, by number of threads.

    python scripts/benchmark_check.py --tiles 200 --workers 1 2
    python scripts/benchmark_check.py --list DIR/heldout_10_seed0.json

Without a list, tiles of the size of GlaS are drawn into a folder that is taken away at the end. Wall time is that of
a busy machine where others work on it; processor time is not, and 1 / it is what one free core could do.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from bundle.data.check import check_list
from bundle.data.check_findings import find_faults
from bundle.data.check_report import table
from bundle.data.phantom_draw import draw_tile
from bundle.data.writing import save_image, save_label, write_lists

SIZE = (522, 775)
"""Height and width of most images of GlaS, px."""
DRAWN = 8
"""Tiles that are drawn; the others are these, rolled to other places, so that no two are alike."""


def write_tiles(folder: Path, count: int) -> Path:
    """Write ``count`` images and masks and their list; gives the path of the list."""
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
    held = max(count // 4, 1)
    write_lists(folder, {"tiles.json": {"training": entries[held:], "validation": [], "test": entries[:held]}})
    return folder / "tiles.json"


def measure(path: Path, workers: int) -> tuple[int, float, float]:
    """Entries of the list, wall time and processor time of its check, s; report included."""
    wall, processor = time.perf_counter(), time.process_time()
    checked = check_list(path, workers=workers)
    table(checked, find_faults(checked, crop=(256, 256), pixel_size=1.0))
    return len(checked.entries), time.perf_counter() - wall, time.process_time() - processor


def main() -> None:
    """Read the command line and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", type=Path, help="data list to check instead of drawn tiles")
    parser.add_argument("--tiles", type=int, default=200, help="how many tiles to draw")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="numbers of threads")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each; the fastest counts")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = options.list or write_tiles(Path(folder), options.tiles)
        measure(path, max(options.workers))  # files into memory, modules loaded
        for workers in options.workers:
            runs = [measure(path, workers) for _ in range(options.repeats)]
            count, wall, _ = min(runs, key=lambda run: run[1])
            processor = min(run[2] for run in runs)
            print(
                f"{workers} threads: {count / wall:.1f} tiles/s; "
                f"processor time {1000 * processor / count:.1f} ms a tile ({count} tiles, fastest of {options.repeats})"
            )


if __name__ == "__main__":
    main()
