"""Program that draws the published splits of GlaS: names of images in bundle/data/glas_splits.json, from seeds.

Run: python scripts/make_splits.py --grades DIR/Grade.csv --output bundle/data/glas_splits.json
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bundle.data.glas import SPLITS, draw_glas_splits, read_grades


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; 0 is good, 1 an error that its last line explains."""
    parser = argparse.ArgumentParser(description="Draw the published splits of GlaS from its Grade.csv.")
    parser.add_argument("--grades", required=True, help="Grade.csv of the GlaS download")
    parser.add_argument("--output", default=str(SPLITS), help="file to write (default: the one in the bundle)")
    options = parser.parse_args(arguments)
    try:
        text = as_text(draw_glas_splits(read_grades(options.grades)))
        Path(options.output).write_text(text, encoding="utf-8")
    except (OSError, ValueError) as error:
        print(f"make_splits: {error}", file=sys.stderr)
        return 1
    print(f"wrote {options.output}")
    return 0


def as_text(splits: Mapping[str, Any]) -> str:
    """Write splits as JSON with one draw a line, so that a change shows in a diff."""
    blocks = []
    for protocol, split in splits.items():
        seeds = [
            f'   "{seed}": {{\n'
            + ",\n".join(f'    "{percent}": {json.dumps(names)}' for percent, names in draws.items())
            + "\n   }"
            for seed, draws in split["labeled"].items()
        ]
        blocks.append(
            f' "{protocol}": {{\n  "validation": {json.dumps(split["validation"])},\n'
            f'  "labeled": {{\n' + ",\n".join(seeds) + "\n  }\n }"
        )
    return "{\n" + ",\n".join(blocks) + "\n}\n"


if __name__ == "__main__":
    sys.exit(main())
