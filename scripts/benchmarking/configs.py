"""Configuration of a cell: overlays by name, merged configuration, digest, and differences."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

WHERE = ("bundle_root", "dataset_dir", "output_dir", "ckpt_dir", "device", "resume")
"""Settings of paths and devices, which do not change the results: not part of a digest."""
AXES = {
    "method": "methods",
    "data": "data",
    "annotation": "annotations",
    "encoder": "encoders",
    "size": "sizes",
    "schedule": "schedules",
    "protocol": "protocols",
}
"""Axis of an experiment -> folder of its overlays, in the order in which they are applied to train.json."""
POSTPROCESSING = "postprocessing"
"""Folder of the overlays of evaluate.json."""
SHOWN = 3
"""Maximal number of differences in a message."""


def overlay_files(root: Path, names: Mapping[str, str | None]) -> list[str]:
    """Return the configs of a cell as paths relative to ``root``: train.json, then one overlay per named axis.

    Args:
        root: root folder of the bundle.
        names: axis -> name of the overlay without folder and suffix; ``None`` leaves the axis out.

    Raises:
        ValueError: if an overlay does not exist.
    """
    overlays = [_overlay(root, axis, folder, name) for axis, folder in AXES.items() if (name := names.get(axis))]
    return ["configs/train.json", *overlays]


def evaluation_files(root: Path, files: Sequence[str], postprocessing: str | None) -> list[str]:
    """Return the additional configs of an evaluation: evaluate.json and a postprocessing overlay.

    The overlay is left out if it needs heads (``evaluated_network#heads``) that the method does not train; it only adds
    scores to those of all methods.

    Raises:
        ValueError: if the postprocessing does not exist.
    """
    if postprocessing is None:
        return ["configs/evaluate.json"]
    overlay = _overlay(root, "postprocessing", POSTPROCESSING, postprocessing)
    needed = ConfigParser.load_config_file(root / overlay).get("evaluated_network", {}).get("heads", {})
    trained = merged(root, files, {}).get("targets", {})
    return ["configs/evaluate.json", *([overlay] if set(needed) <= set(trained) else [])]


def _overlay(root: Path, axis: str, folder: str, name: str) -> str:
    known = sorted(path.stem for path in (root / "configs" / folder).glob("*.yaml"))
    if name not in known:
        raise ValueError(f"no {axis} {name!r}; there are {', '.join(known) or 'none'} (configs/{folder})")
    return f"configs/{folder}/{name}.yaml"


def merged(root: Path, files: Sequence[str], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Merge several configs and overrides; expressions are not evaluated.

    Args:
        root: root folder of the bundle.
        files: paths relative to it.
        overrides: key, with ``#`` between levels -> value.

    Raises:
        ValueError: if an override changes a key that does not exist.
    """
    parser = ConfigParser(ConfigParser.load_config_files([str(root / file) for file in files]))
    for key, value in overrides.items():
        parent_key, _, name = key.rpartition("#")
        parent = parser.get(parent_key) if parent_key else parser.get()
        exists = isinstance(parent, dict) if parent_key else key in parent
        exists = exists or (isinstance(parent, list) and name.isdigit() and int(name) < len(parent))
        if not exists:
            raise ValueError(f"no setting {key!r} in {', '.join(files)}; see configs/train.json for existing settings")
        parser[key] = value
    return parser.get()


def resolved(
    root: Path, files: Sequence[str], evaluation: Sequence[str], overrides: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the flat configuration, key -> value, of training and evaluation, without the settings of ``WHERE``.

    Settings of the evaluation that differ from the training have the prefix ``evaluation#``.

    Raises:
        ValueError: as ``merged``.
    """
    training = dict(_flat(merged(root, files, overrides)))
    evaluating = dict(_flat(merged(root, [*files, *evaluation], overrides)))
    both = training | {f"evaluation#{key}": value for key, value in evaluating.items() if training.get(key) != value}
    return {key: value for key, value in both.items() if key.removeprefix("evaluation#").split("#")[0] not in WHERE}


def digest(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a mapping of plain values, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Describe how two flat configurations differ: the first keys, with both values."""
    keys = [key for key in sorted({*before, *after}) if before.get(key) != after.get(key)]
    changes = [f"{key} was {_short(before, key)} and is {_short(after, key)}" for key in keys[:SHOWN]]
    more = [f"and {len(keys) - SHOWN} more"] if len(keys) > SHOWN else []
    return ", ".join([*changes, *more])


def _flat(config: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield all values with their full keys; empty containers are values."""
    if isinstance(config, dict | list) and config:
        pairs = config.items() if isinstance(config, dict) else enumerate(config)
        for name, value in pairs:
            yield from _flat(value, f"{key}#{name}" if key else str(name))
    else:
        yield key, config


def _short(content: Mapping[str, Any], key: str) -> str:
    if key not in content:
        return "missing"
    text = json.dumps(content[key])
    return text if len(text) <= 80 else f"{text[:77]}..."
