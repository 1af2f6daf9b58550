"""Definitions of components as plain data: taken from the configuration being read, checked, and built again."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from pydoc import ErrorDuringImport, locate
from types import FrameType
from typing import Any

from monai.bundle import ConfigComponent, ConfigParser
from monai.transforms import Transform
from torch import nn

TARGET = "_target_"
ALLOWED = ("bundle.networks.", "bundle.transforms.", "monai.networks.")
"""Where a class may come from that a file names; nothing else is ever imported for it."""
PRETRAINED = "pretrained"
"""Argument of an encoder that asks for weights of its own; a trained model brings its weights along."""


def current_parser() -> ConfigParser:
    """Find the parser of the configuration that is being read, on the call stack.

    MONAI hands components their arguments only, already built. The text of a definition is known to the parser alone.

    Raises:
        RuntimeError: when no configuration is being read.
    """
    frame: FrameType | None = inspect.currentframe()
    while frame is not None:
        holder = frame.f_locals.get("self")
        if isinstance(holder, ConfigParser):
            return holder
        frame = frame.f_back
    raise RuntimeError("no configuration is being read: this component is made by MONAI's ConfigParser")


def plain_definition(parser: ConfigParser, key: str) -> Any:
    """Return a part of a configuration as JSON data: references and expressions replaced by their values.

    Args:
        parser: the parser of the configuration.
        key: the part, such as ``network_def`` or ``network_def#widths``.

    Returns:
        A dict, list, text, number, bool or ``None``; nested components keep their ``_target_`` as a full dotted name.

    Raises:
        ValueError: where a value has no form in JSON.
    """
    value = parser[key]
    if isinstance(value, Mapping):
        names = [name for name in value if name == TARGET or name not in ConfigComponent.non_arg_keys]
        plain = {name: plain_definition(parser, f"{key}#{name}") for name in names}
        if TARGET in plain and isinstance(plain[TARGET], str):
            component = ConfigComponent({TARGET: plain[TARGET]}, locator=parser.locator)
            plain[TARGET] = component.resolve_module_name()
        return plain
    if isinstance(value, list):
        return [plain_definition(parser, f"{key}#{number}") for number in range(len(value))]
    if isinstance(value, str) and value.startswith("@") and value[1:] in parser:
        return plain_definition(parser, value[1:])
    if isinstance(value, str) and ("@" in value or value.startswith("$")):
        value = parser.get_parsed_content(key)
    return as_json(value, key)


def as_json(value: Any, name: str) -> Any:
    """Return a value as JSON data, tuples as lists.

    Raises:
        ValueError: where it has no form in JSON; ``name`` says which value it is.
    """
    if isinstance(value, Mapping):
        return {str(key): as_json(item, name) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item, name) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ValueError(f"{name} is a {type(value).__name__}, which a JSON file cannot hold")


def check_definition(definition: Any, name: str) -> None:
    """Refuse a definition that names code from outside, or holds an expression.

    Raises:
        ValueError: where a target is no class that ``allowed_class`` takes, or a text would be evaluated by MONAI.
    """
    for value in _leaves(definition):
        if isinstance(value, str) and value.startswith(("$", "@", "%")):
            raise ValueError(f"{name} holds the expression {value!r}; only plain values are read")
    for target in _targets(definition):
        try:
            allowed_class(target)
        except ValueError as error:
            raise ValueError(f"{name} {error}") from error


def allowed_class(target: Any) -> type:
    """Return the class of a dotted name, if a file may ask for it: a network or a transform defined in ``ALLOWED``.

    A name that only begins so will not do: ``bundle.networks.onnx_file.os.system`` leads out of the package again.

    Raises:
        ValueError: where it is another class, no class, or not there.
    """
    found = None
    if isinstance(target, str) and target.startswith(ALLOWED) and all(map(str.isidentifier, target.split("."))):
        try:
            found = locate(target)
        except ErrorDuringImport as error:
            raise ValueError(f"names {target!r}, which cannot be imported: {error.value}") from error
    if isinstance(found, type) and issubclass(found, nn.Module | Transform) and found.__module__.startswith(ALLOWED):
        return found
    raise ValueError(f"names {target!r}; only classes of {', '.join(ALLOWED)}* are built: networks and transforms")


class Builder:
    """Builds a component from its plain definition; a configuration may name it as a ``_target_``.

    Args:
        definition: a checked definition with ``_target_``.
    """

    def __init__(self, definition: Mapping[str, Any]) -> None:
        self.definition = dict(definition)

    def __call__(self, **changes: Any) -> Any:
        """Build the component.

        Args:
            **changes: arguments that differ from the definition; ``None`` stands for no change.
        """
        return _built(self.definition | {name: value for name, value in changes.items() if value is not None})


def _built(value: Any) -> Any:
    if isinstance(value, dict):
        parts = {name: _built(item) for name, item in value.items()}
        if TARGET not in parts:
            return parts
        made = allowed_class(parts.pop(TARGET))
        parts |= {PRETRAINED: False} if PRETRAINED in inspect.signature(made).parameters else {}
        return made(**parts)
    return [_built(item) for item in value] if isinstance(value, list) else value


def _leaves(value: Any) -> Iterator[Any]:
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else None
    if items is None:
        yield value
    else:
        for item in items:
            yield from _leaves(item)


def _targets(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping) and TARGET in value:
        yield value[TARGET]
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    for item in items:
        yield from _targets(item)
