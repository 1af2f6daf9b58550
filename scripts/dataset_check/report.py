"""Results of a check: a text table, and data for JSON."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

from bundle.data.leakage import PATIENT
from bundle.data.lists import MPP, PARTS
from bundle.data.message_text import pluralize
from scripts.dataset_check.checked_list import CheckedEntry, CheckedList, Finding
from scripts.dataset_check.findings import is_numbered

LINE_WIDTH, NAME_WIDTH, COLUMN_WIDTH = 100, 24, 15
"""Width in characters of a line, of the row names, and of the column of a part."""
MAX_ROWS = 8
"""Largest number of rows for domains and for grades."""
READINGS = {
    "instances": "several numbers",
    "binary": "one value",
    "classes": "classes",
    "empty": "background only",
    "full": "no background",
}
"""Reading of a mask -> its row name in the table."""


def summary(entries: Sequence[CheckedEntry], numbered: bool) -> dict[str, Any]:
    """Return statistics of some entries, for JSON; ``None`` for unknown values.

    Args:
        entries: the entries of a part, or all.
        numbered: whether masks of the list have instance numbers; else connected components count as glands.
    """
    images = [entry.image for entry in entries if entry.image is not None]
    labels = [entry.label for entry in entries if entry.label is not None and entry.label.fault is None]
    glands = [label.numbers if numbered else label.pieces for label in labels if label.reading != "classes"]
    sizes = [image.size for image in images if image.size is not None]
    scales = [entry.known[MPP] for entry in entries if MPP in entry.known]
    patients = [entry.known[PATIENT] for entry in entries if PATIENT in entry.known]
    return {
        "images": len(entries),
        "masks": sum(entry.label_path is not None for entry in entries),
        "patients": len(set(patients)),
        "images_without_patient": len(entries) - len(patients),
        "width": _range([width for _, width in sizes]) or None,
        "height": _range([height for height, _ in sizes]) or None,
        "sizes": {f"{width} x {height}": count for (height, width), count in Counter(sizes).most_common()},
        "readings": dict(Counter(label.reading for label in labels).most_common()),
        "highest_value": max((label.highest for label in labels), default=None),
        "glands": {**_range(glands), "total": sum(glands)} if glands else None,
        "glands_are": "numbers" if numbered else "pieces",
        "pieces": sum(label.pieces for label in labels),
        "specks": sum(label.specks for label in labels),
        "foreground": _range([round(label.foreground, 6) for label in labels]) or None,
        "mpp": _range(scales) or None,
        "images_without_mpp": len(entries) - len(scales),
        "domains": _counts(entries, "domain"),
        "grades": _counts(entries, "grade"),
        "image_conversions": dict(Counter(image.note for image in images if image.note).most_common()),
        "mask_conversions": dict(Counter(label.note for label in labels if label.note).most_common()),
    }


def as_data(checked: CheckedList, findings: Sequence[Finding]) -> dict[str, Any]:
    """Return all results for JSON: statistics by part, findings with all their cases, and properties of each image.

    Sizes are [width, height] in px, shares in [0, 1], ``mpp`` in um/px. The same list and files give the same data.
    """
    numbered = is_numbered(checked.entries)
    parts = {part: summary(checked.part(part), numbered) for part in PARTS}
    return {
        "list": checked.path.name,
        "folder": str(checked.path.parent),
        "usable": not any(finding.problem for finding in findings),
        "classes": checked.classes,
        "parts": parts,
        "all": summary(checked.entries, numbered),
        "problems": [_finding_data(finding) for finding in findings if finding.problem],
        "warnings": [_finding_data(finding) for finding in findings if not finding.problem],
        "images": [_entry_data(entry) for entry in checked.entries],
    }


def table(checked: CheckedList, findings: Sequence[Finding]) -> str:
    """Return the text table: statistics by part, conversions, problems and warnings; at most 100 characters wide."""
    numbered = is_numbered(checked.entries)
    columns = {part: summary(checked.part(part), numbered) for part in PARTS if checked.part(part)}
    if len(columns) != 1:
        columns["all"] = summary(checked.entries, numbered)
    lines = [f"{checked.path.name} in {checked.path.parent}", "", _line("", list(columns))]
    for name, cells in _rows(list(columns.values()), numbered):
        if any(cell != "-" for cell in cells):
            lines.append(_line(name, cells))
    total = columns.get("all", next(iter(columns.values())))
    notes = [f"{pluralize(count, 'image')}: {note}" for note, count in total["image_conversions"].items()]
    notes += [f"{pluralize(count, 'mask')}: {note}" for note, count in total["mask_conversions"].items()]
    lines += _block("Converted when read", notes)
    lines += _block("Problems", [finding.sentence for finding in findings if finding.problem])
    lines += _block("Warnings", [finding.sentence for finding in findings if not finding.problem])
    return "\n".join(lines)


def verdict(checked: CheckedList, findings: Sequence[Finding]) -> str:
    """Return the conclusion as one sentence without full stop."""
    problems = [finding for finding in findings if finding.problem]
    warnings = len(findings) - len(problems)
    if not problems:
        return f"{checked.path.name} has no problem and {pluralize(warnings, 'warning')}; it can be used"
    return (
        f"{checked.path} has {pluralize(len(problems), 'problem')} "
        f"({', '.join(finding.kind for finding in problems)}); fix the problems listed above, then check again"
    )


def _rows(columns: Sequence[dict[str, Any]], numbered: bool) -> list[tuple[str, list[str]]]:
    """Return name and cells of each row."""

    def row(name: str, cell: Any) -> tuple[str, list[str]]:
        return name, [cell(column) for column in columns]

    def rows_by_name(key: str, word: str) -> list[tuple[str, list[str]]]:
        names = list(dict.fromkeys(name for column in columns for name in column[key]))
        rows = [row(f"{word} {name}", lambda column, name=name: _count(column[key].get(name))) for name in names]
        return rows if len(rows) <= MAX_ROWS else [*rows[:MAX_ROWS], (f"  and {len(rows) - MAX_ROWS} more {word}s", [])]

    gland = "glands" if numbered else "pieces"
    return [
        row("images", lambda column: _count(column["images"])),
        row("masks", lambda column: _count(column["masks"])),
        row("patients", lambda column: _count(column["patients"])),
        row("  images without", lambda column: _count(column["images_without_patient"])),
        *rows_by_name("grades", "grade"),
        *rows_by_name("domains", "domain"),
        row("width, px", lambda column: _span(column["width"])),
        row("height, px", lambda column: _span(column["height"])),
        row("um/px", lambda column: _span(column["mpp"])),
        row("  images without", lambda column: _count(column["images_without_mpp"])),
        *(
            row(f"masks: {explanation}", lambda column, reading=reading: _count(column["readings"].get(reading)))
            for reading, explanation in READINGS.items()
        ),
        row("highest value", lambda column: _count(column["highest_value"])),
        row(f"{gland}, total", lambda column: _count((column["glands"] or {}).get("total"))),
        row(f"{gland} per image, min", lambda column: _figure(column["glands"], "min")),
        row("  median", lambda column: _figure(column["glands"], "median")),
        row("  max", lambda column: _figure(column["glands"], "max")),
        row("foreground, min", lambda column: _percent(column["foreground"], "min")),
        row("  median", lambda column: _percent(column["foreground"], "median")),
        row("  max", lambda column: _percent(column["foreground"], "max")),
    ]


def _line(name: str, cells: Sequence[str]) -> str:
    return (_short(name, NAME_WIDTH).ljust(NAME_WIDTH) + "".join(cell.rjust(COLUMN_WIDTH) for cell in cells)).rstrip()


def _block(title: str, sentences: Sequence[str]) -> list[str]:
    """Return the wrapped sentences under a title; nothing if there are none."""
    if not sentences:
        return []
    wrapped = (
        textwrap.wrap(sentence, LINE_WIDTH, initial_indent="- ", subsequent_indent="  ", break_on_hyphens=False)
        for sentence in sentences
    )
    return ["", title, *(line for lines in wrapped for line in lines)]


def _range(values: Sequence[float]) -> dict[str, float]:
    return {"min": min(values), "median": median(values), "max": max(values)} if values else {}


def _counts(entries: Sequence[CheckedEntry], key: str) -> dict[str, int]:
    counts = Counter(entry.known[key] for entry in entries if key in entry.known)
    return dict(sorted(counts.items()))


def _finding_data(finding: Finding) -> dict[str, Any]:
    return {"kind": finding.kind, "count": len(finding.cases), "sentence": finding.sentence, "cases": finding.cases}


def _entry_data(entry: CheckedEntry) -> dict[str, Any]:
    """Return the properties of an entry; sizes as [width, height]."""
    record: dict[str, Any] = {"part": entry.part, "image": entry.image_path, "label": entry.label_path, **entry.known}
    for key, facts in (("image_facts", entry.image), ("label_facts", entry.label)):
        if facts is not None:
            data = asdict(facts)
            del data["path"]
            data["size"] = None if facts.size is None else list(facts.size[::-1])
            record[key] = data
    return record


def _count(value: int | None) -> str:
    return f"{value:,}" if value else "-"


def _figure(figures: dict[str, float] | None, key: str) -> str:
    return "-" if figures is None else f"{figures[key]:,g}"


def _percent(figures: dict[str, float] | None, key: str) -> str:
    return "-" if figures is None else f"{100 * figures[key]:.1f} %"


def _span(figures: dict[str, float] | None) -> str:
    if figures is None:
        return "-"
    low, high = figures["min"], figures["max"]
    return f"{low:g}" if low == high else f"{low:g} - {high:g}"


def _short(text: str, width: int) -> str:
    return text if len(text) < width else f"{text[: width - 4]}..."
