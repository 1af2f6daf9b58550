"""Words that sentences of errors are made of."""

from __future__ import annotations

from collections.abc import Iterable

SHOWN = 3
"""How many names an error shows."""


def some(names: Iterable[object], shown: int = SHOWN, between: str = ", ") -> str:
    """Write the first few of many names, with dots where there are more."""
    found = [str(name) for name in names]
    return between.join(found[:shown]) + (f"{between}..." if len(found) > shown else "")


def counted(count: int, one: str, many: str | None = None) -> str:
    """Write a number with its noun: ``1 image``, ``2 images``."""
    return f"{count} {one if count == 1 else many or one + 's'}"
