"""Import of torchvision with a torch that it was not built for; MONAI Label requires only the import."""

from __future__ import annotations

import importlib
import os
import runpy
import sys
from collections.abc import MutableMapping
from pathlib import Path

STUBS = Path(__file__).resolve().parents[1] / "stubs"
MISSING = "operator torchvision::"
"""Prefix of torch's message about a missing compiled operator."""


def prepare_torchvision(environment: MutableMapping[str, str]) -> bool:
    """Import torchvision; if its operators are missing, declare them in this process and its future child processes.

    Nothing is changed if torch and torchvision match.

    Args:
        environment: environment of the child processes, usually ``os.environ``; ``PYTHONPATH`` is set in it.

    Returns:
        Whether the operators were declared.

    Raises:
        ImportError: if torchvision is not installed.
        RuntimeError: if the import fails for another reason.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if not str(error).startswith(MISSING):
            raise
    else:
        return False
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]  # remains of the failed import
    runpy.run_path(str(STUBS / "sitecustomize.py"))
    importlib.import_module("torchvision")
    environment["PYTHONPATH"] = os.pathsep.join([str(STUBS), *filter(None, [environment.get("PYTHONPATH")])])
    return True
