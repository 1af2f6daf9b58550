"""Parser of config overrides on a command line, in the syntax of ``monai.bundle run``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fire.parser import DefaultParseValue

RUN_OPTIONS = ("meta_file", "logging_file")
"""Options of MONAI's command that are not keys of a config."""


def settings_of(arguments: Sequence[str]) -> dict[str, Any]:
    """Parse ``--key value`` and ``--key=value`` as ``monai.bundle run`` does.

    Raises:
        ValueError: for a word that is not a key, or a key without value.
    """
    settings, remaining = {}, list(arguments)
    while remaining:
        key, sign, value = remaining.pop(0).partition("=")
        if not key.startswith("--") or not (sign or remaining):
            raise ValueError(f"{key!r} is not a --key with a value")
        settings[key[2:]] = DefaultParseValue(value if sign else remaining.pop(0))
    return {key: value for key, value in settings.items() if key not in RUN_OPTIONS}
