"""The engine of Ray without Ray, and the process inside a worker; with Ray: tests/scripts/test_benchmark.py."""

from __future__ import annotations

import _thread
import socket
import sys
import threading
from types import SimpleNamespace

import pytest

from scripts.benchmarking import cluster
from scripts.benchmarking.files import OutputLock


@pytest.fixture
def connected(monkeypatch):
    """Connect to a stand-in for Ray; return the places, the environment and the resources of a task."""

    def make(machines, device, jobs, threads):
        def remote(**resources):
            return lambda function: resources

        nodes = [{"Alive": True, "Resources": item} for item in machines] + [
            {"Alive": False, "Resources": {"CPU": 99.0}}
        ]
        names = {"nodes": lambda: nodes, "init": lambda *_, **__: None, "remote": remote}
        cloudpickle = SimpleNamespace(register_pickle_by_value=lambda module: None)
        monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(cloudpickle=cloudpickle, **names))
        paths, environment, tasks = cluster.connect("auto", device, jobs, threads)
        return paths, environment, tasks._task

    return make


ON_CPU = {"CUDA_VISIBLE_DEVICES": ""}
CPU, GPU = {"CPU": 8.0, "memory": 1.0}, {"CPU": 32.0, "GPU": 4.0}


@pytest.mark.parametrize(
    ("machines", "device", "jobs", "threads", "paths", "cpus", "gpus"),
    [
        ([CPU, CPU, {"memory": 1.0}], None, 1, None, 2, 8, 0),
        ([CPU, {"CPU": 4.0}], None, 2, None, 6, 2, 0),
        ([CPU, CPU], None, 1, 3, 4, 3, 0),
        ([CPU, GPU], None, 1, None, 4, 8, 1.0),
        ([CPU, GPU], None, 2, 2, 8, 2, 0.5),
        ([CPU, GPU], "cpu", 1, None, 5, 8, 0),
        ([CPU, GPU], "cuda", 1, 16, 2, 16, 1.0),
    ],
)
def test_the_machines_say_how_many_cells_run_at_once(connected, machines, device, jobs, threads, paths, cpus, gpus):
    result, environment, resources = connected(machines, device, jobs, threads)
    assert (result, resources) == (paths, {"num_cpus": cpus, "num_gpus": gpus, "max_retries": 0})
    assert environment == {"OMP_NUM_THREADS": str(cpus), **({} if gpus else ON_CPU)}


@pytest.mark.parametrize(
    ("machines", "device", "threads", "fault"),
    [
        ([CPU], "cuda", None, "the Ray cluster at auto has no machine with a GPU"),
        ([{}], None, None, "the Ray cluster at auto has no machine with a CPU"),
        ([CPU, CPU], None, 9, "no machine of the Ray cluster at auto has 9 CPUs; lower --threads"),
    ],
)
def test_a_cluster_that_cannot_run_a_cell_is_refused(connected, machines, device, threads, fault):
    with pytest.raises(ValueError, match=fault):
        connected(machines, device, 1, threads)


def test_no_cluster_at_an_address_is_told_at_once(connected, monkeypatch):
    connected([CPU], None, 1, None)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(ValueError, match=rf"^no Ray cluster at {address} \(Connection refused\); start one with: "):
            cluster.connect(address, None, 1, None)


def test_a_process_inside_a_worker_runs_under_the_lock_of_its_folder(tmp_path, monkeypatch):
    code = "import os; print(os.environ['PLACE'], open('.lock').read())"
    command = [sys.executable, "-c", code]
    arguments = ("cell", command, tmp_path / "log.txt", tmp_path, {"PLACE": "here"})
    exit_code, seconds, host_mib = cluster.run_process(*arguments)
    log = (tmp_path / "log.txt").read_text()
    assert exit_code == 0, log
    assert (seconds > 0, host_mib > 1) == (True, True)
    assert f"here worker of Ray on {socket.gethostname()} (process " in log
    monkeypatch.setattr(cluster, "LOCK_PATIENCE", 0.0)
    with OutputLock(tmp_path), pytest.raises(ValueError, match="is used by benchmark"):
        cluster.run_process(*arguments)
    assert (tmp_path / "log.txt").read_text() == log
    with pytest.raises(ValueError, match=r"nowhere does not exist on .*; give an --output that all machines share"):
        cluster.run_process("cell", command, tmp_path / "nowhere" / "log.txt", tmp_path, {})
    assert not (tmp_path / "nowhere").exists()


def test_a_canceled_process_ends_with_its_signal(tmp_path):
    """Ray cancels a task by an interrupt of the main thread."""
    timer = threading.Timer(0.5, _thread.interrupt_main)
    timer.start()
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    exit_code, seconds, _ = cluster.run_process("cell", command, tmp_path / "log.txt", tmp_path, {})
    assert exit_code == -15
    assert 0 < seconds < 30
