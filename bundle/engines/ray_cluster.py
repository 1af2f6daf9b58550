"""Connection to a Ray cluster, and the number of tasks that its machines can run at once."""

from __future__ import annotations

import signal
import socket
from dataclasses import dataclass
from types import ModuleType
from typing import Any

CONNECTION_PATIENCE = 5.0
"""Seconds to wait for the head of a cluster; Ray itself would wait for minutes."""
RESTARTS = 3
"""How often the work of a lost worker is started again, for each cell or slide in one run."""


@dataclass(frozen=True)
class Cluster:
    """A connected cluster.

    Attributes:
        ray: the module ``ray``.
        slots: number of tasks that the machines can run at once.
        cpus: CPUs of a task.
        gpus: GPUs of a task; a fraction shares a GPU.
    """

    ray: Any
    slots: int
    cpus: int
    gpus: float

    def remote(self, function: Any, *modules: ModuleType) -> Any:
        """Return a function whose ``remote`` method submits a call as a task; Ray itself never repeats one.

        Args:
            function: function that the workers call.
            *modules: modules that are sent to the workers, which then need not be able to import them.
        """
        for module in modules:
            self.ray.cloudpickle.register_pickle_by_value(module)
        return self.ray.remote(num_cpus=self.cpus, num_gpus=self.gpus, max_retries=0)(function)

    def is_loss(self, error: Exception) -> bool:
        """Return whether the error of a task means that its worker or machine was lost, so that it can run again."""
        errors = self.ray.exceptions
        crashes = (errors.WorkerCrashedError, errors.NodeDiedError, errors.LocalRayletDiedError)
        return isinstance(error, (*crashes, errors.OutOfMemoryError))


def check_address(address: str) -> None:
    """Check the address of a cluster: ``auto`` or ``HOST:PORT``.

    Raises:
        ValueError: if it is neither.
    """
    if address != "auto" and not (":" in address and address.rpartition(":")[2].isdigit()):
        raise ValueError(f"--address {address} must be auto or HOST:PORT")


def connect_cluster(
    address: str, device: str | None = None, jobs: int = 1, cpus: int | None = None, option: str = "--cpus"
) -> Cluster:
    """Connect to a Ray cluster.

    Args:
        address: ``auto`` for a cluster of this machine, or ``HOST:PORT``.
        device: ``cpu`` or ``cuda``; ``None`` for CUDA if the cluster has GPUs.
        jobs: parallel tasks per GPU; without GPUs, per machine.
        cpus: CPUs of a task; ``None`` to divide those of the smallest machine.
        option: option of the command line that sets ``cpus``, for the message.

    Returns:
        The cluster.

    Raises:
        ValueError: if Ray is not installed, there is no cluster, or no machine can run a task.
    """
    ray = _client(address)
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    machines = [(int(node.get("CPU", 0)), int(node.get("GPU", 0))) for node in nodes]
    cuda = device == "cuda" or (device is None and any(gpus for _, gpus in machines))
    usable = [(count, gpus * jobs if cuda else jobs) for count, gpus in machines if count and (gpus or not cuda)]
    if not usable:
        raise ValueError(f"the Ray cluster at {address} has no machine with a {'GPU' if cuda else 'CPU'}")
    cpus = cpus or max(1, min(count // tasks for count, tasks in usable))
    slots = sum(min(count // cpus, tasks) if cuda else count // cpus for count, tasks in usable)
    if not slots:
        raise ValueError(f"no machine of the Ray cluster at {address} has {cpus} CPUs; lower {option}")
    return Cluster(ray, slots, cpus, 1 / jobs if cuda else 0)


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
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise ValueError(f"no Ray cluster at {address} ({reason}); start one with: ray start --head") from error
    finally:
        signal.signal(signal.SIGTERM, before)  # Ray sets another handler
    return ray
