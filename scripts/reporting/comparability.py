"""Check that cells are comparable, and write notes about them for the reader."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any

from scripts.reporting.cells import Cell
from scripts.reporting.definitions import protocol_note
from scripts.reporting.tables import labels_of, methods_of

SHOWN = 3
"""Maximum number of names in a sentence."""


def check_comparable(cells: Sequence[Cell]) -> None:
    """Check that cells can be compared in one table.

    Raises:
        ValueError: if two cells differ in data, protocol, size, steps, test images or a setting, or two cells of the
            same method differ in its configuration.
    """
    first = cells[0]
    advice = "so they cannot be in one table; select cells with --methods and --labels, or use two output folders"
    for cell in cells[1:]:
        common = cell.common()
        for key, value in first.common().items():
            if common[key] != value:
                raise ValueError(
                    f"cells {first.name} and {cell.name} differ in {key} ({_short(value)} and {_short(common[key])}), "
                    f"{advice}"
                )
    recipes: dict[str, Cell] = {}
    for cell in cells:
        other = recipes.setdefault(cell.method, cell) if cell.recipe else cell
        if other.recipe != cell.recipe:
            raise ValueError(
                f"cells {other.name} and {cell.name} differ in the configuration of {cell.method}, {advice}"
            )
    known = [(cell, images) for cell in cells if (images := cell.images()) is not None]
    for cell, images in known[1:]:
        other, expected = known[0]
        differences = [
            f"only {owner.name} has {_some(more)}"
            for owner, more in ((other, expected - images), (cell, images - expected))
            if more
        ]
        if differences:
            raise ValueError(
                f"cells {other.name} and {cell.name} differ in test images ({'; '.join(differences)}), {advice}"
            )


def missing_note(cells: Sequence[Cell], begun: Sequence[str] = ()) -> list[str]:
    """Return a sentence about missing runs; an empty list if no run is missing.

    Args:
        cells: finished cells; a complete table has each method at each share of labels with each seed.
        begun: names of cells that were started but are not finished.
    """
    grid = {
        f"{method}-{labels}-seed{seed}"
        for method in methods_of(cells)
        for labels in labels_of(cells)
        for seed in {cell.seed for cell in cells}
    }
    absent = (grid | set(begun)) - {f"{cell.method}-{cell.labels}-seed{cell.seed}" for cell in cells}
    if not absent:
        return []
    stopped = f"; started but not finished: {_some(begun)}, see their log.txt" if begun else ""
    return [f"{len(absent)} of {len(cells) + len(absent)} runs are missing ({_some(absent)}){stopped}."]


def warnings_of(cells: Sequence[Cell]) -> list[str]:
    """Return sentences on what may affect the comparison.

    These are different commits or versions, uncommitted changes, resumed cells, and different seeds.
    """
    sentences = []
    commits = sorted({commit[:10] for cell in cells for commit in cell.commits()})
    if len(commits) > 1:
        sentences.append(f"The runs used {len(commits)} commits of the code: {', '.join(commits)}.")
    versions = differing_versions(cells)
    if versions:
        listed = "; ".join(f"{name} {', '.join(values)}" for name, values in versions.items())
        sentences.append(f"The runs used different versions: {listed}.")
    dirty = [cell.name for cell in cells if cell.content.get("dirty")]
    if dirty:
        sentences.append(f"{len(dirty)} of {len(cells)} runs used code with uncommitted changes.")
    stopped = [cell.name for cell in cells if cell.was_resumed()]
    if stopped:
        sentences.append(
            f"{len(stopped)} of {len(cells)} runs were resumed after a stop ({_some(stopped)}): their times may be "
            "incomplete or include repeated steps."
        )
    seeds = {(cell.method, cell.labels): set[int]() for cell in cells}
    for cell in cells:
        seeds[cell.method, cell.labels].add(cell.seed)
    if len({tuple(sorted(group)) for group in seeds.values()}) > 1:
        sentences.append(
            "Not all methods have the same seeds, so their means are over different choices of labeled images."
        )
    return sentences


def differing_versions(cells: Sequence[Cell]) -> dict[str, list[str]]:
    """Return the versions of Python, bundle and libraries that differ; ``unknown`` for cells without a version."""
    tables = [cell.content.get("versions") or {} for cell in cells]
    names = sorted({name for table in tables for name in table})
    values = {name: sorted({str(table.get(name, "unknown")) for table in tables}) for name in names}
    return {name: versions for name, versions in values.items() if len(versions) > 1}


def steps_of(cells: Sequence[Cell]) -> str:
    """Return the steps of comparable cells as text, with the budgets that they were computed from."""
    steps = cells[0].content["steps"]
    budgets = {budget for cell in cells if (budget := cell.content.get("budget"))} - {f"{steps}steps"}
    return f"{steps:,} steps" + (f" (--budget {', '.join(sorted(budgets))})" if budgets else "")


def facts_of(cells: Sequence[Cell]) -> str:
    """Return sentences on data, protocol, steps and reliability of comparable cells."""
    content = cells[0].content
    runs = "runs" if len(cells) > 1 else "run"
    facts = (
        f"Data {content['data']}, protocol {content['protocol']}: {len(cells)} {runs} of {steps_of(cells)} at "
        f"size {content['size']}, scored on {content['counts'].get('test', '?')} test images."
    )
    return f"{facts} {protocol_note(content['protocol'])}".strip()


def _some(names: Collection[str]) -> str:
    """Return the first names, and the number of further ones."""
    ordered = sorted(names)
    more = f" and {len(ordered) - SHOWN} more" if len(ordered) > SHOWN else ""
    return ", ".join(ordered[:SHOWN]) + more


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 120 else f"{text[:117]}..."
