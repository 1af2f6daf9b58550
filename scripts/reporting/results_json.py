"""Entries of docs/results.json from finished runs: scores, commands, commit and machine."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.reporting.cells import FREE, Cell, load_cells
from scripts.reporting.comparability import check_comparable, differing_versions
from scripts.reporting.definitions import definition
from scripts.reporting.differences import comparisons
from scripts.reporting.tables import POSTPROCESSING, group, is_object_score, labels_of, methods_of, metrics_of, score

Entry = dict[str, Any]
Rows = dict[str, dict[str, Any]]

DEMO_FORMAT = "semi_moe.demo/1"
"""Format of the file of a finished demo."""
SCORES = ("pooled_dice", "class_mean_dice", "mean_dice", "object_f1", "object_dice", "object_hausdorff")
"""Scores in a new entry, if its cells have them."""
SINGLE = ("class_mean_dice", "object_dice")
"""Scores of the table of single draws."""
LASTING = (
    *("max_epochs", "train#trainer#epoch_length", "train#early_stop#patience", "bundle_root"),
    *("epoch_length", "patience"),
)
"""Settings of a cell that are set by the budget, not by ``--set``; the last two are the names in older cells."""
FIGURE = "docs/figures/demo.png"
"""Path of the picture of the demo in the documentation."""
WIDTH = 112
"""Maximum length of a line of a command."""
DIFFERENCES = {
    "labels": {"title": "labels, %"},
    "method": {"title": "method"},
    "difference": {"title": "mean difference", "digits": 3, "signed": True},
    "low": {"title": "95 % from", "digits": 3, "signed": True},
    "high": {"title": "to", "digits": 3, "signed": True},
    "better": {"title": "images better", "digits": 0},
    "images": {"title": "of", "digits": 0},
}
"""Columns of the comparison image by image."""


def record_of_cells(folder: str | Path, name: str, before: Mapping[str, Any] | None) -> Entry:
    """Return an entry for the finished cells of ``scripts/benchmark.py``.

    Args:
        folder: output folder of the benchmark.
        name: name of the entry, used for the output folder in its commands.
        before: the previous entry, whose columns are kept; ``None`` for a new entry.

    Raises:
        ValueError: if the cells are not comparable, or were made with uncommitted changes.
    """
    if before and "scores" not in before["tables"]:
        raise ValueError(f"entry {name!r} has no table of scores, so it was not made from cells; give another --entry")
    cells = load_cells(folder)
    check_comparable(cells)
    dirty = [cell.name for cell in cells if cell.content.get("dirty")]
    if dirty:
        raise ValueError(f"{dirty[0]} was made with uncommitted changes; commit them and run it again")
    if differing_versions(cells):
        raise ValueError(f"the cells in {folder} were made with different versions; run them again with one version")
    content = cells[0].content
    hardware = content.get("hardware") or {}
    threads = hardware.get("threads")
    processors = sorted({str((cell.content.get("hardware") or {}).get("cpu") or "unknown CPU") for cell in cells})
    devices = [" or ".join(processors), str(hardware.get("device") or "unknown device")]
    tables = {"scores": _scores(cells, before)}
    if differences := _differences(cells):
        tables["images"] = {"columns": DIFFERENCES, "rows": differences}
    if draws := _draws(cells):
        tables["draws"] = draws
    return {
        "what": before["what"] if before else f"{', '.join(methods_of(cells))} on {content['data']}",
        **{key: content[key] for key in ("data", "protocol", "size", "steps")},
        "seeds": sorted({cell.seed for cell in cells}),
        "commands": command_of_cells(cells, name),
        "commit": ", ".join(sorted({commit[:7] for cell in cells for commit in cell.commits()})),
        "date": str(max(str(cell.content.get("finished") or "unknown") for cell in cells))[:10],
        "machine": ", ".join([*devices, *([f"{threads} thread{'s' * (threads > 1)} a training"] if threads else [])]),
        "versions": dict(content.get("versions") or {}) or "unknown",
        "tables": tables,
    }


def record_of_demo(folder: str | Path, before: Mapping[str, Any] | None) -> Entry:
    """Return an entry for a finished ``scripts/demo.py``, see ``record_of_cells``.

    Raises:
        FileNotFoundError: if ``demo.json`` or the picture is missing.
        ValueError: if the file is damaged, has another format, or was made with uncommitted changes.
    """
    path = Path(folder) / "demo.json"
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}; give the output folder of a finished demo")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); run the demo again") from error
    if content.get("format") != DEMO_FORMAT:
        raise ValueError(f"{path} does not have the format {DEMO_FORMAT}; run the demo again with this version")
    if content.get("dirty"):
        raise ValueError(f"{path} was made with uncommitted changes; commit them and run the demo again")
    runs = content["methods"]
    names = list(next(iter(runs.values()))["metrics"])
    metrics = [key for key in before["tables"]["scores"]["columns"] if key in names] if before else names
    method = {"method": {"title": "method"}}
    times = {key: {"title": f"{key}, s", "digits": 0} for key in ("training", "all")}
    rows = {
        key: {"method": f"`{key}`", **{metric: run["metrics"][metric] for metric in metrics}}
        for key, run in runs.items()
    }
    seconds: Rows = {key: {"method": f"`{key}`", "training": run["seconds"]} for key, run in runs.items()}
    seconds["demo"] = {"method": "the whole demo", "all": content["seconds"]}
    return {
        "what": before["what"] if before else "The demo",
        **{key: content[key] for key in ("data", "protocol", "size", "seeds")},
        "commands": ["make demo" if content["usual"] else content["command"]],
        "commit": str(content["commit"] or "unknown")[:7],
        "date": content["finished"][:10],
        "machine": f"{content['hardware']['cpu']}, {content['hardware']['cores']} cores",
        "versions": content["versions"],
        "figures": {FIGURE: hashlib.sha256((path.parent / "comparison.png").read_bytes()).hexdigest()},
        "tables": {
            "scores": {"columns": method | {key: _column(key) for key in metrics}, "rows": rows},
            "time": {"columns": method | times, "rows": seconds},
        },
    }


def command_of_cells(cells: Sequence[Cell], name: str) -> list[str]:
    """Return the lines of the commands that make the cells and their report; real data are in ``DIR``."""
    content, config = cells[0].content, cells[0].content["config"]
    synthetic = str(content["data"]).startswith("phantom")
    options = {"data": content["data"], "protocol": content["protocol"], "size": content["size"]}
    options |= {
        "postprocessing": next(
            (cell.content["postprocessing"] for cell in cells if cell.content.get("postprocessing")), None
        )
    }
    options |= {key: content.get(key) for key in ("annotation", "schedule")}
    defaults = {"data": "phantom", "protocol": "heldout", "size": "default"}
    lists = str(content["data_list"]).rsplit("_", 2)[0]
    options["lists"] = None if lists == ("authors" if content["protocol"] == "authors" else "heldout") else lists
    settings = {key: value for key, value in config["overrides"].items() if key not in (*FREE, *LASTING)}
    if content.get("epochs") is not None:  # always, because the default may change
        settings["max_epochs"] = content["epochs"]
    command = ["python", "scripts/benchmark.py", "--output", f"runs/{name}"]
    command += ["--dataset_dir", "dataset" if synthetic else "DIR"]
    command += [
        word for key, value in options.items() if value and value != defaults.get(key) for word in (f"--{key}", value)
    ]
    command += ["--methods", *methods_of(cells), "--labels", *labels_of(cells)]
    command += ["--seeds", *(str(seed) for seed in sorted({cell.seed for cell in cells}))]
    command += ["--budget", f"{content['steps']}steps"]
    command += ["--set", *(_setting(key, value) for key, value in settings.items())] if settings else []
    command += ["--threads", str(threads)] if (threads := (content.get("hardware") or {}).get("threads")) else []
    lines = [shlex.quote(command[0])]
    for word in map(shlex.quote, command[1:]):  # words are not split, because a setting may contain spaces
        if len(lines[-1]) + len(word) < WIDTH:
            lines[-1] += f" {word}"
        else:
            lines.append(f"    {word}")
    report = f"python scripts/report.py --cells runs/{name} --output runs/{name}/report"
    return [*(f"{line} \\" for line in lines[:-1]), lines[-1], report]


def _setting(key: str, value: Any) -> str:
    """Return a setting for ``--set``."""
    return f"{key}={value if isinstance(value, str) else json.dumps(value)}"


def _column(metric: str) -> dict[str, Any]:
    meaning = definition(metric)
    unit = ", px" if metric.endswith("hausdorff") else ""
    return {"title": f"{meaning.title}{unit}", "digits": meaning.digits}


def _scores(cells: Sequence[Cell], before: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the table of scores: a row per share of labels, method and postprocessing."""
    available = metrics_of(cells)
    old = before["tables"]["scores"]["columns"] if before else {}
    names = [name for name in old or SCORES if name in available]
    if not names:
        raise ValueError(f"the cells have none of the scores {', '.join(old or SCORES)}, only {', '.join(available)}")
    rows: Rows = {}
    for labels in labels_of(cells):
        for method in methods_of(cells):
            for postprocessing, title in POSTPROCESSING.items():
                spreads = {key: score(group(cells, method, labels), postprocessing + key) for key in names}
                values = {
                    key: [round(value.mean, 5), *([] if value.deviation is None else [round(value.deviation, 5)])]
                    for key, value in spreads.items()
                    if value is not None and (not postprocessing or is_object_score(key))
                }
                if values:
                    label = f"`{method}`" + (f", {title}" if postprocessing else "")
                    key = " ".join([method, labels, *([title] if postprocessing else [])])
                    rows[key] = {"labels": labels, "method": label, **values}
    columns = {"labels": {"title": "labels, %"}, "method": {"title": "method"}}
    kept_columns = {name: column for name, column in old.items() if name in (*columns, *names)}
    return {"columns": kept_columns or columns | {name: _column(name) for name in names}, "rows": rows}


