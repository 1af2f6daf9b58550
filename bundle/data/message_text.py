"""Formatting of names and counts in messages."""

from __future__ import annotations

from collections.abc import Iterable

SHOWN = 3
"""Number of names that a message shows."""


def join_names(names: Iterable[object], shown: int = SHOWN, between: str = ", ") -> str:
    """Join the first few of many names, followed by dots if there are more."""
    texts = [str(name) for name in names]
    return between.join(texts[:shown]) + (f"{between}..." if len(texts) > shown else "")


def pluralize(count: int, singular: str, plural: str | None = None) -> str:
    """Format a number with its noun: ``1 image``, ``2 images``."""
    return f"{count} {singular if count == 1 else plural or singular + 's'}"
