"""Section of the page about figures of other papers: beside ours where both mean the same, never mixed with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from bundle.report import markup
from bundle.report.cells import Cell
from bundle.report.definitions import definition, is_optimistic
from bundle.report.tables import Table, group, labels_key, score

Anchor = Mapping[str, Any]
"""A published figure, as ``docs/anchors.json`` lists them."""


def published(anchors: Sequence[Anchor], cells: Sequence[Cell]) -> str:
    """The figures of other papers, those of this report's protocol first, and where they stand."""
    if not anchors:
        return ""
    warning = (
        "Figures of other papers, for orientation: other splits, networks and budgets. None of them compares with a "
        "row above as two rows above compare with each other."
    )
    words = (
        f"Figures under the protocol {cells[0].content['protocol']} come first. Ours stands beside a figure where "
        "protocol, method, share of labels, score and test images are the same by name."
    )
    content, sources = anchor_table(anchors, cells)
    listed = "".join(f"<li>{escape(source)}</li>" for source in sources)
    caption = "Published figures; the number in brackets is that of the source below."
    table = markup.table(content, caption, "nearest protocol: {}", ("paper", "published", "ours", "note"))
    ending = f'<h3>Sources</h3>\n<ol class="sources">{listed}</ol>'
    return "\n".join([markup.paragraph(warning, "warning"), markup.paragraph(words), table, ending])


def anchor_table(anchors: Sequence[Anchor], cells: Sequence[Cell]) -> tuple[Table, list[str]]:
    """A row a paper, share of labels and test images; and the sources that its numbers in brackets name, in order."""
    protocol = str(cells[0].content["protocol"])
    order = sorted(anchors, key=lambda anchor: _place(anchor, protocol))
    sources = list(dict.fromkeys(str(anchor["source"]) for anchor in order))
    found: dict[tuple[str, ...], list[Anchor]] = {}
    for anchor in order:
        named = str(anchor["protocol"])
        paper = f"{anchor['paper']} [{sources.index(str(anchor['source'])) + 1}]"
        entry = [named + " (optimistic)" * is_optimistic(named), paper]
        entry += [str(anchor.get(key) or "") for key in ("method", "labels", "part", "note")]
        found.setdefault(tuple(entry), []).append(anchor)
    rows = []
    for (named, paper, _, labels, part, note), members in found.items():
        theirs = ", ".join(
            f"{definition(str(one['metric'])).title} {_with_unit(one, str(one['value']))}" for one in members
        )
        values = [value for one in members if (value := ours(one, cells))]
        rows.append([named, paper, theirs, ", ".join(values) or "-", labels or "-", part or "all", note])
    return (["protocol", "paper", "published", "ours", "labels, %", "test images", "note"], rows), sources


def ours(anchor: Anchor, cells: Sequence[Cell]) -> str:
    """Our mean of what a published figure names, in its unit; empty where we have no such figure."""
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


def _place(anchor: Anchor, protocol: str) -> tuple[Any, ...]:
    """Order of figures: this report's protocol, then the others by name; then labels and test images."""
    named = str(anchor["protocol"])
    return (named != protocol, named, labels_key(str(anchor.get("labels") or "")), str(anchor.get("part") or ""))
