"""Child processes: logs, exit codes, memory, stopping."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time

import pytest

from scripts.benchmarking.files import OutputLock
from scripts.benchmarking.processes import UNIT, Children, uninterrupted


@pytest.fixture
def start(tmp_path):
    """Start a line of Python as a child."""

    def make(children: Children, name: str, code: str) -> None:
        children.start(name, [sys.executable, "-c", code], tmp_path / f"{name}.txt", tmp_path, os.environ)

    return make


def wait_for_all(children: Children) -> dict[str, int]:
    codes = {}
    while children.running():
        codes |= {item.name: item.exit_code for item in children.wait(30)}
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
    least = 500 + int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / UNIT)  # a child begins with this process's
    start(children, "large", f"block = b'1' * ({least} * 2**20)")
    (large,) = children.wait(60)
    start(children, "small", "import time; time.sleep(0.3)")
    (small,) = children.wait(60)
    assert large.host_mib > least
    assert small.host_mib < least - 100
    assert small.seconds >= 0.3


def test_waiting_ends_without_a_child_that_has(start):
    children = Children()
    start(children, "long", "import time; time.sleep(60)")
    assert children.wait(0.3) == []
    (ended,) = children.stop()
    assert ended.exit_code == -15


def test_a_stop_reaches_children_of_children_and_kills_the_deaf(start, tmp_path, monkeypatch):
    monkeypatch.setattr("scripts.benchmarking.processes.PATIENCE", 0.5)
    children = Children()
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True)"
    start(children, "deaf", f"{deaf}; time.sleep(60)")
    nested = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])"
    start(children, "parent", f"{nested}; print('ready', flush=True); import time; time.sleep(60)")
    for name, word in (("deaf", "deaf\n"), ("parent", "ready\n")):
        while not (tmp_path / f"{name}.txt").read_text().endswith(word):
            time.sleep(0.05)
    codes = {item.name: item.exit_code for item in children.stop()}
    assert codes == {"deaf": -9, "parent": -15}
    assert children.running() == {}


def test_an_interrupt_while_a_child_starts_leaves_none_behind(start, tmp_path, monkeypatch):
    """Ctrl-C when the child exists, but is not registered yet."""
    monkeypatch.setattr("scripts.benchmarking.files.PATIENCE", 0.0)

    class Interrupted(subprocess.Popen):
        def __init__(self, *arguments, **more):
            super().__init__(*arguments, **more)
            signal.raise_signal(signal.SIGINT)

    with OutputLock(tmp_path) as lock:
        children = Children(lock.inherited)
        monkeypatch.setattr(subprocess, "Popen", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            start(children, "late", "import time; time.sleep(60)")
        (ended,) = children.stop()
    assert (ended.name, ended.exit_code) == ("late", -signal.SIGTERM)
    with OutputLock(tmp_path):
        pass


def test_an_interrupt_while_a_child_is_reaped_does_not_lose_it(start, monkeypatch):
    children, wait4 = Children(), os.wait4

    def interrupted(*arguments):
        result = wait4(*arguments)
        signal.raise_signal(signal.SIGINT)
        return result

    start(children, "one", "pass")
    monkeypatch.setattr(os, "wait4", interrupted)
    with pytest.raises(KeyboardInterrupt):
        children.wait(60)
    assert children.running() == {}
    assert children.stop() == []


def test_a_second_interrupt_kills_at_once(start, monkeypatch, tmp_path):
    children = Children()
    start(
        children,
        "deaf",
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)",
    )
    while not (tmp_path / "deaf.txt").read_text().endswith("deaf\n"):
        time.sleep(0.05)
    sleep = time.sleep

    def interrupt(seconds):
        monkeypatch.setattr(time, "sleep", sleep)
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        children.stop()
    assert children.running() == {}


@pytest.mark.skipif(not hasattr(os, "waitid"), reason="macOS has none before Python 3.13")
def test_what_a_child_leaves_is_killed_and_gives_the_lock_back(start, tmp_path, monkeypatch):
    """For example the loader processes of a training that was killed for lack of memory."""
    code = "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    code += "\nif os.fork(): os._exit(3)\ntime.sleep(60)"
    with OutputLock(tmp_path) as lock:
        children = Children(lock.inherited)
        start(children, "parent", code)
        (ended,) = children.wait(60)
        assert ended.exit_code == 3
    monkeypatch.setattr("scripts.benchmarking.files.PATIENCE", 30.0)  # of the 60 seconds that it would sleep
    with OutputLock(tmp_path):
        pass


def test_interrupts_are_put_off_and_not_lost():
    handlers = [signal.getsignal(item) for item in (signal.SIGINT, signal.SIGTERM)]
    recorded = []

    def work():
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)
            recorded.append("after it")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert recorded == ["after it"]
    assert [signal.getsignal(item) for item in (signal.SIGINT, signal.SIGTERM)] == handlers
