"""Draw test images with ground truth and the masks of several methods.

    python scripts/dev/draw_comparison.py --dataset_dir DIR --data_list heldout_10_seed1.json --every 20 \
        --masks supervised=FOLDER semi_moe_plus=FOLDER --picture docs/figures/glas.png

FOLDER holds NAME_mask.png files, such as CELL/evaluation/masks of a benchmark.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bundle.data import load_data_list
from scripts.reporting.comparison import draw_comparison


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program. Exit codes: 0 success, 1 error, 2 invalid command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_dir", required=True, type=Path, help="data folder")
    parser.add_argument("--data_list", required=True, help="data list in it; its part `test` is drawn")
    parser.add_argument("--every", type=int, default=1, help="draw every n-th image (default: 1)")
    parser.add_argument("--masks", nargs="+", required=True, metavar="METHOD=FOLDER", help="masks of each method")
    parser.add_argument("--width", type=int, default=320, help="width of an image in the picture, px (default: 320)")
    parser.add_argument("--picture", required=True, type=Path, help="output PNG")
    given = parser.parse_args(arguments)
    pairs = [word.partition("=") for word in given.masks]
    if given.every < 1 or any(not folder for _, _, folder in pairs):
        parser.error("--every must be at least 1, and --masks METHOD=FOLDER")
    try:
        entries = load_data_list(given.dataset_dir, given.data_list)["test"][:: given.every]
        draw_comparison(entries, {method: Path(folder) for method, _, folder in pairs}, given.picture, given.width)
    except (OSError, ValueError) as error:
        print(f"draw_comparison: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
