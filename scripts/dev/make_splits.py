"""Draw the published splits of GlaS and CRAG from seeds: names of images in scripts/data_preparation/*_splits.json.

Run: python scripts/dev/make_splits.py --grades DIR/Grade.csv --output scripts/data_preparation/glas_splits.json
     python scripts/dev/make_splits.py --crag --output scripts/data_preparation/crag_splits.json
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from scripts.interruption import end_without_traceback

end_without_traceback()

from scripts.data_preparation import crag, glas


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program. Exit codes: 0 success, 1 error, 2 invalid command line."""
    parser = argparse.ArgumentParser(description="Draw the published splits of GlaS or CRAG.")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--grades", help="draw the splits of GlaS, from the Grade.csv of its download")
    source.add_argument("--crag", action="store_true", help="draw the splits of CRAG, without its images")
    parser.add_argument("--output", help="output file (default: the file in scripts/data_preparation)")
    options = parser.parse_args(arguments)
    output = Path(options.output or (crag.SPLITS if options.crag else glas.SPLITS))
    try:
        splits = crag.draw_crag_splits() if options.crag else glas.draw_glas_splits(glas.read_grades(options.grades))
        output.write_text(as_text(splits), encoding="utf-8")
    except (OSError, ValueError) as error:
        print(f"make_splits: {error}", file=sys.stderr)
        return 1
    print(f"wrote {output}")
    return 0


def as_text(splits: Mapping[str, Any]) -> str:
    """Return splits as JSON with one draw per line, for readable diffs."""
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
