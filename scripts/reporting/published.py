"""Published results of other papers, next to ours if they are defined in the same way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from scripts.reporting.cells import Cell
from scripts.reporting.definitions import definition, is_optimistic
from scripts.reporting.tables import group, labels_key, score, table_of

Anchor = Mapping[str, Any]
"""A published result, see ``docs/anchors.json``."""


def anchor_table(anchors: Sequence[Anchor], cells: Sequence[Cell]) -> tuple[pd.DataFrame, list[str]]:
    """Return a table with one row per paper, share of labels and test images, and the numbered sources.

    Results with the protocol of the cells come first.
    """
    protocol = str(cells[0].content["protocol"])
    order = sorted(anchors, key=lambda anchor: _sort_key(anchor, protocol))
    sources = list(dict.fromkeys(str(anchor["source"]) for anchor in order))
    groups: dict[tuple[str, ...], list[Anchor]] = {}
    for anchor in order:
        name = str(anchor["protocol"])
        paper = f"{anchor['paper']} [{sources.index(str(anchor['source'])) + 1}]"
        entry = [name + " (optimistic)" * is_optimistic(name), paper]
        entry += [str(anchor.get(key) or "") for key in ("method", "labels", "part", "note")]
        groups.setdefault(tuple(entry), []).append(anchor)
    rows = []
    for (name, paper, _, labels, part, note), members in groups.items():
        theirs = ", ".join(
            f"{definition(str(anchor['metric'])).title} {_with_unit(anchor, str(anchor['value']))}"
            for anchor in members
        )
        values = [value for anchor in members if (value := ours(anchor, cells))]
        rows.append([name, paper, theirs, ", ".join(values) or "-", labels or "-", part or "all", note])
    return table_of(rows, ["protocol", "paper", "published", "ours", "labels, %", "test images", "note"]), sources


def ours(anchor: Anchor, cells: Sequence[Cell]) -> str:
    """Return our mean of the same score, in the unit of a published result; empty if there is none."""
    if anchor["protocol"] != cells[0].content["protocol"] or anchor.get("part"):
        return ""
    meaning = definition(str(anchor["metric"]))
    value = score(group(cells, str(anchor.get("method")), str(anchor.get("labels"))), str(anchor["metric"]))
    if value is None:
        return ""
    factor, digits = (100.0, 2) if anchor.get("unit") == "%" else (1.0, meaning.digits)
    return f"{meaning.title} {_with_unit(anchor, f'{factor * value.mean:.{digits}f}')}"


def _with_unit(anchor: Anchor, value: str) -> str:
    return f"{value} {anchor.get('unit') or ''}".strip()


def _sort_key(anchor: Anchor, protocol: str) -> tuple[Any, ...]:
    """Return the sort key: the protocol of this report, then other protocols by name, labels, test images."""
    name = str(anchor["protocol"])
    return (name != protocol, name, labels_key(str(anchor.get("labels") or "")), str(anchor.get("part") or ""))
