"""Last line of a failed run: one sentence that says what is wrong, in which file, and what to do."""

from __future__ import annotations

import errno
import re
import signal
import sys
import threading
from textwrap import shorten
from types import FrameType, TracebackType
from typing import Any

from tqdm import tqdm

NAME = "semi-moe"
PROGRAM = "monai.bundle.__main__"
"""Main module of the runs whose errors are summarized."""
WRAPPERS = ("Failed to instantiate component", "Failed to evaluate ", "applying transform ")
"""First words of the errors that MONAI wraps around the original one."""
TRACE = "Traceback (most recent call last):"
LINKS = re.compile(
    r"(?:The above exception was the direct cause of the following exception"
    r"|During handling of the above exception, another exception occurred):\n"
)
SYSTEM_ERROR = re.compile(r"\[Errno (?P<number>\d+)\] (?P<what>[^:]*)(?:: (?P<where>.+))?", re.DOTALL)
FULL = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}
CLOSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST}
SENTENCE_TYPES = {
    *("AnnotationError", "FileNotFoundError", "FloatingPointError", "OSError", "OtherReaderError", "PictureError"),
    *("RuntimeError", "SlideError", "ValueError"),
}
"""Errors whose text is a sentence; for other errors, the type is shown too."""
KNOWN = (
    ("out of memory", "the memory of the GPU is full; lower --batch_size or --crop_size"),
    ("can't allocate memory", "the memory is full; lower --batch_size, --crop_size or --data#cache_gib"),
    ("is killed by signal", "a loader process was killed, usually because memory is full; lower --num_workers"),
    ("exited unexpectedly", "a loader process ended; continue with --resume True, or without workers: --num_workers 0"),
    ("shared memory", "the shared memory is full; lower --num_workers, 0 needs none"),
    ("Output size is too small", "a crop is too small for the network; raise --crop_size to at least 16"),
    ("more than 1 value per channel", "batch normalization needs more pixels; raise --crop_size or --batch_size"),
    (
        "equal size, but got",
        "crops of one batch differ in size; give --crop_size two equal numbers, because crops are rotated",
    ),
    (
        "doesn't exist in the config file",
        "the configs define no run of this name; give another name, or --config_file",
    ),
    ("not defined in the config", "a config refers to a missing key; scripts/check_config.py shows where"),
    ("unexpected keyword argument", "a config gives an unknown setting; scripts/check_config.py shows where"),
)
"""Words in errors of torch and MONAI, and what they mean."""


def install_exception_hooks() -> None:
    """Write one sentence below the traceback of an error, if this process is ``python -m monai.bundle``.

    MONAI wraps errors in its own, so that the last line of a failed run is "Failed to instantiate component". The
    configs call this function first. It sets the exception hooks of the whole process, and a signal handler for Ctrl-C,
    so it does nothing in a notebook, a server or a test, which have another main module.
    """
    specification = getattr(sys.modules.get("__main__"), "__spec__", None)
    if getattr(specification, "name", None) == PROGRAM:
        hooks = ExceptionHooks()
        sys.excepthook = hooks.excepthook
        threading.excepthook = hooks.threading_excepthook
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, interrupt)


def interrupt(number: int, frame: FrameType | None) -> None:
    """Handle Ctrl-C: raise ``KeyboardInterrupt``, and no longer report loader workers that end.

    In a terminal, Ctrl-C ends the workers too. The signal handler of torch would raise a ``RuntimeError`` for them,
    which would replace the ``KeyboardInterrupt`` on its way up.
    """
    if hasattr(signal, "SIGCHLD"):  # not on Windows
        # SIG_IGN would also discard the exit codes of the workers, for which multiprocessing waits
        signal.signal(signal.SIGCHLD, _ignore)
    signal.default_int_handler(number, frame)


def _ignore(number: int, frame: FrameType | None) -> None:
    """Handle a signal by doing nothing."""


class ExceptionHooks:
    """Exception hooks that write the last line of a process.

    Other threads may fail of the same cause; their tracebacks come before the last line or are left out.
    """

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._finished = False

    def excepthook(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        """Write the traceback, unless the user stopped the run, and the sentence below it."""
        with self._turn:
            self._finished = True
            for bar in list(getattr(tqdm, "_instances", ())):  # an open bar is drawn again when Python exits
                bar.close()
            if not issubclass(kind, KeyboardInterrupt):
                sys.__excepthook__(kind, error, trace)
            sys.stderr.write(f"{NAME}: {sentence(error)}\n")
            sys.stderr.flush()

    def threading_excepthook(self, arguments: Any) -> None:
        """Write the traceback of another thread, unless the last line is already written."""
        with self._turn:
            if not self._finished:
                threading.__excepthook__(arguments)


def sentence(error: BaseException) -> str:
    """Return what went wrong, in one line."""
    if isinstance(error, KeyboardInterrupt):
        return "stopped; continue a training with --resume True, an inference with the same command"
    kind, text = root(error)
    text = " ".join(text.split())
    system_error = SYSTEM_ERROR.search(text)
    if system_error:
        return _system_sentence(int(system_error["number"]), system_error["what"], system_error["where"])
    for fragment, meaning in KNOWN:
        if fragment in text:
            return f"{meaning} ({shorten(text, 120, placeholder=' ...')})"
    if kind in SENTENCE_TYPES and text:
        return text
    return f"{kind}: {text}; see the traceback above" if text else f"{kind}; see the traceback above"


def root(error: BaseException) -> tuple[str, str]:
    """Return type and text of the original error, without what MONAI and torch wrap around it."""
    while str(error).startswith(WRAPPERS):
        cause = error.__cause__ or error.__context__
        if cause is None:
            break
        error = cause
    kind, text = type(error).__name__, str(error)
    return in_trace(text) if TRACE in text else (kind, text)


def in_trace(text: str) -> tuple[str, str]:
    """Return type and text of the original error in a traceback that another error holds as text.

    Errors of loader processes and of MONAI's writers have this form.
    """
    parts = LINKS.split(text[text.index(TRACE) :])
    for part in reversed(parts):
        kind, message = _error_at_end(part)
        if not message.startswith(WRAPPERS):
            return kind, message
    return _error_at_end(parts[0])


def _error_at_end(part: str) -> tuple[str, str]:
    """Return type and text at the end of one traceback, after the lines of its last frame."""
    lines = part.strip("\n").splitlines()
    start = max((number for number, line in enumerate(lines) if line.startswith('  File "')), default=-1) + 1
    while start < len(lines) and lines[start].startswith(" "):
        start += 1
    name, _, message = "\n".join(lines[start:]).partition(":")
    return name.strip().rpartition(".")[2], message.strip()


def _system_sentence(number: int, what: str, path: str | None) -> str:
    fault = f"{what}: {path}" if path else what
    if number in FULL:
        return f"{fault}; free disk space, or give another --output_dir or --ckpt_dir"
    if number in CLOSED:
        return f"{fault}; give readable files, and a writable --output_dir and --ckpt_dir"
    return f"{fault}; check that the file exists and the disk works"