def _draws(cells: Sequence[Cell]) -> dict[str, Any]:
    """Return the table of the single draws of the labels; empty if there is one draw, or none of its scores."""
    seeds = sorted({cell.seed for cell in cells})
    names = [name for name in SINGLE if name in metrics_of(cells)]
    columns: Rows = {"labels": {"title": "labels, %"}, "method": {"title": "method"}}
    for name in names:
        column = _column(name)
        columns |= {f"{name}_{seed}": {**column, "title": f"{column['title']}, draw {seed}"} for seed in seeds}
    rows: Rows = {}
    for labels in labels_of(cells):
        for method in methods_of(cells):
            runs = group(cells, method, labels)
            values = {f"{name}_{run.seed}": round(run.metrics[name], 5) for run in runs for name in names}
            rows[f"{method} {labels}"] = {"labels": labels, "method": f"`{method}`", **values}
    return {"columns": columns, "rows": rows} if len(seeds) > 1 and names else {}


def _differences(cells: Sequence[Cell]) -> Rows:
    """Return the differences of the mean Dice to the first method, image by image."""
    against = methods_of(cells)[0]
    return {
        f"{method} {labels}": {
            **{"labels": labels, "method": f"`{method}` minus `{against}`", "difference": round(result.difference, 5)},
            "low": None if result.low is None else round(result.low, 5),
            "high": None if result.high is None else round(result.high, 5),
            **{"better": result.better, "images": result.images},
        }
        for labels, method, result in comparisons(cells, "mean_dice", against)
    }
