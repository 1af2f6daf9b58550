"""Write the table of docs/reliability.md from docs/faults.json, the counts of the last `make test-faults`.

python scripts/dev/list_faults.py                  write the page
python scripts/dev/list_faults.py --check          fail if the page is out of date
python scripts/dev/list_faults.py --counts FILE    first read the counts that `make test-faults` wrote
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from bundle.utils import atomic_path
from scripts.benchmarking import code_state, processor

PAGE = ROOT / "docs" / "reliability.md"
COUNTS = ROOT / "docs" / "faults.json"
COMMAND = "make test-faults"
TABLE = re.compile(r"(?<=<!-- faults -->\n).*?(?=<!-- /faults -->)", re.DOTALL)
HEAD = "| what | cases | result | sentence | faults |\n|---|---|---|---|---|\n"


def recorded(lines: Sequence[str]) -> dict[str, Any]:
    """Return the counts of a campaign, one JSON object a line, with their provenance."""
    state = code_state(ROOT)
    return {
        "command": COMMAND,
        "commit": f"{str(state['commit'])[:7]}{' with changes' if state['dirty'] else ''}",
        "date": datetime.now(timezone.utc).date().isoformat(),
        "machine": processor(),
        "counts": merged([json.loads(line) for line in lines]),
    }


def merged(counts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return one entry for each name, sorted, with the sums of its numbers."""
    sums: dict[str, Counter[str]] = {}
    for count in counts:
        numbers = {name: number for name, number in count.items() if name != "what"}
        sums.setdefault(count["what"], Counter()).update(numbers)
    return [{"what": what, **numbers} for what, numbers in sorted(sums.items())]


def table(record: Mapping[str, Any]) -> str:
    """Return the table of the page and the line below it."""
    rows = []
    for count in record["counts"]:
        ended = [count.get(name, 0) for name in ("result", "sentence")]
        numbers = [count["cases"], *ended, count["cases"] - sum(ended)]
        rows.append(f"| {count['what']} | {' | '.join(f'{number:,}' for number in numbers)} |\n")
    total = sum(count["cases"] for count in record["counts"])
    provenance = f"{record['date']}, commit {record['commit']}, {record['machine']}"
    return f"{HEAD}{''.join(rows)}\n{total:,} cases of the campaign (`{record['command']}`): {provenance}.\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program. Exit codes: 0 success, 1 the page is out of date."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the page is out of date")
    parser.add_argument("--counts", type=Path, help="file of counts that `make test-faults` wrote")
    options = parser.parse_args(arguments)
    if options.counts is not None:
        record = recorded(options.counts.read_text(encoding="utf-8").splitlines())
        with atomic_path(COUNTS) as file:
            file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    old = PAGE.read_text(encoding="utf-8")
    new = TABLE.sub(lambda _: table(json.loads(COUNTS.read_text(encoding="utf-8"))), old)
    if options.check and old != new:
        print(f"list_faults: {PAGE.relative_to(ROOT)} differs; run the program without --check", file=sys.stderr)
        return 1
    if not options.check:
        PAGE.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
