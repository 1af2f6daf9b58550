"""Ray cluster as the engine of a benchmark: each process of a cell is a task that a machine of the cluster runs."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.benchmarking.files import OutputLock
from scripts.benchmarking.processes import PATIENCE, Children, Ended, uninterrupted

LOCK_PATIENCE = 120.0
"""Seconds to wait for the lock of a cell: a file server keeps the locks of a machine that was lost for a while."""
CONNECTION_PATIENCE = 5.0
"""Seconds to wait for the head of a cluster; Ray itself would wait for minutes."""


class RayTasks:
    """Processes that run as tasks of a Ray cluster; the methods are those of ``Children``.

    A task is never repeated by Ray: a process whose worker or machine was lost is returned as such (``Ended.lost``).

    Args:
        cpus: CPUs of a task.
        gpus: GPUs of a task; a fraction shares a GPU.
    """

    def __init__(self, cpus: int, gpus: float) -> None:
        import ray

        self.ray = ray
        for part in (run_process, Children, OutputLock):  # workers need not import torch and the bundle for them
            ray.cloudpickle.register_pickle_by_value(sys.modules[part.__module__])
        self._task: Any = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0)(run_process)
        self._running: dict[Any, tuple[str, float, Path]] = {}

    def start(self, name: str, command: Sequence[str], log: Path, folder: Path, environment: Mapping[str, str]) -> None:
        """Submit a process; see ``Children.start``. ``environment`` is added to that of the worker."""
        with uninterrupted():
            task = self._task.remote(name, list(command), log, folder, dict(environment))
            self._running[task] = (name, time.monotonic(), log)

    def running(self) -> dict[str, float]:
        """Return name -> seconds since the submission, of the processes that have not ended."""
        return {name: time.monotonic() - started for name, started, _ in self._running.values()}

    def processes(self) -> list[str]:
        """Return no processes, as none runs on this machine under the lock of the benchmark."""
        return []

    def wait(self, seconds: float) -> list[Ended]:
        """Return an ended process as soon as there is one; an empty list after ``seconds``."""
        ended, _ = self.ray.wait(list(self._running), timeout=seconds)
        with uninterrupted():
            return [self._end(task) for task in ended]

    def stop(self) -> list[Ended]:
        """Stop all processes as ``Children.stop`` does, each on its machine."""
        ended = []
        try:
            ended += self._cancel(force=False)
        finally:
            ended += self._cancel(force=True)
        return ended

    def _cancel(self, force: bool) -> list[Ended]:
        """Cancel all tasks, gently or with their workers, and wait for their ends for some seconds."""
        for task in self._running:
            self.ray.cancel(task, force=force)
        ended: list[Ended] = []
        until = time.monotonic() + 2 * PATIENCE
        while self._running and time.monotonic() < until:
            ended += self.wait(1.0)
        return ended

    def _end(self, task: Any) -> Ended:
        """Return how a task ended; the log gets what its process could not write."""
        errors = self.ray.exceptions
        name, started, log = self._running.pop(task)
        seconds = time.monotonic() - started
        try:
            return Ended(name, *self.ray.get(task))
        except errors.TaskCancelledError:  # before it began
            return Ended(name, -signal.SIGTERM, 0.0, 0.0)
        except errors.RayError as error:
            crashes = (errors.WorkerCrashedError, errors.NodeDiedError, errors.LocalRayletDiedError)
            lost = isinstance(error, (*crashes, errors.OutOfMemoryError))
            reason = f"Ray lost its worker ({type(error).__name__})" if lost else getattr(error, "cause", error)
            with log.open("a", encoding="utf-8") as file:
                file.write(f"{' '.join(str(reason).split())}\n")
            return Ended(name, -signal.SIGKILL if lost else 1, seconds, 0.0, lost)


def run_process(
    name: str, command: list[str], log: Path, folder: Path, environment: dict[str, str]
) -> tuple[int, float, float]:
    """Run a process inside a worker of Ray, under a lock in the folder of its log.

    The lock prevents that two workers work in one folder. If the worker is killed, the system kills the process
    (``setpriv`` of util-linux); without ``setpriv`` the process keeps the lock until it ends.

    Returns:
        Exit code, seconds and memory as in ``Ended``.

    Raises:
        ValueError: if the folder of the log does not exist on this machine, or stays locked.
    """
    if not log.parent.is_dir():
        raise ValueError(
            f"{log.parent} does not exist on {socket.gethostname()}; give an --output that all machines share"
        )
    if shutil.which("setpriv"):
        command = ["setpriv", "--pdeathsig", "KILL", "--", *command]
    with OutputLock(log.parent, f"worker of Ray on {socket.gethostname()}", LOCK_PATIENCE) as lock:
        children = Children(lock.inherited)
        ended: list[Ended] = []
        try:
            children.start(name, command, log, folder, os.environ | environment)
            lock.note(children.processes())
            while not ended:
                ended = children.wait(60.0)
        except KeyboardInterrupt:  # Ray cancels the task
            ended = [Ended(name, -signal.SIGINT, 0.0, 0.0)]
        finally:
            ended = children.stop() or ended
    return ended[0].exit_code, ended[0].seconds, ended[0].host_mib


def check_options(engine: str, address: str | None, devices: Sequence[str] | None) -> None:
    """Check the options of the engine.

    Raises:
        ValueError: if one is invalid.
    """
    if engine == "local":
        if address is not None:
            raise ValueError("--address needs --engine ray")
        return
    if address is not None and address != "auto" and not (":" in address and address.rpartition(":")[2].isdigit()):
        raise ValueError(f"--address {address} must be auto or HOST:PORT")
    if devices not in (None, ["cpu"], ["cuda"]):
        raise ValueError("--devices with --engine ray must be cpu or cuda; Ray selects the machines and GPUs")


def connect(address: str, device: str | None, jobs: int, threads: int | None) -> tuple[int, dict[str, str], RayTasks]:
    """Connect to a cluster.

    Args:
        address: ``auto`` for a cluster of this machine, or ``HOST:PORT``.
        device: ``cpu`` or ``cuda``; ``None`` for CUDA if the cluster has GPUs.
        jobs: parallel processes per GPU; without GPUs, per machine.
        threads: CPUs of a process; ``None`` to divide those of the smallest machine.

    Returns:
        The number of processes that the machines can run at once, their environment variables, and the engine.

    Raises:
        ValueError: if Ray is not installed, there is no cluster, or no machine can run a process.
    """
    ray = _client(address)
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    machines = [(int(node.get("CPU", 0)), int(node.get("GPU", 0))) for node in nodes]
    cuda = device == "cuda" or (device is None and any(gpus for _, gpus in machines))
    usable = [(cpus, gpus * jobs if cuda else jobs) for cpus, gpus in machines if cpus and (gpus or not cuda)]
    if not usable:
        raise ValueError(f"the Ray cluster at {address} has no machine with a {'GPU' if cuda else 'CPU'}")
    threads = threads or max(1, min(cpus // slots for cpus, slots in usable))
    slots = sum(min(cpus // threads, slots) if cuda else cpus // threads for cpus, slots in usable)
    if not slots:
        raise ValueError(f"no machine of the Ray cluster at {address} has {threads} CPUs; lower --threads")
    environment = {"OMP_NUM_THREADS": str(threads)} | ({} if cuda else {"CUDA_VISIBLE_DEVICES": ""})
    return slots, environment, RayTasks(threads, 1 / jobs if cuda else 0)


def _client(address: str) -> Any:
    """Import Ray and connect to a cluster."""
    try:
        import ray
    except ImportError as error:
        raise ValueError(f"--engine ray needs Ray, which is missing ({error}); pip install .[cluster]") from error
    before = signal.getsignal(signal.SIGTERM)
    try:
        if address != "auto":
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), CONNECTION_PATIENCE).close()
        ray.init(address, logging_level="ERROR", log_to_driver=False)
    except (OSError, RuntimeError, OverflowError, SystemExit) as error:  # Ray exits if the head does not answer
        reason = " ".join(str(error).split())
        raise ValueError(f"no Ray cluster at {address} ({reason}); start one with: ray start --head") from error
    finally:
        signal.signal(signal.SIGTERM, before)  # Ray sets another handler
    return ray
