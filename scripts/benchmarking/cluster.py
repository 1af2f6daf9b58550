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

from bundle.engines.ray_cluster import Cluster, check_address, connect_cluster
from scripts.benchmarking.files import OutputLock
from scripts.benchmarking.processes import PATIENCE, Children, Ended, uninterrupted

LOCK_PATIENCE = 120.0
"""Seconds to wait for the lock of a cell: a file server keeps the locks of a machine that was lost for a while."""


class RayTasks:
    """Processes that run as tasks of a Ray cluster; the methods are those of ``Children``.

    A task is never repeated by Ray: a process whose worker or machine was lost is returned as such (``Ended.lost``).

    Args:
        cluster: connected cluster.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.ray = cluster.ray
        parts = (run_process, Children, OutputLock)  # workers need not import torch and the bundle for them
        self._task: Any = cluster.remote(run_process, *(sys.modules[part.__module__] for part in parts))
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
            lost = self.cluster.is_loss(error)
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
    check_address(address or "auto")
    if devices not in (None, ["cpu"], ["cuda"]):
        raise ValueError("--devices with --engine ray must be cpu or cuda; Ray selects the machines and GPUs")


def connect(address: str, device: str | None, jobs: int, threads: int | None) -> tuple[int, dict[str, str], RayTasks]:
    """Connect to a cluster; arguments are those of ``connect_cluster``, with ``threads`` for ``cpus``.

    Returns:
        The number of processes that the machines can run at once, their environment variables, and the engine.

    Raises:
        ValueError: if Ray is not installed, there is no cluster, or no machine can run a process.
    """
    cluster = connect_cluster(address, device, jobs, threads, option="--threads")
    environment = {"OMP_NUM_THREADS": str(cluster.cpus)} | ({} if cluster.gpus else {"CUDA_VISIBLE_DEVICES": ""})
    return cluster.slots, environment, RayTasks(cluster)
