"""Format of ``model.json``, which describes the model ``model.pt`` beside it, and reading of both."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema

from bundle.engines.component_definitions import Builder, check_definition
from bundle.utils import atomic_path

NAME = "model.json"
FORMAT = "semi-moe model 1"
DEFINED = {"network_def": "network_def", "class_target": "data#class_target"}
"""Components in the file -> their keys in the configs."""
"""Components that the file stores as definitions."""

_COUNT = {"type": "integer", "minimum": 1}
_SIDES = {"type": "array", "items": _COUNT, "minItems": 2, "maxItems": 2}
_CHANNELS = {"type": "array", "items": {"type": "number"}, "minItems": 1}
_TEXT = {"type": "string"}
_DATA = {"type": "object", "properties": {"list": _TEXT, "sha256": _TEXT, "images": {"type": "object"}}}
_DEFINITION = {"type": ["object", "null"], "required": ["_target_"]}
SCHEMA = {
    "type": "object",
    "required": ["format", "network_def", "settings"],
    "properties": {
        "format": {"const": FORMAT},
        "network_def": _DEFINITION,
        "class_target": _DEFINITION,
        "settings": {
            "type": "object",
            "required": ["classes", "pixel_size", "crop_size", "mean", "std"],
            "properties": {
                "classes": {"type": "integer", "minimum": 2},
                "pixel_size": {"type": ["number", "null"], "exclusiveMinimum": 0},
                "crop_size": _SIDES,
                "mean": _CHANNELS,
                "std": {"type": "array", "items": {"type": "number", "exclusiveMinimum": 0}, "minItems": 1},
                "experts": {"type": "array", "items": {"type": "string"}},
                "mask_classes": {"type": ["integer", "null"]},
            },
        },
        "released": {"type": "boolean"},
        "scores": {
            "type": "object",
            "properties": {
                "validation": {"type": "object"},
                "evaluation": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["protocol", "data", "scores"],
                        "properties": {"data": _DATA, "scores": {"type": "object"}},
                    },
                },
            },
        },
        "training": {
            "type": "object",
            "properties": {"command": _TEXT, "config_files": {"type": "array", "items": {"type": ["string", "null"]}}},
        },
        "data": _DATA,
        "weights": {"type": "object", "properties": {"file": _TEXT, "sha256": _TEXT}},
        "versions": {"type": "object"},
    },
}
"""JSON schema of ``model.json``; further keys are allowed and ignored."""


class Settings(dict[str, Any]):
    """Settings of a model by name; a missing setting raises a ValueError that says what to do."""

    def __init__(self, values: Mapping[str, Any], path: Path) -> None:
        super().__init__(values)
        self._path = path

    def __missing__(self, name: str) -> Any:
        raise ValueError(
            f"{self._path} gives no {name}: the model was trained on whole images resized to one size, which "
            f"inference does not do; give --{name} to use it anyway"
        )


def trained_model(ckpt_dir: str | os.PathLike[str], **defaults: Any) -> Settings:
    """Return the settings of the model in a folder: the defaults, updated from its ``model.json``.

    Args:
        ckpt_dir: folder with ``model.pt`` and optionally ``model.json``.
        **defaults: values of the settings without ``model.json``. ``network`` and ``class_target`` are dotted names or
            callables.

    Returns:
        Settings as in ``defaults``. With ``model.json``, ``network`` and ``class_target`` are callables that take
        the arguments that differ from the definition in the file, ``encoder`` is the encoder of that network, and
        ``encoder``, ``output_stride`` and ``widths`` may be ``None``.

    Raises:
        ValueError: if the file is damaged, or names code outside this bundle and MONAI.
    """
    path = Path(ckpt_dir) / NAME
    if not path.is_file():
        return Settings(defaults, path)
    content = read_description(path)
    values = dict(defaults) | {name: value for name, value in content["settings"].items() if name in defaults}
    for key, name in (("network_def", "network"), ("class_target", "class_target")):
        if name in defaults and content.get(key) is not None:
            values[name] = Builder(content[key], f"{key} of {path}")
    if content["network_def"] is not None:
        values |= {name: content["network_def"].get(name) for name in ("widths", "output_stride") if name in defaults}
        if "encoder" in defaults:
            encoder = content["network_def"].get("encoder")
            values["encoder"] = encoder and Builder(encoder, f"network_def#encoder of {path}")()
    if "data_list" in defaults and content.get("data", {}).get("list"):
        values["data_list"] = content["data"]["list"]
    return Settings({name: value for name, value in values.items() if name != "pixel_size" or value is not None}, path)


def read_description(path: Path) -> dict[str, Any]:
    """Read and check a ``model.json``.

    Raises:
        ValueError: if it is not JSON, lacks a key, has a wrong value, or names code that must not be imported.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
        jsonschema.validate(content, SCHEMA)
        for key in DEFINED:
            check_definition(content.get(key), key)
    except jsonschema.ValidationError as error:
        key = "#".join(map(str, error.absolute_path)) or "its content"
        raise ValueError(f"{path} does not describe a model: {key}: {error.message:.200}; {_ADVICE}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} does not describe a model: {error}; {_ADVICE}") from error
    return content


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"it holds {name}, which is not a JSON number")


_ADVICE = "copy it again, or remove it and give the configs of the training"


def write_description(path: Path, content: Mapping[str, Any]) -> None:
    """Write a ``model.json`` atomically."""
    with atomic_path(path, clean=True) as partial:
        partial.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def describes_others(model: Path) -> bool:
    """Return whether the ``model.json`` beside a file of weights was written for other weights with the same name."""
    try:
        weights = read_description(model.with_name(NAME)).get("weights", {})
    except (OSError, ValueError):
        return False
    return weights.get("file") == model.name and weights.get("sha256") not in (None, sha256(model))


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
