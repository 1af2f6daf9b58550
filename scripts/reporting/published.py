"""Published results of other papers, next to ours if they are defined in the same way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from scripts.reporting.cells import Cell
from scripts.reporting.definitions import definition, is_optimistic
from scripts.reporting.tables import group, labels_key, score, table_of

PublishedScore = Mapping[str, Any]
"""A published result, see ``docs/published_scores.json``."""


def published_table(
    published_scores: Sequence[PublishedScore], cells: Sequence[Cell]
) -> tuple[pd.DataFrame, list[str]]:
    """Return a table with one row per paper, share of labels and test images, and the numbered sources.

    Results with the protocol of the cells come first.
    """
    protocol = str(cells[0].content["protocol"])
    order = sorted(published_scores, key=lambda entry: _sort_key(entry, protocol))
    sources = list(dict.fromkeys(str(entry["source"]) for entry in order))
    groups: dict[tuple[str, ...], list[PublishedScore]] = {}
    for entry in order:
        name = str(entry["protocol"])
        paper = f"{entry['paper']} [{sources.index(str(entry['source'])) + 1}]"
        row = [name + " (optimistic)" * is_optimistic(name), paper]
        row += [str(entry.get(key) or "") for key in ("method", "labels", "part", "note")]
        groups.setdefault(tuple(row), []).append(entry)
    rows = []
    for (name, paper, _, labels, part, note), members in groups.items():
        theirs = ", ".join(
            f"{definition(str(entry['metric'])).title} {_with_unit(entry, str(entry['value']))}" for entry in members
        )
        values = [value for entry in members if (value := ours(entry, cells))]
        rows.append([name, paper, theirs, ", ".join(values) or "-", labels or "-", part or "all", note])
    return table_of(rows, ["protocol", "paper", "published", "ours", "labels, %", "test images", "note"]), sources


def ours(entry: PublishedScore, cells: Sequence[Cell]) -> str:
    """Return our mean of the same score, in the unit of a published result; empty if there is none."""
    if entry["protocol"] != cells[0].content["protocol"] or entry.get("part"):
        return ""
    meaning = definition(str(entry["metric"]))
    value = score(group(cells, str(entry.get("method")), str(entry.get("labels"))), str(entry["metric"]))
    if value is None:
        return ""
    factor, digits = (100.0, 2) if entry.get("unit") == "%" else (1.0, meaning.digits)
    return f"{meaning.title} {_with_unit(entry, f'{factor * value.mean:.{digits}f}')}"


def _with_unit(entry: PublishedScore, value: str) -> str:
    return f"{value} {entry.get('unit') or ''}".strip()


def _sort_key(entry: PublishedScore, protocol: str) -> tuple[Any, ...]:
    """Return the sort key: the protocol of this report, then other protocols by name, labels, test images."""
    name = str(entry["protocol"])
    return (name != protocol, name, labels_key(str(entry.get("labels") or "")), str(entry.get("part") or ""))
