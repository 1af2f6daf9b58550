"""Checks of the content of a cell's file, so that damaged files give a clear error."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

NEEDED = ("name", "method", "labels", "seed", "protocol", "data", "size", "steps", "config", "counts", "metrics")
"""Required keys."""

Check = Callable[[Any], str | None]
"""Function that returns what a value should be, or ``None`` if it is valid."""


def find_error(content: Mapping[str, Any]) -> str | None:
    """Return the first error in the content of a cell's file, as text after the file name; ``None`` if it is valid.

    Optional keys may also be ``null``.
    """
    missing = [key for key in NEEDED if key not in content]
    if missing:
        return f"has no {', '.join(missing)}"
    for key, check in CHECKS.items():
        value = content.get(key)
        if value is None and key not in NEEDED:
            continue
        expected = check(value)
        if expected is not None:
            return f"has a wrong {key!r}: it should be {expected}"
    return None


def _text(value: Any) -> str | None:
    return None if isinstance(value, str) and value else "a text"


def _maybe_text(value: Any) -> str | None:
    return None if value is None else _text(value)


def _flag(value: Any) -> str | None:
    return None if isinstance(value, bool) else "true or false"


def _whole(value: Any) -> str | None:
    return None if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else "an integer of at least 0"


def _positive(value: Any) -> str | None:
    return "an integer above 0" if _whole(value) or value == 0 else None


def _number(value: Any) -> str | None:
    valid = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return None if value is None or valid else "a number or null"


def _share(value: Any) -> str | None:
    try:
        return None if isinstance(value, str) and 0 < float(value) <= 100 else "a percentage, as text"
    except ValueError:
        return "a percentage, as text"


def _list_of(check: Check) -> Check:
    """Return the check of a list whose values all pass."""

    def checked(value: Any) -> str | None:
        if not isinstance(value, list):
            return "a list"
        return next((f"a list, each value {expected}" for item in value if (expected := check(item))), None)

    return checked


def _each(check: Check, filled: bool = False) -> Check:
    """Return the check of an object whose values all pass and, if ``filled``, that is not empty."""

    def checked(value: Any) -> str | None:
        if not isinstance(value, dict) or (filled and not value):
            return f"an object with {'at least one value' if filled else 'names and values'}"
        results = ((name, check(item)) for name, item in value.items())
        return next((f"an object whose {name!r} is {expected}" for name, expected in results if expected), None)

    return checked


def _keys(**checks: Check) -> Check:
    """Return the check of an object whose values of some keys, if present and not null, pass."""

    def checked(value: Any) -> str | None:
        if not isinstance(value, dict):
            return "an object"
        results = ((name, check(value[name])) for name, check in checks.items() if value.get(name) is not None)
        return next((f"an object whose {name!r} is {expected}" for name, expected in results if expected), None)

    return checked


def _table(texts: tuple[str, ...] = (), needed: tuple[str, ...] = ()) -> Check:
    """Return the check of columns, lists of the same length: unique texts in ``texts``, otherwise numbers or null."""

    def checked(value: Any) -> str | None:
        if not isinstance(value, dict) or any(name not in value for name in needed):
            return f"an object of columns with {', '.join(needed)}"
        for name, column in value.items():
            expected = _list_of(_text if name in texts else _number)(column)
            if expected:
                return f"an object of columns, {name!r} {expected}"
        if len({len(column) for column in value.values()}) > 1:
            return "an object of columns of the same length"
        counts = Counter(entry for name in texts for entry in value[name])
        duplicates = [entry for entry, count in counts.items() if count > 1]
        return f"a table of images with unique names, but {duplicates[0]!r} is repeated" if duplicates else None

    return checked


_NUMBERS = _each(_number)

CHECKS: dict[str, Check] = {
    **dict.fromkeys(
        ("name", "method", "protocol", "data", "size", "budget", "data_list", "dataset_dir", "masks"), _text
    ),
    **dict.fromkeys(("commit", "started", "finished"), _text),
    "labels": _share,
    "seed": _whole,
    "steps": _positive,
    "epochs": _positive,
    "dirty": _flag,
    "config": _keys(files=_list_of(_text), overrides=_each(lambda _: None), setting=_text, digest=_text, recipe=_text),
    "counts": _each(_whole),
    "metrics": _each(_number, filled=True),
    "per_image": _table(texts=("image",), needed=("image",)),
    "calibration": _table(needed=("confidence", "share", "count")),
    "curves": _table(needed=("epoch",)),
    "commits": _list_of(_maybe_text),
    "versions": _each(_text),
    "attempts": _each(_whole),
    **dict.fromkeys(("parameters", "seconds", "peak_memory"), _NUMBERS),
    "selected": _keys(epoch=_number, value=_number, metric=_text),
    "hardware": _keys(cpu=_text, device=_text, threads=_number),
}
"""Checks by key of a cell's file; other keys are not used."""
