"""Checks of the content of a cell's file by a JSON Schema, so that damaged files give a clear error."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import jsonschema

NEEDED = ("name", "method", "labels", "seed", "protocol", "data", "size", "steps", "config", "counts", "metrics")
"""Required keys."""

Schema = dict[str, Any]


def _objects(values: Schema | None = None, description: str = "an object", **more: Any) -> Schema:
    """Return the schema of an object whose values all have one schema; every schema describes what is expected."""
    return {"type": "object", "additionalProperties": values or {}, "description": description, **more}


def _lists(items: Schema, description: str = "a list") -> Schema:
    return {"type": "array", "items": items, "description": description}


def _table(*required: str, **columns: Schema) -> Schema:
    """Return the schema of a table: lists of numbers or null, other lists in some columns."""
    description = f"an object of columns with {', '.join(required)}"
    return _objects(_lists(NUMBER), description, required=required, properties=columns)


TEXT: Schema = {"type": "string", "minLength": 1, "description": "a text"}
MAYBE_TEXT: Schema = TEXT | {"type": ["string", "null"]}
PERCENT: Schema = {
    "type": "string",
    "pattern": r"^(?=.*[1-9])(100(\.0*)?|\d{1,2}(\.\d*)?)$",
    "description": "a percentage, as text",
}
NUMBER: Schema = {"type": ["number", "null"], "minimum": -1e300, "maximum": 1e300, "description": "a number or null"}
COUNT: Schema = {"type": "integer", "minimum": 0, "description": "an integer of at least 0"}
POSITIVE: Schema = {"type": "integer", "minimum": 1, "description": "an integer above 0"}

PROPERTIES: dict[str, Schema] = {
    **dict.fromkeys(("name", "method", "protocol", "data", "size", "budget", "data_list", "dataset_dir"), TEXT),
    **dict.fromkeys(("masks", "commit", "started", "finished"), TEXT),
    **{"labels": PERCENT, "seed": COUNT, "steps": POSITIVE, "epochs": POSITIVE},
    "dirty": {"type": "boolean", "description": "true or false"},
    "config": _objects(
        properties={
            **{"files": _lists(TEXT), "overrides": _objects()},
            **dict.fromkeys(("setting", "digest", "recipe"), MAYBE_TEXT),
        }
    ),
    "counts": _objects(COUNT),
    "metrics": _objects(NUMBER, "an object with at least one value", minProperties=1),
    "per_image": _table("image", image=_lists(TEXT)),
    "calibration": _table("confidence", "share", "count"),
    "curves": _table("epoch"),
    "commits": _lists(MAYBE_TEXT),
    "versions": _objects(TEXT),
    "attempts": _objects(COUNT),
    **dict.fromkeys(("parameters", "seconds", "peak_memory"), _objects(NUMBER)),
    "selected": _objects(properties={"epoch": NUMBER, "value": NUMBER, "metric": MAYBE_TEXT}),
    "hardware": _objects(properties={"cpu": MAYBE_TEXT, "device": MAYBE_TEXT, "threads": NUMBER}),
}
"""Schemas by key of a cell's file; other keys are not used."""
VALIDATOR = jsonschema.Draft202012Validator({"properties": PROPERTIES})


def find_error(content: Mapping[str, Any]) -> str | None:
    """Return the first error in the content of a cell's file, as text after the file name; ``None`` if it is valid.

    Optional keys may also be ``null``.
    """
    missing = [key for key in NEEDED if key not in content]
    if missing:
        return f"has no {', '.join(missing)}"
    given = {key: value for key, value in content.items() if key in NEEDED or value is not None}
    error = jsonschema.exceptions.best_match(VALIDATOR.iter_errors(given))
    if error is not None:
        key, *inner = error.absolute_path
        context = f"an object whose {inner[0]!r} is " if inner and isinstance(inner[0], str) else ""
        each = "a list, each value " if any(isinstance(part, int) for part in inner) else ""
        return f"has a wrong {key!r}: it should be {context}{each}{error.schema['description']}"
    for key in ("per_image", "calibration", "curves"):
        if len({len(column) for column in given.get(key, {}).values()}) > 1:
            return f"has a wrong {key!r}: it should be an object of columns of the same length"
    names = Counter(given.get("per_image", {}).get("image", []))
    repeated = [name for name, count in names.items() if count > 1]
    if repeated:
        expected = "a table of images with unique names"
        return f"has a wrong 'per_image': it should be {expected}, but {repeated[0]!r} is repeated"
    return None
