"""Show statistics of the pseudo-labels in a benchmark: share of foreground and share of pixels with weight.

python scripts/dev/show_consistency.py --cells runs/first --methods mean_teacher cps
Pseudo-labels with 0 or 100 % foreground, or without any weighted pixel, do not train the network.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from scripts.reporting.cells import chosen, load_cells
from scripts.reporting.consistency import KINDS, consistency_table
from scripts.reporting.tables import markdown


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program. Exit codes: 0 success, 1 error, 2 invalid command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", required=True, type=Path, help="output folder of scripts/benchmark.py")
    parser.add_argument("--methods", nargs="+", default=[], help="methods to show (default: all)")
    parser.add_argument(
        "--kinds",
        nargs="+",
        default=["foreground", "counted"],
        choices=list(KINDS),
        help="statistics to show (default: foreground counted)",
    )
    given = parser.parse_args(arguments)
    try:
        print(markdown(consistency_table(chosen(load_cells(given.cells), given.methods), given.kinds)))
    except (OSError, ValueError) as error:
        print(f"show_consistency: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
