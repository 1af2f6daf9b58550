"""What a cell runs with: overlays by name, the merged configuration, its digest, and how two of them differ."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

WHERE = ("bundle_root", "dataset_dir", "output_dir", "ckpt_dir", "device", "resume")
"""Settings that say where something runs or lies, and nothing of what is computed: no part of a digest."""
AXES = {
    "method": "methods",
    "data": "data",
    "annotation": "annotations",
    "encoder": "encoders",
    "size": "sizes",
    "schedule": "schedules",
    "protocol": "protocols",
}
"""The axes of an experiment in the order in which their overlays are laid on train.json, and their folders."""
POSTPROCESSING = "postprocessing"
"""Folder of the overlays that are laid on evaluate.json."""
SHOWN = 3
"""How many differences a sentence names."""


def overlay_files(root: Path, names: Mapping[str, str | None]) -> list[str]:
    """Configs of a cell, as paths relative to ``root``: train.json, then one overlay for each axis that has a name.

    Args:
        root: the bundle's root.
        names: axis -> name of the overlay without folder and ending; ``None`` leaves the axis out.

    Raises:
        ValueError: where there is no such overlay.
    """
    named = [_overlay(root, axis, folder, name) for axis, folder in AXES.items() if (name := names.get(axis))]
    return ["configs/train.json", *named]


def evaluation_files(root: Path, files: Sequence[str], postprocessing: str | None) -> list[str]:
    """Return the configs of an evaluation on top of those of the training: evaluate.json and a postprocessing overlay.

    The overlay is left out if it needs heads (``answer#heads``) that the method does not train; it only adds scores to
    those that every method has.

    Raises:
        ValueError: where there is no such postprocessing.
    """
    if postprocessing is None:
        return ["configs/evaluate.json"]
    overlay = _overlay(root, "postprocessing", POSTPROCESSING, postprocessing)
    asked = ConfigParser.load_config_file(root / overlay).get("answer", {}).get("heads", {})
    trained = merged(root, files, {}).get("targets", {})
    return ["configs/evaluate.json", *([overlay] if set(asked) <= set(trained) else [])]


def _overlay(root: Path, axis: str, folder: str, name: str) -> str:
    known = sorted(path.stem for path in (root / "configs" / folder).glob("*.yaml"))
    if name not in known:
        raise ValueError(f"no {axis} {name!r}; there are {', '.join(known) or 'none'} (configs/{folder})")
    return f"configs/{folder}/{name}.yaml"


def merged(root: Path, files: Sequence[str], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """One configuration of several files and overrides, expressions left as they are written.

    Args:
        root: the bundle's root.
        files: paths relative to it.
        overrides: key, with ``#`` between levels -> value.

    Raises:
        ValueError: where an override changes a key whose place does not exist.
    """
    parser = ConfigParser(ConfigParser.load_config_files([str(root / file) for file in files]))
    for key, value in overrides.items():
        place, _, name = key.rpartition("#")
        holder = parser.get(place) if place else parser.get()
        exists = isinstance(holder, dict) if place else key in holder
        exists = exists or (isinstance(holder, list) and name.isdigit() and int(name) < len(holder))
        if not exists:
            raise ValueError(f"no setting {key!r} in {', '.join(files)}; see configs/train.json for what there is")
        parser[key] = value
    return parser.get()


def resolved(
    root: Path, files: Sequence[str], evaluation: Sequence[str], overrides: Mapping[str, Any]
) -> dict[str, Any]:
    """All that training and evaluation compute with, key -> value, flat; ``WHERE`` is left out.

    Settings of the evaluation stand under ``evaluation#``, where they differ from the training's.

    Raises:
        ValueError: as ``merged``.
    """
    training = dict(_flat(merged(root, files, overrides)))
    judging = dict(_flat(merged(root, [*files, *evaluation], overrides)))
    both = training | {f"evaluation#{key}": value for key, value in judging.items() if training.get(key) != value}
    return {key: value for key, value in both.items() if key.removeprefix("evaluation#").split("#")[0] not in WHERE}


def digest(content: Mapping[str, Any]) -> str:
    """SHA-256 of a mapping of plain values, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """How two flat configurations differ, in words: the first keys, with both values."""
    keys = [key for key in sorted({*before, *after}) if before.get(key) != after.get(key)]
    told = [f"{key} was {_short(before, key)} and is {_short(after, key)}" for key in keys[:SHOWN]]
    more = [f"and {len(keys) - SHOWN} more"] if len(keys) > SHOWN else []
    return ", ".join([*told, *more])


def _flat(config: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every value with the path of its key; empty containers are values."""
    if isinstance(config, dict | list) and config:
        pairs = config.items() if isinstance(config, dict) else enumerate(config)
        for name, value in pairs:
            yield from _flat(value, f"{key}#{name}" if key else str(name))
    else:
        yield key, config


def _short(content: Mapping[str, Any], key: str) -> str:
    if key not in content:
        return "not there"
    text = json.dumps(content[key])
    return text if len(text) <= 80 else f"{text[:77]}..."
