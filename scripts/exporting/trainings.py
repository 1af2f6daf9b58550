"""Configs and overrides of a training, from its model.json, its benchmark cell or the command line."""

from __future__ import annotations

import itertools
import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

OWN = (
    *("bundle_root", "device", "dataset_dir", "output_dir", "ckpt_dir"),
    *("resume", "num_workers", "data#cache_gib", "amp"),
)
"""Settings that depend on the machine or its paths, not on the method."""


def paths_of(config_file: str) -> list[str]:
    """Return the absolute paths of the configs in a command line."""
    from fire.parser import DefaultParseValue

    value = DefaultParseValue(config_file)
    return [str(Path(file).absolute()) for file in (value if isinstance(value, list | tuple) else [value])]


def training_arguments(folder: Path) -> tuple[list[str], dict[str, Any]]:
    """Return configs and overrides of a training from the model.json in its folder.

    Configs and expressions are code, and a model.json may be untrusted: only configs of this bundle and plain values
    are accepted.

    Raises:
        ValueError: where it tells none, a config is no longer there, or one of them would have to be trusted.
    """
    from bundle.engines.component_definitions import TARGET, check_definition
    from bundle.engines.model_json_reader import NAME, read_description
    from scripts.benchmarking import settings_of

    if not (folder / NAME).is_file():
        raise ValueError(f"{folder} has no {NAME}; give --config_file and the overrides of the training")
    training = read_description(folder / NAME).get("training", {})
    arguments = shlex.split(training.get("command", ""))
    files = [
        next((str(path) for path in (Path(file), ROOT / file) if path.is_file()), None) for file in _files(training)
    ]
    if not arguments or not files or None in files:
        raise ValueError(
            f"{folder / NAME} names no existing configs; give --config_file and the overrides of the training"
        )
    arguments = arguments[arguments.index("run") + 1 :] if "run" in arguments else arguments
    settings = settings_of(arguments if arguments[:1] and arguments[0].startswith("--") else arguments[1:])
    settings = {key: value for key, value in settings.items() if key not in ("config_file", *OWN)}
    try:
        for file in map(str, files):
            if not Path(file).resolve().is_relative_to(ROOT / "configs"):
                raise ValueError(f"{file} is not a config of this bundle")
        for key, value in settings.items():
            check_definition({TARGET: value} if key.endswith(f"#{TARGET}") else value, key)
    except ValueError as error:
        raise ValueError(
            f"{folder / NAME}: {error}; if you trust it, give --config_file and the overrides of the training"
        ) from error
    return [str(file) for file in files], settings


def _files(training: Mapping[str, Any]) -> list[str]:
    return [str(file) for file in training.get("config_files") or []]


def read_cell(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the plan and the result of a cell.

    Raises:
        ValueError: if the folder is not a finished cell.
    """
    for name in ("plan.json", "cell.json"):
        if not (folder / name).is_file():
            raise ValueError(f"{folder} is not a finished cell of scripts/benchmark.py: it has no {name}")
    plan, cell = (json.loads((folder / name).read_text(encoding="utf-8")) for name in ("plan.json", "cell.json"))
    return plan, cell


def title_of(run: Mapping[str, Any]) -> tuple[str, str]:
    """Return name and idea of the run's method, from the first sentence of its overlay."""
    path = ROOT / "configs" / "methods" / f"{run['method']}.yaml"
    if not path.is_file():
        return str(run["method"]), "a method without an overlay"
    first, *rest = path.read_text(encoding="utf-8").splitlines()
    more = itertools.takewhile(lambda line: line.startswith("#   "), rest)
    name, _, idea = " ".join(line[1:].strip() for line in (first, *more)).partition(": ")
    return name, idea
