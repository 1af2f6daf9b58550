"""Declares two operators of torchvision, for machines where its compiled part cannot be loaded.

Python imports a file of this name by itself when it starts, if its folder is on `PYTHONPATH`; `lib/operators.py` puts
it there where it is needed. Who takes torch and torchvision from one index never has it there.

MONAI Label imports torchvision to make pictures, and PyPI's torchvision for Linux is built for CUDA: beside a torch for
CPU its operators are missing, and the import fails where it describes them. Declared, they are there to be described;
calling one still fails.
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
    """A finder that finds nothing: asked for torchvision, it declares the operators, and others find the module.

    So a process that never imports torchvision does not import torch either.
    """

    def __init__(self) -> None:
        self._library: Any = None  # operators are there as long as the library that declares them

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        """Declare the operators, once."""
        if name == "torchvision" and self._library is None:
            import torch

            self._library = torch.library.Library("torchvision", "FRAGMENT")
            for operator in OPERATORS:
                self._library.define(operator + ARGUMENTS)


sys.meta_path.insert(0, DeclareBeforeImport())
