"""Where a benchmark writes: which folders it may take, and what lies there already and speaks against it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from bundle.benchmark.cells import CELL_FORMAT, PLAN_FORMAT, Cell
from bundle.benchmark.files import read_json

KEPT = ("models", "configs", "bundle", "docs", "scripts", "tests")
"""Folders of the bundle that no benchmark writes to."""
SHOWN = 3
"""How many cells a sentence names."""


def check_output(root: Path, output: Path, dataset_dir: Path) -> None:
    """Refuse an output folder that is, or lies in, a folder of the bundle or of the data; symbolic links are followed.

    Raises:
        ValueError: where it is one.
    """
    place, data = output.resolve(), dataset_dir.resolve()
    folders = {root.resolve() / name: "the bundle" for name in KEPT} | {data: "the data"}
    inside = [folder for folder in folders if folder == place or folder in place.parents]
    if inside or place == root.resolve():
        where = f"lies in {inside[0]}, a folder of {folders[inside[0]]}" if inside else "is the folder of the bundle"
        raise ValueError(f"--output {output} {where}; give one of its own, such as runs/NAME")


def faults_of(cells: Sequence[Cell]) -> dict[str, str]:
    """What speaks against going on with a cell that is there, in a sentence, by the cell's name."""
    faults = {}
    for cell in cells:
        try:
            cell.standing()
        except ValueError as error:
            faults[cell.name] = str(error)
    return faults


def check_company(cells: Sequence[Cell], leaving: Collection[str] = ()) -> None:
    """Refuse to run cells beside others that no report can show in one table with them.

    Args:
        cells: that are to run, of one setting.
        leaving: names of cells that will be moved away first.

    Raises:
        ValueError: where finished or begun cells of another setting lie beside them, cells of the same method made with
            another configuration of it, or a damaged one.
    """
    folder, setting = cells[0].folder.parent, cells[0].plan["config"]["setting"]
    asked = {cell.name for cell in cells}
    recipes = {cell.method: cell.plan["config"]["recipe"] for cell in cells}
    others = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        found = None if path.name in leaving else _content(path, path.name in asked)
        if found is not None and not _fits(found, setting, recipes):
            others.append(path.name)
    if others:
        many = f"{len(others)} cell{'s' if len(others) > 1 else ''}"
        more = f" and {len(others) - SHOWN} more" if len(others) > SHOWN else ""
        raise ValueError(
            f"{folder} holds {many} of other settings ({', '.join(others[:SHOWN])}{more}), which no report can show "
            "in one table with these, and nothing was run; give the settings of then, or another --output"
        )


def _fits(found: Mapping[str, Any], setting: str, recipes: Mapping[str, str]) -> bool:
    """Whether a cell is of a setting, and of the recipe of its method as far as both are known."""
    config, method = found["config"], str(found.get("method"))
    recipe = config.get("recipe")
    return config.get("setting") == setting and (recipe is None or recipe == recipes.get(method, recipe))


def _content(folder: Path, asked: bool) -> Mapping[str, Any] | None:
    """What the cell of a folder was made with; ``None`` where there is none, or where its plan is written anew."""
    for name, form in (("cell.json", CELL_FORMAT), ("plan.json", PLAN_FORMAT)):
        path = folder / name
        if path.is_file() and not (asked and name == "plan.json"):
            found = read_json(path, form)
            if not isinstance(found.get("config"), Mapping):
                raise ValueError(f"{path} is damaged: it has no config; take its folder away")
            return found
    return None
