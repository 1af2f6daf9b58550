"""Lets torchvision be imported beside a torch that it was not built for, which is all that MONAI Label needs of it."""

from __future__ import annotations

import importlib
import os
import runpy
import sys
from collections.abc import MutableMapping
from pathlib import Path

STUBS = Path(__file__).resolve().parents[1] / "stubs"
MISSING = "operator torchvision::"
"""How torch begins to say that a compiled operator is not there."""


def prepare_torchvision(environment: MutableMapping[str, str]) -> bool:
    """Import torchvision; where its operators are missing, declare them here and in processes yet to be started.

    Nothing is changed where torch and torchvision fit each other.

    Args:
        environment: what those processes get, ``os.environ`` as a rule; ``PYTHONPATH`` is set in it.

    Returns:
        Whether the operators had to be declared.

    Raises:
        ImportError: where torchvision is not installed.
        RuntimeError: where the import fails for another reason.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if not str(error).startswith(MISSING):
            raise
    else:
        return False
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]  # what the failed import left behind
    runpy.run_path(str(STUBS / "sitecustomize.py"))
    importlib.import_module("torchvision")
    environment["PYTHONPATH"] = os.pathsep.join([str(STUBS), *filter(None, [environment.get("PYTHONPATH")])])
    return True
