"""How a run ends that fails: one sentence on the last line that says what is wrong, which file, and what to do."""

from __future__ import annotations

import errno
import re
import sys
import threading
from textwrap import shorten
from types import TracebackType
from typing import Any

from tqdm import tqdm

NAME = "semi-moe"
PROGRAM = "monai.bundle.__main__"
"""The program whose last line this is."""
WRAPPERS = ("Failed to instantiate component", "Failed to evaluate ", "applying transform ")
"""How MONAI begins what it says around the error that matters."""
TRACE = "Traceback (most recent call last):"
LINKS = re.compile(
    r"(?:The above exception was the direct cause of the following exception"
    r"|During handling of the above exception, another exception occurred):\n"
)
OF_THE_SYSTEM = re.compile(r"\[Errno (?P<number>\d+)\] (?P<what>[^:]*)(?:: (?P<where>.+))?", re.DOTALL)
FULL = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}
CLOSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST}
TELLING = {
    *("AnnotationError", "FileNotFoundError", "FloatingPointError", "OSError", "OtherReaderError", "PictureError"),
    *("RuntimeError", "SlideError", "ValueError"),
}
"""Errors whose text is a sentence; of others, the kind is told too."""
KNOWN = (
    ("out of memory", "the memory of the GPU is full; lower --batch_size or --crop_size"),
    ("can't allocate memory", "the memory is full; lower --batch_size, --crop_size or --cache_gib"),
    ("is killed by signal", "a loader process was killed, mostly for want of memory; lower --num_workers"),
    ("exited unexpectedly", "a loader process ended; go on with --resume True, or without any by --num_workers 0"),
    ("shared memory", "the shared memory is full; lower --num_workers, 0 needs none"),
    ("Output size is too small", "a crop is smaller than the network takes; raise --crop_size, to 16 at least"),
    ("more than 1 value per channel", "batch normalization needs more pixels; raise --crop_size or --batch_size"),
    (
        "equal size, but got",
        "crops of one batch differ in size; --crop_size wants two equal numbers, for crops are turned",
    ),
    (
        "doesn't exist in the config file",
        "the configs have nothing of this name to run; give another, or --config_file",
    ),
    ("not defined in the config", "a config refers to what is not there; scripts/check_config.py says where"),
    ("unexpected keyword argument", "a config gives a setting that nothing takes; scripts/check_config.py says where"),
)
"""What errors of torch and MONAI say, and what it means."""


def end_clearly() -> None:
    """Let this process, if it is ``python -m monai.bundle``, end an error with one sentence; the traceback stays above.

    MONAI wraps errors in its own, so that the last line of a failed run says "Failed to instantiate component". The
    configs call this first. It sets the hooks for errors, which are of the whole process: so never in a notebook, a
    server or a test, which have other main programs.
    """
    specification = getattr(sys.modules.get("__main__"), "__spec__", None)
    if getattr(specification, "name", None) == PROGRAM:
        ending = Ending()
        sys.excepthook = ending.tell
        threading.excepthook = ending.tell_thread


class Ending:
    """The last words of a process. Other threads may fail of the same cause; they say so before them or not at all."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._told = False

    def tell(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        """Write the traceback as Python does, unless a person stopped the run, and the sentence below it."""
        with self._turn:
            self._told = True
            for bar in list(getattr(tqdm, "_instances", ())):  # a bar left open is drawn once more when Python ends
                bar.close()
            if not issubclass(kind, KeyboardInterrupt):
                sys.__excepthook__(kind, error, trace)
            sys.stderr.write(f"{NAME}: {sentence(error)}\n")
            sys.stderr.flush()

    def tell_thread(self, arguments: Any) -> None:
        """Write the traceback of another thread as Python does, unless the last words are said."""
        with self._turn:
            if not self._told:
                threading.__excepthook__(arguments)


def sentence(error: BaseException) -> str:
    """What went wrong, in one line."""
    if isinstance(error, KeyboardInterrupt):
        return "stopped; a training goes on with --resume True, an inference by the same command"
    kind, text = root(error)
    text = " ".join(text.split())
    found = OF_THE_SYSTEM.search(text)
    if found:
        return _of_the_system(int(found["number"]), found["what"], found["where"])
    for words, meaning in KNOWN:
        if words in text:
            return f"{meaning} ({shorten(text, 120, placeholder=' ...')})"
    if kind in TELLING and text:
        return text
    return f"{kind}: {text}; the lines above say where" if text else f"{kind}; the lines above say where"


def root(error: BaseException) -> tuple[str, str]:
    """Kind and text of the error below all that MONAI and torch have wrapped around it."""
    while str(error).startswith(WRAPPERS):
        cause = error.__cause__ or error.__context__
        if cause is None:
            break
        error = cause
    kind, text = type(error).__name__, str(error)
    return in_trace(text) if TRACE in text else (kind, text)


def in_trace(text: str) -> tuple[str, str]:
    """Kind and text of the error in a traceback that another error carries as text.

    Loader processes send theirs so, and MONAI's writers hide theirs so.
    """
    parts = LINKS.split(text[text.index(TRACE) :])
    for part in reversed(parts):
        kind, said = _last(part)
        if not said.startswith(WRAPPERS):
            return kind, said
    return _last(parts[0])


def _last(part: str) -> tuple[str, str]:
    """Kind and text at the end of one traceback: what follows the lines of its last frame."""
    lines = part.strip("\n").splitlines()
    start = max((number for number, line in enumerate(lines) if line.startswith('  File "')), default=-1) + 1
    while start < len(lines) and lines[start].startswith(" "):
        start += 1
    name, _, said = "\n".join(lines[start:]).partition(":")
    return name.strip().rpartition(".")[2], said.strip()


def _of_the_system(number: int, what: str, where: str | None) -> str:
    place = f": {where}" if where else ""
    if number in FULL:
        return f"{what}{place}; make room on the disk, or give another --output_dir or --ckpt_dir"
    if number in CLOSED:
        return f"{what}{place}; give files that can be read, and an --output_dir and --ckpt_dir that can be written"
    return f"{what}{place}; look whether this file is there and the disk in order"
