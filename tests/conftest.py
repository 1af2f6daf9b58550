"""Fixtures of all tests: folders, small configs, and the same initial state for every test."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from bundle.data import write_phantom
from tests.processes import Python, Run

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell has it for what it runs in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)  # else no program that a test starts can be interrupted

SMALL_PHANTOM: dict[str, Any] = {
    "size": [48, 64],
    "parts": {"training": [4, 8], "validation": [2, 2], "test": [3, 3]},
}
"""Settings of the tests' phantom: oblong tiles, so that height and width cannot be taken for each other."""
TINY: dict[str, Any] = {
    "network_def#encoder": None,
    "model#network": "bundle.networks.SemiMoE",
    "network_def#output_stride": 1,
    "network_def#widths": [4, 8, 8, 8, 8],
    "crop_size": [32, 32],
    "max_epochs": 2,
    "val_interval": 1,
    "num_workers": 0,
    "data_list": "heldout_50_seed0.json",
}
"""Top-level settings of a training of seconds: 4 labeled and 4 unlabeled tiles, 2 epochs of 2 steps."""


COLOR_RULE = {"_target_": "torch.nn.Conv2d", "in_channels": 3, "out_channels": 2, "kernel_size": 1}
"""A network that needs no training: what is dark is gland. With it, each step from file to mask has a known answer."""
LoggerState = tuple[list[logging.Handler], int, bool]
"""Handlers, level and whether messages go on to the parent."""
LONGEST = (
    *(
        "methods/test_every_method",
        "test_bad_input",
        "export/test_onnx",
        "engines/test_resume_checkpoint",
        "test_resume",
    ),
    *("test_bundle", "scripts/test_benchmark", "scripts/test_simulate_labeling", "scripts/test_check_config"),
    *("scripts/test_export_onnx", "slides/test_segmenter", "test_protocols", "test_own_data"),
    *("networks/test_encoders", "test_multi_gpu", "test_inference_outputs", "test_adding", "test_configs"),
)
"""Files of half a minute and more: they begin first, so that no process is left alone with one at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest files first, the others in their order."""
    rank = {f"tests/{name}.py": index for index, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.nodeid.partition("::")[0], len(rank)))


@dataclass(frozen=True)
class Bundle:
    """A copy of the bundle with tiny settings, and its command line."""

    root: Path
    python: Python

    def configs(self, *names: str) -> str:
        """Configs by name, with their paths, as the command line takes them."""
        return str([str(self.root / "configs" / name) for name in names])

    def edit(self, name: str, changes: Mapping[str, Any]) -> None:
        """Change settings in a config of this copy; keys as in overrides: ``network_def#widths``."""
        path = self.root / "configs" / name
        content = json.loads(path.read_text(encoding="utf-8"))
        for key, value in changes.items():
            *folders, last = key.split("#")
            node = content
            for folder in folders:
                node = node[folder]
            node[last] = value
        path.write_text(json.dumps(content, indent=4), encoding="utf-8")

    def predict_by_color(self) -> None:
        """Give inference a network, with weights, that calls gland what is darker than the mean in green."""
        weight = torch.zeros(2, 3, 1, 1)
        weight[0, 1] = 1.0
        (self.root / "models").mkdir()
        torch.save({"weight": weight, "bias": torch.zeros(2)}, self.root / "models" / "model.pt")
        self.edit("inference.json", {"network_def": COLOR_RULE})

    def command(self, *arguments: str) -> list[str]:
        """A command line of ``monai.bundle``."""
        return [sys.executable, "-m", "monai.bundle", *arguments]

    def run(
        self,
        *arguments: str,
        cwd: Path | None = None,
        launcher: tuple[str, ...] = (),
        fails: bool = False,
        timeout: float = 300,
    ) -> Run:
        """Run a command in a process of its own, on the CPU, in the bundle's folder unless another is given."""
        completed = self.python(*launcher, "-m", "monai.bundle", *arguments, cwd=cwd or self.root, timeout=timeout)
        return self.ended(completed, fails)

    def start(self, *arguments: str, fails: bool = False) -> Run:
        """Like ``run``, in a new Python process instead of a forked one."""
        command, environment = self.command(*arguments), os.environ | {"CUDA_VISIBLE_DEVICES": ""}
        completed = subprocess.run(command, cwd=self.root, env=environment, capture_output=True, text=True, timeout=300)
        return self.ended(completed, fails)

    def ended(self, done: Run, fails: bool) -> Run:
        """Check that a process ended without an error, and return it."""
        assert (done.returncode != 0) == fails, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done


