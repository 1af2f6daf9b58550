"""Counts of the long form of the campaign, for the table of docs/reliability.md."""

from __future__ import annotations

import json
import os
from pathlib import Path


def add_counts(what: str, cases: int, **ended: int) -> None:
    """Add the counts of a test to the file that ``FAULT_COUNTS`` names, if any; test files run in several processes."""
    if "FAULT_COUNTS" in os.environ:
        line = json.dumps({"what": what, "cases": cases, **ended})
        with Path(os.environ["FAULT_COUNTS"]).open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")
