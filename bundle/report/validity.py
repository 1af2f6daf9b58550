"""What a cell's file must hold, so that a damaged one is refused by name and not met by an error further on."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

NEEDED = ("name", "method", "labels", "seed", "protocol", "data", "size", "steps", "config", "counts", "metrics")
"""Keys without which a cell cannot be reported."""

Check = Callable[[Any], str | None]
"""Says what a value should be instead, or ``None`` where it is well."""


def fault_of(content: Mapping[str, Any]) -> str | None:
    """What is wrong with the content of a cell's file, in words that follow the file's name; ``None`` for nothing.

    Keys that may be missing may also be ``null``.
    """
    missing = [key for key in NEEDED if key not in content]
    if missing:
        return f"lacks {', '.join(missing)}"
    for key, check in CHECKS.items():
        value = content.get(key)
        if value is None and key not in NEEDED:
            continue
        wanted = check(value)
        if wanted is not None:
            return f"has a wrong {key!r}: it should be {wanted}"
    return None


def _text(value: Any) -> str | None:
    return None if isinstance(value, str) and value else "a text"


def _maybe_text(value: Any) -> str | None:
    return None if value is None else _text(value)


def _flag(value: Any) -> str | None:
    return None if isinstance(value, bool) else "true or false"


def _whole(value: Any) -> str | None:
    return None if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else "a whole number from 0"


def _positive(value: Any) -> str | None:
    return "a whole number above 0" if _whole(value) or value == 0 else None


def _number(value: Any) -> str | None:
    known = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return None if value is None or known else "a number or null"


def _share(value: Any) -> str | None:
    try:
        return None if isinstance(value, str) and 0 < float(value) <= 100 else "a percentage, as text"
    except ValueError:
        return "a percentage, as text"


def _list_of(check: Check) -> Check:
    """A list whose values all pass."""

    def checked(value: Any) -> str | None:
        if not isinstance(value, list):
            return "a list"
        return next((f"a list, each value {wanted}" for one in value if (wanted := check(one))), None)

    return checked


def _each(check: Check, filled: bool = False) -> Check:
    """An object whose values all pass, and which is not empty if it must be ``filled``."""

    def checked(value: Any) -> str | None:
        if not isinstance(value, dict) or (filled and not value):
            return f"an object with {'at least one value' if filled else 'names and values'}"
        found = ((name, check(one)) for name, one in value.items())
        return next((f"an object whose {name!r} is {wanted}" for name, wanted in found if wanted), None)

    return checked


def _keys(**checks: Check) -> Check:
    """An object; what it has of some keys, and is not null, passes."""

    def checked(value: Any) -> str | None:
        if not isinstance(value, dict):
            return "an object"
        found = ((name, check(value[name])) for name, check in checks.items() if value.get(name) is not None)
        return next((f"an object whose {name!r} is {wanted}" for name, wanted in found if wanted), None)

    return checked


def _table(texts: tuple[str, ...] = (), needed: tuple[str, ...] = ()) -> Check:
    """Columns by name: lists of one length, of numbers or null, of different texts in ``texts``."""

    def checked(value: Any) -> str | None:
        if not isinstance(value, dict) or any(name not in value for name in needed):
            return f"an object of columns with {', '.join(needed)}"
        for name, column in value.items():
            wanted = _list_of(_text if name in texts else _number)(column)
            if wanted:
                return f"an object of columns, {name!r} {wanted}"
        if len({len(column) for column in value.values()}) > 1:
            return "an object of columns of one length"
        counts = Counter(entry for name in texts for entry in value[name])
        twice = [entry for entry, count in counts.items() if count > 1]
        return f"a table of images with different names, and {twice[0]!r} is there twice" if twice else None

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
"""By key of a cell's file; keys that are not here are not used."""