@pytest.fixture(scope="session")
def repository_root() -> Path:
    """Folder of the checkout, which is the bundle's root."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def python() -> Iterator[Python]:
    """Runs Python in a process of its own: ``python("-m", "monai.bundle", "run", cwd=folder)``."""
    process = Python()
    yield process
    process.close()


@pytest.fixture(scope="session")
def load_program(repository_root: Path) -> Callable[[str], ModuleType]:
    """Imports a program of `scripts` by name, as a module of its own; nothing else imports programs."""

    def load(name: str) -> ModuleType:
        folder = repository_root / "scripts"
        node = next(path for path in (folder / f"{name}.py", folder / "dev" / f"{name}.py") if path.is_file())
        specification = importlib.util.spec_from_file_location(f"program_{name}", node)
        assert specification is not None
        assert specification.loader is not None
        module = importlib.util.module_from_spec(specification)
        sys.modules[specification.name] = module  # dataclasses look their module up
        specification.loader.exec_module(module)
        return module

    return load


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


@pytest.fixture(scope="session")
def phantom_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small phantom: 8 training, 2 validation and 3 test tiles; tests must not change it."""
    folder = tmp_path_factory.mktemp("phantom") / "dataset"
    write_phantom(folder, **SMALL_PHANTOM)
    return folder


@pytest.fixture
def tiny(repository_root: Path, phantom_dir: Path, tmp_path: Path) -> dict[str, Any]:
    """Overrides that make networks and data of the configs small, for tests in this process on the CPU."""
    return TINY | {
        "bundle_root": str(repository_root),
        "dataset_dir": str(phantom_dir),
        "output_dir": str(tmp_path / "output"),
        "ckpt_dir": str(tmp_path / "models"),
        "device": "$torch.device('cpu')",
        "amp": False,
    }


@pytest.fixture(scope="session")
def copy_bundle(
    repository_root: Path, phantom_dir: Path, python: Python, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Bundle]:
    """Copies the bundle, as a user has it, to a new folder, and makes its settings tiny there.

    With ``data=False`` the data set is left to be drawn by the first run. Compiled modules are copied too (but none
    that is being written), so that no copy compiles the bundle again.
    """

    def copy(name: str, data: bool = True) -> Bundle:
        root = tmp_path_factory.mktemp("bundles") / name
        for folder in ("bundle", "configs"):
            shutil.copytree(repository_root / folder, root / folder, ignore=shutil.ignore_patterns("*.pyc.*"))
        original = Bundle(root, python)
        original.edit("train.json", TINY | {f"data#datalist#{key}": value for key, value in SMALL_PHANTOM.items()})
        original.edit("inference.json", {"num_workers": 0})
        if data:
            shutil.copytree(phantom_dir, root / "dataset")
        return original

    return copy


@pytest.fixture
def ray_cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Two machines of one CPU each, which are processes of this one."""
    pytest.importorskip("ray", reason="Ray is an extra: `make test-cluster` installs it and runs this test")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_worker_niceness", "0")  # by default, workers would wait for all else on a busy machine
    machine = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
    result = Cluster(initialize_head=True, head_node_args=machine)
    try:
        result.add_node(**machine)
        yield result
    finally:
        result.shutdown()


@pytest.fixture(scope="session", autouse=True)
def _small_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Limit threads to two, or one if test processes share the cores; keep library caches in a temporary folder."""
    threads = 1 if int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")) > 1 else min(2, torch.get_num_threads())
    torch.set_num_threads(threads)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", str(threads))
        for name in ("XDG_CACHE_HOME", "TORCH_HOME", "MONAI_DATA_DIRECTORY"):
            patch.setenv(name, str(tmp_path_factory.mktemp(name.lower())))
        yield


@pytest.fixture(scope="session")
def _first_state() -> tuple[list[str], dict[str, LoggerState]]:
    """Return search path and loggers before any test."""
    return list(sys.path), {
        name: (list(item.handlers), item.level, item.propagate) for name, item in _loggers().items()
    }


@pytest.fixture(autouse=True)
def _own_state(_first_state: tuple[list[str], dict[str, LoggerState]]) -> Iterator[None]:
    """Start every test with the same random numbers, search path and loggers, whatever ran before.

    A bundle that runs inside a test, or inside a fixture of a module, puts its root on `sys.path` and configures
    logging to a stream that closes.
    """
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    _restore(*_first_state)
    yield
    _restore(*_first_state)


def _restore(path: list[str], loggers: dict[str, LoggerState]) -> None:
    sys.path[:] = path
    for name, item in _loggers().items():
        handlers, level, propagate = loggers.get(name, ([], logging.NOTSET, True))
        # pytest takes its own handlers away and brings them back; only what was added is the test's.
        item.handlers[:] = [
            handler for handler in item.handlers if handler in handlers or (name == "" and _of_pytest(handler))
        ]
        item.setLevel(level)
        item.propagate = propagate


def _loggers() -> dict[str, logging.Logger]:
    """Return all existing loggers by name; the name of the root logger is empty."""
    named = {name: item for name, item in logging.root.manager.loggerDict.items() if isinstance(item, logging.Logger)}
    return {"": logging.root, **named}


def _of_pytest(handler: logging.Handler) -> bool:
    return type(handler).__module__.startswith("_pytest.")
