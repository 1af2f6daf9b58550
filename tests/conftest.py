"""What all tests share: where things lie, and that no test leaves its state to the next."""

from __future__ import annotations

import logging
import os
import random
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch


@pytest.fixture(scope="session")
def repository_root() -> Path:
    """Folder of the checkout, which is the bundle's root."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def glas_dir() -> Path:
    """Folder of the GlaS download as it comes (pictures, `_anno` masks, Grade.csv)."""
    folder = os.environ.get("GLAS_DIR")
    if not folder:
        pytest.skip("GLAS_DIR is not set: the folder of the GlaS download, which nobody may pass on")
    return Path(folder)


@pytest.fixture(scope="session")
def reference() -> Mapping[str, np.ndarray]:
    """Numbers that the authors' code gives: targets (`sdf`, `boundary`), losses (`loss_*`), `adaptive`."""
    folder = os.environ.get("REFERENCE_FIXTURES")
    if not folder:
        pytest.skip("REFERENCE_FIXTURES is not set: the folder of semi_moe_reference.npz")
    with np.load(Path(folder) / "semi_moe_reference.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="session", autouse=True)
def _small_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Two threads at most, and caches of libraries in a temporary folder, in the tests' own processes too."""
    threads = min(2, torch.get_num_threads())
    torch.set_num_threads(threads)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", str(threads))
        for name in ("XDG_CACHE_HOME", "TORCH_HOME", "MONAI_DATA_DIRECTORY"):
            patch.setenv(name, str(tmp_path_factory.mktemp(name.lower())))
        yield


@pytest.fixture(autouse=True)
def _own_state() -> Iterator[None]:
    """The same random numbers for each test, whatever ran before; search path and loggers as they were, after it.

    A bundle that runs inside a test puts its root on `sys.path` and configures logging to a stream that closes.
    """
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    path = list(sys.path)
    before = {name: (list(one.handlers), one.level, one.propagate) for name, one in _loggers().items()}
    yield
    sys.path[:] = path
    for name, one in _loggers().items():
        handlers, level, propagate = before.get(name, ([], logging.NOTSET, True))
        # pytest takes its own handlers away and brings them back; only what was added is the test's.
        one.handlers[:] = [
            handler for handler in one.handlers if handler in handlers or (name == "" and _of_pytest(handler))
        ]
        one.setLevel(level)
        one.propagate = propagate


def _loggers() -> dict[str, logging.Logger]:
    """Every logger that exists, by name; the root's is empty."""
    named = {name: one for name, one in logging.root.manager.loggerDict.items() if isinstance(one, logging.Logger)}
    return {"": logging.root, **named}


def _of_pytest(handler: logging.Handler) -> bool:
    return type(handler).__module__.startswith("_pytest.")
