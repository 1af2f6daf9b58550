"""Which cells belong in one table, and what its reader should know of them."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any

from bundle.report.cells import Cell
from bundle.report.definitions import protocol_note
from bundle.report.tables import labels_of, methods_of

SHOWN = 3
"""How many names a sentence holds."""


def check_comparable(cells: Sequence[Cell]) -> None:
    """Refuse cells that do not belong in one table.

    Raises:
        ValueError: where two cells differ in data, protocol, size, steps, test images or a setting, or where two of one
            method differ in its configuration.
    """
    first = cells[0]
    advice = "so one table cannot hold both; choose with --methods and --labels, or keep two output folders"
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
    named = [(cell, images) for cell in cells if (images := cell.images()) is not None]
    for cell, images in named[1:]:
        other, expected = named[0]
        told = [
            f"only {one.name} has {_some(more)}"
            for one, more in ((other, expected - images), (cell, images - expected))
            if more
        ]
        if told:
            raise ValueError(f"cells {other.name} and {cell.name} differ in test images ({'; '.join(told)}), {advice}")


def missing_note(cells: Sequence[Cell], begun: Sequence[str] = ()) -> list[str]:
    """A sentence about the runs that a full table would have and that are not among the cells; none where none lacks.

    Args:
        cells: finished cells; a full table has each method at each share of labels with each seed.
        begun: names of cells that were begun and are not finished.
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
    stopped = f"; begun and not finished: {_some(begun)}, see their log.txt" if begun else ""
    return [f"{len(absent)} of {len(cells) + len(absent)} runs are missing here ({_some(absent)}){stopped}."]


def warnings_of(cells: Sequence[Cell]) -> list[str]:
    """What a reader should know of how the cells came about, a sentence each.

    Other commits or versions, uncommitted changes, cells that were stopped, uneven seeds.
    """
    found = []
    commits = sorted({commit[:10] for cell in cells for commit in cell.commits()})
    if len(commits) > 1:
        found.append(f"The cells were made by {len(commits)} commits of the code: {', '.join(commits)}.")
    versions = differing_versions(cells)
    if versions:
        told = "; ".join(f"{name} {', '.join(values)}" for name, values in versions.items())
        found.append(f"The cells were made with different versions: {told}.")
    dirty = [cell.name for cell in cells if cell.content.get("dirty")]
    if dirty:
        found.append(f"{len(dirty)} of {len(cells)} cells were made by code with uncommitted changes.")
    stopped = [cell.name for cell in cells if cell.was_resumed()]
    if stopped:
        found.append(
            f"{len(stopped)} of {len(cells)} cells went on after a stop ({_some(stopped)}): their times are as far as "
            "known, and hold what was done twice."
        )
    seeds = {(cell.method, cell.labels): set[int]() for cell in cells}
    for cell in cells:
        seeds[cell.method, cell.labels].add(cell.seed)
    if len({tuple(sorted(found_seeds)) for found_seeds in seeds.values()}) > 1:
        found.append("Not every method has the same seeds, so means and spreads stand on different draws of labels.")
    return found


def differing_versions(cells: Sequence[Cell]) -> dict[str, list[str]]:
    """Python, bundle and libraries of which the cells had more than one version; ``unknown`` where one says none."""
    tables = [cell.content.get("versions") or {} for cell in cells]
    names = sorted({name for table in tables for name in table})
    values = {name: sorted({str(table.get(name, "unknown")) for table in tables}) for name in names}
    return {name: found for name, found in values.items() if len(found) > 1}


def steps_of(cells: Sequence[Cell]) -> str:
    """Steps of comparable cells, and the budgets that they are rounded from or were measured for."""
    steps = cells[0].content["steps"]
    budgets = {budget for cell in cells if (budget := cell.content.get("budget"))} - {f"{steps}steps"}
    return f"{steps:,} steps" + (f" (--budget {', '.join(sorted(budgets))})" if budgets else "")


def facts_of(cells: Sequence[Cell]) -> str:
    """What comparable cells have in common, in a sentence or two: data, protocol, steps, and how far to trust it."""
    content = cells[0].content
    many = "runs" if len(cells) > 1 else "run"
    facts = (
        f"Data {content['data']}, protocol {content['protocol']}: {len(cells)} {many} of {steps_of(cells)} at "
        f"size {content['size']}, scored on {content['counts'].get('test', '?')} test images."
    )
    return f"{facts} {protocol_note(content['protocol'])}".strip()


def _some(names: Collection[str]) -> str:
    """The first names, and how many more there are."""
    ordered = sorted(names)
    more = f" and {len(ordered) - SHOWN} more" if len(ordered) > SHOWN else ""
    return ", ".join(ordered[:SHOWN]) + more


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 120 else f"{text[:117]}..."
