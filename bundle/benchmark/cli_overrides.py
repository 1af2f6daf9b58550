"""The words of a run: what stands behind ``monai.bundle run`` on a command line, for programs that take the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fire.parser import DefaultParseValue

OF_THE_RUN = ("meta_file", "logging_file")
"""Words of MONAI's command and no settings of a config."""


def settings_of(words: Sequence[str]) -> dict[str, Any]:
    """Read ``--key value`` and ``--key=value`` as ``monai.bundle run`` does.

    Raises:
        ValueError: for a word that is no key, or a key without value.
    """
    found, left = {}, list(words)
    while left:
        key, sign, value = left.pop(0).partition("=")
        if not key.startswith("--") or not (sign or left):
            raise ValueError(f"{key!r} is no --key with a value")
        found[key[2:]] = DefaultParseValue(value if sign else left.pop(0))
    return {key: value for key, value in found.items() if key not in OF_THE_RUN}
