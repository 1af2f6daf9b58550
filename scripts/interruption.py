"""Print one line instead of a traceback on Ctrl-C, even while the modules of a program are imported."""

from __future__ import annotations

import sys
from pathlib import Path
from types import TracebackType


def end_without_traceback() -> None:
    """Set the exception hook of this process, if it is a program below this folder; call it before slow imports."""
    program = getattr(sys.modules["__main__"], "__file__", None) or ""
    if Path(program).resolve().is_relative_to(Path(__file__).resolve().parent):
        sys.excepthook = _excepthook


def _excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        print(f"{Path(sys.argv[0]).stem}: stopped", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)
