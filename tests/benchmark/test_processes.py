"""Child processes: logs, ends, memory, stopping."""

from __future__ import annotations

import os
import sys
import time

import pytest

from bundle.benchmark.processes import Children


@pytest.fixture
def start(tmp_path):
    """Starts a line of Python as a child."""

    def make(children: Children, name: str, code: str) -> None:
        children.start(name, [sys.executable, "-c", code], tmp_path / f"{name}.txt", tmp_path, os.environ)

    return make


def wait_for_all(children: Children) -> dict[str, int]:
    codes = {}
    while children.running():
        codes |= {one.name: one.exit_code for one in children.wait(30)}
    return codes


def test_each_child_ends_with_its_own_code_and_log(start, tmp_path):
    children = Children()
    start(children, "good", "print('fine')")
    start(children, "bad", "import sys; sys.exit('broken')")
    start(children, "gone", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert set(children.running()) == {"good", "bad", "gone"}
    assert wait_for_all(children) == {"good": 0, "bad": 1, "gone": -9}
    assert (tmp_path / "good.txt").read_text().endswith("fine\n")
    assert (tmp_path / "bad.txt").read_text().endswith("broken\n")
    assert (tmp_path / "good.txt").read_text().startswith(f"$ {sys.executable} -c")


def test_memory_and_time_are_those_of_one_child_and_not_of_all(start):
    children = Children()
    start(children, "large", "block = b'1' * (1500 * 2**20)")
    (large,) = children.wait(30)
    start(children, "small", "import time; time.sleep(0.3)")
    (small,) = children.wait(30)
    assert large.host_mib > 1500
    assert small.host_mib < 1400
    assert small.seconds >= 0.3


def test_waiting_ends_without_a_child_that_has(start):
    children = Children()
    start(children, "long", "import time; time.sleep(60)")
    started = time.monotonic()
    assert children.wait(0.3) == []
    assert time.monotonic() - started < 10
    (ended,) = children.stop()
    assert ended.exit_code == -15


def test_a_stop_reaches_children_of_children_and_kills_the_deaf(start, tmp_path, monkeypatch):
    monkeypatch.setattr("bundle.benchmark.processes.PATIENCE", 0.5)
    children = Children()
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True)"
    start(children, "deaf", f"{deaf}; time.sleep(60)")
    nested = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])"
    start(children, "parent", f"{nested}; print('ready', flush=True); import time; time.sleep(60)")
    for name, word in (("deaf", "deaf\n"), ("parent", "ready\n")):
        while not (tmp_path / f"{name}.txt").read_text().endswith(word):
            time.sleep(0.05)
    codes = {one.name: one.exit_code for one in children.stop()}
    assert codes == {"deaf": -9, "parent": -15}
    assert children.running() == {}
