"""Definitions of components as plain data: read from a parsed configuration, checked, and instantiated again."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from pydoc import ErrorDuringImport, locate
from types import FrameType
from typing import Any, TypeVar

from monai.bundle import ConfigComponent, ConfigParser
from monai.transforms import Transform
from torch import nn

TARGET = "_target_"
Kind = TypeVar("Kind")
ALLOWED = ("bundle.networks.", "bundle.transforms.", "monai.networks.")
"""Packages whose classes a file may name; nothing else is imported."""
PRETRAINED = "pretrained"
"""Argument of an encoder that loads pretrained weights; a trained model has its own weights instead."""


def current_parser() -> ConfigParser:
    """Return the parser of the configuration that is being read, found on the call stack.

    MONAI passes components only their instantiated arguments; the text of a definition is available in the parser.

    Raises:
        RuntimeError: if no configuration is being read.
    """
    parser = find_on_stack(ConfigParser)
    if parser is None:
        raise RuntimeError("no configuration is being read: this component is made by MONAI's ConfigParser")
    return parser


def find_on_stack(kind: type[Kind]) -> Kind | None:
    """Return the innermost object of a class whose method is being called; ``None`` if there is none."""
    frame: FrameType | None = inspect.currentframe()
    while frame is not None:
        holder = frame.f_locals.get("self")
        if isinstance(holder, kind):
            return holder
        frame = frame.f_back
    return None


def plain_definition(parser: ConfigParser, key: str) -> Any:
    """Return a part of a configuration as JSON data, with references and expressions replaced by their values.

    Args:
        parser: the parser of the configuration.
        key: key of the part, such as ``network_def`` or ``network_def#widths``.

    Returns:
        Dict, list, string, number, bool or ``None``; nested components keep their ``_target_`` as a full dotted name.

    Raises:
        ValueError: if JSON cannot represent a value.
    """
    value = parser[key]
    if isinstance(value, Mapping):
        names = [name for name in value if name == TARGET or name not in ConfigComponent.non_arg_keys]
        plain = {name: plain_definition(parser, f"{key}#{name}") for name in names}
        if isinstance(plain.get(TARGET), Mapping):  # a class with some of its arguments
            plain = plain[TARGET] | {name: item for name, item in plain.items() if name != TARGET}
        elif isinstance(plain.get(TARGET), str):
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
    """Convert a value to JSON data, tuples to lists, a class with keyword arguments to a definition.

    Raises:
        ValueError: if JSON cannot represent it; the message starts with ``name``.
    """
    if isinstance(value, Mapping):
        return {str(key): as_json(item, name) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item, name) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, functools.partial) and not value.args:
        return {TARGET: _public_name(value.func)} | as_json(value.keywords, name)
    raise ValueError(f"{name} is a {type(value).__name__}, which a JSON file cannot hold")


def _public_name(component: Callable[..., Any]) -> str:
    """Return the dotted name of a class or function, in the package that exports it if there is one."""
    package = component.__module__.rpartition(".")[0]
    exported = package and locate(f"{package}.{component.__qualname__}") is component
    return f"{package if exported else component.__module__}.{component.__qualname__}"


def check_definition(definition: Any, name: str) -> None:
    """Check that a definition holds no expression and names only classes of ``ALLOWED``.

    Raises:
        ValueError: if ``allowed_class`` rejects a target, or MONAI would evaluate a string.
    """
    for value in _leaves(definition):
        if isinstance(value, str) and value.startswith(("$", "@", "%")):
            raise ValueError(f"{name} holds the expression {value!r}; only plain values are allowed")
    for target in _targets(definition):
        try:
            allowed_class(target)
        except ValueError as error:
            raise ValueError(f"{name} {error}") from error


def allowed_class(target: Any) -> type:
    """Return the class of a dotted name if it is a network or transform defined in ``ALLOWED``.

    The prefix alone is not enough: ``bundle.networks.encoders.copy.copy`` leads out of the package again.

    Raises:
        ValueError: if it is any other object or cannot be imported.
    """
    located = None
    if isinstance(target, str) and target.startswith(ALLOWED) and all(map(str.isidentifier, target.split("."))):
        try:
            located = locate(target)
        except ErrorDuringImport as error:
            raise ValueError(f"names {target!r:.100}, which cannot be imported: {error.value}") from error
    if (
        isinstance(located, type)
        and issubclass(located, nn.Module | Transform)
        and located.__module__.startswith(ALLOWED)
    ):
        return located
    raise ValueError(f"names {target!r:.100}; only networks and transforms of {', '.join(ALLOWED)}* are allowed")


class Builder:
    """Factory of a component with a plain definition; a configuration may name it as a ``_target_``.

    Args:
        definition: a checked definition with ``_target_``.
        source: where it comes from, for errors.
    """

    def __init__(self, definition: Mapping[str, Any], source: str = "the definition") -> None:
        self.definition = dict(definition)
        self.source = source

    def __call__(self, **changes: Any) -> Any:
        """Instantiate the component.

        Args:
            **changes: arguments that differ from the definition; ``None`` means no change.

        Raises:
            ValueError: if the definition itself cannot be built; other errors are caused by ``changes``.
        """
        changes = {name: value for name, value in changes.items() if value is not None}
        if changes:
            return instantiate(self.definition | changes)
        try:
            return instantiate(self.definition)
        except Exception as error:  # arguments of any type reach any code of torch
            raise ValueError(f"{self.source} cannot be built: {type(error).__name__}: {error!s:.200}") from error


def instantiate(value: Any) -> Any:
    """Instantiate the components in a checked definition; encoders without their pretrained weights."""
    if isinstance(value, dict):
        parts = {name: instantiate(item) for name, item in value.items()}
        if TARGET not in parts:
            return parts
        component = allowed_class(parts.pop(TARGET))
        parts |= {PRETRAINED: False} if PRETRAINED in inspect.signature(component).parameters else {}
        return component(**parts)
    return [instantiate(item) for item in value] if isinstance(value, list) else value


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
