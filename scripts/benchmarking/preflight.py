"""Checks before a benchmark runs: its output folder, and the cells that are already in it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.benchmarking.cells import CELL_FORMAT, PLAN_FORMAT, Cell
from scripts.benchmarking.files import read_json

KEPT = ("models", "configs", "bundle", "docs", "scripts", "tests")
"""Folders of the bundle that a benchmark must not write to."""
SHOWN = 3
"""Maximal number of cells in a message."""


def check_output(root: Path, output: Path, dataset_dir: Path) -> None:
    """Check that the output folder is not in a folder of the bundle or the data; symbolic links are resolved.

    Raises:
        ValueError: if it is.
    """
    target, data = output.resolve(), dataset_dir.resolve()
    folders = {root.resolve() / name: "the bundle" for name in KEPT} | {data: "the data"}
    inside = [folder for folder in folders if folder == target or folder in target.parents]
    if inside or target == root.resolve():
        reason = f"is in {inside[0]}, a folder of {folders[inside[0]]}" if inside else "is the folder of the bundle"
        raise ValueError(f"--output {output} {reason}; give a separate folder, such as runs/NAME")


def faults_of(cells: Sequence[Cell]) -> dict[str, str]:
    """Return cell name -> reason why an existing cell cannot be continued."""
    faults = {}
    for cell in cells:
        try:
            cell.standing()
        except ValueError as error:
            faults[cell.name] = str(error)
    return faults


def check_company(cells: Sequence[Cell], leaving: Collection[str] = ()) -> None:
    """Check that all cells in the folder can be reported in one table with the new ones.

    Args:
        cells: cells to run, of one setting.
        leaving: names of cells that will be moved away first.

    Raises:
        ValueError: if the folder holds cells of another setting, cells of the same method with another configuration,
            or a damaged cell.
    """
    folder, setting = cells[0].folder.parent, cells[0].plan["config"]["setting"]
    names = {cell.name for cell in cells}
    recipes = {cell.method: cell.plan["config"]["recipe"] for cell in cells}
    others = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        content = None if path.name in leaving else _content(path, path.name in names)
        if content is not None and not _fits(content, setting, recipes):
            others.append(path.name)
    if others:
        count = f"{len(others)} cell{'s' if len(others) > 1 else ''}"
        more = f" and {len(others) - SHOWN} more" if len(others) > SHOWN else ""
        raise ValueError(
            f"{folder} holds {count} of other settings ({', '.join(others[:SHOWN])}{more}), which cannot be reported "
            "in one table with these; nothing was run; give the same settings, or another --output"
        )


def _fits(content: Mapping[str, Any], setting: str, recipes: Mapping[str, str]) -> bool:
    """Return whether a cell has this setting, and the recipe of its method if both are known."""
    config, method = content["config"], str(content.get("method"))
    recipe = config.get("recipe")
    return config.get("setting") == setting and (recipe is None or recipe == recipes.get(method, recipe))


def _content(folder: Path, replaced: bool) -> Mapping[str, Any] | None:
    """Return the content of the cell in a folder; ``None`` if there is none, or its plan will be replaced."""
    for name, form in (("cell.json", CELL_FORMAT), ("plan.json", PLAN_FORMAT)):
        path = folder / name
        if path.is_file() and not (replaced and name == "plan.json"):
            content = read_json(path, form)
            if not isinstance(content.get("config"), Mapping):
                raise ValueError(f"{path} is damaged: it has no config; remove its folder")
            return content
    return None
