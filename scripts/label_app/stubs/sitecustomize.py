"""Declare two operators of torchvision, for machines where its compiled part cannot be loaded.

Python imports a file of this name at start if its folder is on `PYTHONPATH`; `lib/operators.py` adds it only if needed.
It is not needed if torch and torchvision come from the same index.

MONAI Label imports torchvision to write images, and PyPI's torchvision for Linux is built for CUDA: with a CPU build of
torch its operators are missing and the import fails. With this declaration the import succeeds; calling the operators
still fails.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from types import ModuleType
from typing import Any

OPERATORS = ("nms", "qnms")
ARGUMENTS = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


class DeclareBeforeImport(MetaPathFinder):
    """Import hook that declares the operators before torchvision is imported; it finds no module itself.

    A process that does not import torchvision does not import torch either.
    """

    def __init__(self) -> None:
        self._library: Any = None  # keeps the declared operators alive

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        """Declare the operators, once."""
        if name == "torchvision" and self._library is None:
            import torch

            self._library = torch.library.Library("torchvision", "FRAGMENT")
            for operator in OPERATORS:
                self._library.define(operator + ARGUMENTS)


sys.meta_path.insert(0, DeclareBeforeImport())
