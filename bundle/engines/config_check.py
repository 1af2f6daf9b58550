"""Check of a configuration at the start of a run: unknown keys, and types and ranges of settings."""

from __future__ import annotations

import contextlib
import difflib
import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from jsonschema import Draft202012Validator
from monai.bundle import ConfigComponent, ConfigParser, ConfigWorkflow, ReferenceResolver

from bundle.engines.component_definitions import current_parser, find_on_stack

SETTINGS = Path(__file__).with_name("settings.json")
"""JSON schema of the settings, with the texts of docs/settings.md."""
POWER = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+")
"""A number that YAML reads as a string, such as 5e-5."""
PLAIN = (str, int, float, list, dict, type(None))
"""Types of values that a config file or the command line can hold."""
READ_BY_MONAI = {"imports", "_meta_"}
READ_BY_TRACKING = {"tracking_uri", "experiment_name", "run_name", "save_execute_config", "is_not_rank0"}


def check_config() -> None:
    """Check the configuration that is being read, before anything is built from it.

    MONAI ignores keys that nothing refers to, so a misspelled setting would change nothing.

    Raises:
        ValueError: if a setting has a wrong type or value, or a key is not used.
    """
    parser = current_parser()
    content = cast("dict[str, Any]", parser.config)
    names = [name for name in content if name != "_meta_"]
    if "imports" in names and names[0] != "imports":
        raise ValueError(f"{names[0]} is set before the base config; give train.json or inference.json first")
    problems = invalid_values(parser)
    workflow = find_on_stack(ConfigWorkflow)
    if workflow is not None:
        used = READ_BY_MONAI | READ_BY_TRACKING | {workflow.init_id, workflow.run_id, workflow.final_id}
        unknown = set(unused_keys(parser, used)) - known_keys(Path(workflow.config_root_path))
        problems += [f"{key} is not a setting of these configs{nearest(key, content)}" for key in sorted(unknown)]
    if problems:
        raise ValueError("; ".join(problems))


def known_keys(folder: Path) -> set[str]:
    """Return all keys of the JSON configs in a folder, which an overlay may leave unused.

    Files that cannot be read are passed over: MONAI names those that a run uses, and the others must not stop it.
    """
    keys = set()
    for path in sorted(folder.glob("*.json")):
        with contextlib.suppress(OSError, ValueError, RecursionError):
            config = json.loads(path.read_text(encoding="utf-8"))
            keys |= {normalized(key) for key, _ in walk(config)} if isinstance(config, dict) else set()
    return keys


def invalid_values(parser: ConfigParser) -> list[str]:
    """Return one message for each setting whose value has a wrong type or is out of range.

    Expressions and references are not evaluated.
    """
    kind = "training" if "train" in parser else "inference"
    messages = []
    for key, schema in settings_of(kind).items():
        if key not in parser or _is_expression(parser[key]):
            continue
        value = parser[key]
        if not isinstance(value, PLAIN):  # an object made in Python, such as a path or a device of the label app
            continue
        numbers = [number for number in (value if isinstance(value, list) else [value]) if isinstance(number, float)]
        finite = all(map(math.isfinite, numbers))
        if not finite or not Draft202012Validator(schema).is_valid(value):
            hint = f" (YAML reads {value} as a string; write a decimal point and a sign, as in 5.0e-5)"
            is_power = isinstance(value, str) and POWER.fullmatch(value)
            messages.append(f"{key} is {value!r}; it must be {expected(schema)}{hint if is_power else ''}")
    return messages


def settings_of(kind: str) -> dict[str, dict[str, Any]]:
    """Return the JSON schema of each setting of the runs of a kind, ``training`` or ``inference``."""
    tables = json.loads(SETTINGS.read_text(encoding="utf-8"))
    return {key: schema for table in tables if table["kind"] == kind for key, schema in table["settings"].items()}


