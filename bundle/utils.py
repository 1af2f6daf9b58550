"""Atomic writing of files, complete or missing also if the run is killed, and checks of outputs and weights."""

from __future__ import annotations

import errno
import math
import os
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from secrets import token_hex
from typing import Any

import torch
from torch import Tensor

PARTIAL = re.compile(r"\.(.+)\.[0-9a-f]{8}\.partial(\..+)?")
"""Name of a temporary file, as ``temporary_path`` makes it; the first group is the name of the file."""
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Error numbers of a full disk or quota."""
LARGEST_OUTPUT = 1e6
"""Largest absolute output of a network that was trained; after a diverged training they are far above it."""


def check_output(output: Tensor, where: str = "") -> None:
    """Check that the output of a network holds plausible numbers: argmax would make "no gland" of all others.

    Args:
        output: logits or maps.
        where: what they were predicted for, for the message.

    Raises:
        ValueError: if a value is NaN, infinite, or above ``LARGEST_OUTPUT``.
    """
    if output.numel() == 0:
        return
    lowest, highest = torch.aminmax(output.detach().as_subclass(Tensor))
    largest = float(torch.maximum(-lowest, highest))  # NaN if any value is
    if largest <= LARGEST_OUTPUT:  # false for NaN
        return
    reason = "holds NaN" if math.isnan(largest) else f"reaches {largest:.3g}, which is no plausible logit"
    suffix = f" for {where}" if where else ""
    raise ValueError(
        f"the network's output{suffix} {reason}; its training diverged: use other weights, or train it again with a "
        "lower learning rate"
    )


def check_weights(weights: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Check that all weights are numbers.

    Raises:
        ValueError: if one is NaN or infinite.
    """
    tensors = [value for value in weights.values() if torch.is_tensor(value) and value.is_floating_point()]
    if not all(bool(torch.isfinite(value).all()) for value in tensors):
        raise ValueError(
            f"{path}: the weights hold NaN or infinite values; their training diverged: use other weights, or "
            "train again with a lower learning rate"
        )


def temporary_path(path: str | os.PathLike[str], suffix: str = "") -> Path:
    """Return a temporary path beside a file.

    The name is random, because process ids are equal in two threads and in containers that share a folder.

    Args:
        path: file to write; its folder is created if missing.
        suffix: end of the temporary name, for writers that choose the format by it.

    Raises:
        OSError: if the folder cannot be created.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".{path.name}.{token_hex(4)}.partial{suffix}")


def remove_partials(path: str | os.PathLike[str]) -> None:
    """Remove temporary files that killed runs left beside a file."""
    path = Path(path)
    for partial in path.parent.glob(f".{escape(path.name)}.*.partial*"):
        partial.unlink(missing_ok=True)


def remove_partials_of(folder: str | os.PathLike[str], names: Collection[str] | None = None) -> None:
    """Remove temporary files that killed runs left in a folder, of the files with these names, or of all files."""
    for partial in Path(folder).glob(".*.partial*"):
        match = PARTIAL.fullmatch(partial.name)
        if match and (names is None or match[1] in names):
            partial.unlink(missing_ok=True)


@contextmanager
def path_in_errors(path: str | os.PathLike[str], temporary: Path | None = None) -> Iterator[None]:
    """Name a file in the errors of writing it; the error of a full disk names none, others name the temporary file.

    Args:
        path: file to write.
        temporary: its temporary file.

    Raises:
        OSError: with ``path``, in place of an OSError raised inside, also of one that torch wrapped in a RuntimeError.
            Errors that name another file stay as they are.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        cause = _os_error(error)
        own = (None, str(temporary), str(Path(path).parent))
        if cause is None or (cause.filename and str(cause.filename)) not in own:
            raise
        if cause.errno is None:
            raise OSError(f"{path} could not be written: {cause}") from error
        raise OSError(cause.errno, os.strerror(cause.errno), str(path)) from error


@contextmanager
def atomic_path(path: str | os.PathLike[str], suffix: str = "", clean: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside a file; it is renamed to the file at the end, or removed after an error.

    Args:
        path: file to write; its folder is created if missing. An existing file stays unchanged after an error.
        suffix: end of the temporary name, for writers that choose the format by it.
        clean: whether to remove temporary files of killed runs first; only if no other process writes the same file.

    Raises:
        OSError: if the file cannot be written, for example on a full disk; the error names the file.

    Example::

        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with atomic_path(f"{folder}/table.csv") as temporary:
        ...         _ = temporary.write_text("a,b")
        ...     Path(folder, "table.csv").read_text()
        'a,b'
    """
    with path_in_errors(path):
        temporary = temporary_path(path, suffix)
        if clean:
            remove_partials(path)
    with path_in_errors(path, temporary):
        try:
            yield temporary
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def naming_full_disk(output: Path) -> Iterator[None]:
    """Name ``output`` in errors of a full disk, which otherwise name the source of a copy, or no file.

    Raises:
        OSError: if the disk is full or a file may not grow, with ``output`` as file name.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(output)) from error


def _os_error(error: BaseException | None) -> OSError | None:
    """Return the OSError behind an error; torch wraps it in an error of another type."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error