def expected(schema: Mapping[str, Any]) -> str:
    """Describe the values that a schema allows, for example ``an integer of at least 1``."""
    if "title" in schema:
        return str(schema["title"])
    if "anyOf" in schema:
        return " or ".join(expected(part) for part in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(repr(value) for value in schema["enum"])
    if schema["type"] == "array":
        least, most = schema.get("minItems", 0), schema.get("maxItems")
        count = f"{least} " if least == most else ""
        items = expected(schema["items"]).removeprefix("a ").removeprefix("an ") if "items" in schema else "values"
        return f"a list of {count}{items.replace('integer', 'integers').replace('number', 'numbers')}"
    names = {"integer": "an integer", "number": "a number", "string": "a text", "object": "a mapping", "null": "None"}
    limits = {
        "minimum": "at least",
        "exclusiveMinimum": "more than",
        "maximum": "at most",
        "exclusiveMaximum": "less than",
    }
    ranges = [f"{label} {schema[name]}" for name, label in limits.items() if name in schema]
    return names[schema["type"]] + (f", {' and '.join(ranges)}" if ranges else "")


def _is_expression(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(("$", "@", "%"))


def unused_keys(parser: ConfigParser, used: set[str]) -> list[str]:
    """Return the keys that are neither referred to nor in ``used``, nor contain or belong to such a key.

    Args:
        parser: the parser of the configuration.
        used: keys that MONAI reads by name.
    """
    referred = used | {name for _, text in strings(parser) for name in references(text)}
    parents = {name[:end] for name in referred for end in range(len(name)) if name[end] == "#"}

    def visit(content: Mapping[str, Any], prefix: str) -> Iterator[str]:
        for name, value in content.items():
            key = f"{prefix}{name}"
            if key in referred:
                continue
            if key not in parents:
                yield key
            elif isinstance(value, dict) and not ConfigComponent.is_instantiable(value):
                yield from visit(value, f"{key}#")

    return list(visit(cast("dict[str, Any]", parser.config), ""))


def walk(content: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield all values of a config with their keys, except the metadata."""
    if key:
        yield key, content
    if isinstance(content, dict | list):
        for name, value in content.items() if isinstance(content, dict) else enumerate(content):
            if name != "_meta_":
                yield from walk(value, f"{key}#{name}".lstrip("#"))


def strings(parser: ConfigParser) -> list[tuple[str, str]]:
    """Return all strings of a config with their keys; references are made absolute if possible."""
    texts = [(key, text) for key, text in walk(parser.config) if isinstance(text, str)]
    for number, (key, text) in enumerate(texts):
        if "@#" in text:
            with contextlib.suppress(ValueError):
                texts[number] = (key, parser.resolve_relative_ids(key, text))
    return texts


def references(text: str) -> set[str]:
    """Return the keys that a string refers to: ``@key`` anywhere, or the whole string as ``%key``."""
    macro = [text[1:]] if text.startswith("%") and not ConfigParser.split_path_id(text[1:])[0] else []
    return {normalized(name) for name in [*ReferenceResolver.match_refs_pattern(text), *macro]}


def normalized(key: str) -> str:
    """Return a key with # as its separator."""
    return str(key).replace("::", "#")


def nearest(key: str, content: Any) -> str:
    """Return a suggestion of a similar key of a config, starting with a semicolon; empty if there is none."""
    keys = {name for name, _ in walk(content) if not name.rpartition("#")[2].startswith("_")} - {key}
    deeper = sorted((name for name in keys if name.endswith(f"#{key}")), key=len)
    if deeper:  # the same setting, given without its group
        return f"; did you mean {deeper[0]}?"
    if "#" not in key:
        by_last = {name.rpartition("#")[2]: name for name in sorted(keys, key=lambda name: -name.count("#"))}
        match = closest_name(key, set(by_last))
        return f"; did you mean {by_last[match]}?" if match else ""
    return closest(key, keys) or closest(key.rpartition("#")[2], {name for name in keys if "#" not in name})


def closest(name: str, known: set[str]) -> str:
    """Return a suggestion of the most similar name, starting with a semicolon; empty if there is none."""
    match = closest_name(name, known)
    return f"; did you mean {match}?" if match else ""


def closest_name(name: str, known: set[str]) -> str:
    """Return the most similar name; empty if there is none."""
    return next(iter(difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.7)), "")
