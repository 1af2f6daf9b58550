"""A forked child behaves like a new Python process: exit code, arguments, streams and the processes that it starts."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CODE = {
    "arguments": "import os, sys; print(sys.argv, sys.path[0], __name__, os.getcwd(), os.environ['PLACE'])",
    "no standard input": "import sys; print(repr(sys.stdin.read()))",
    "both streams": "import sys; print('out'); print('error', file=sys.stderr)",
    "exit code": "raise SystemExit(3)",
    "large exit code": "raise SystemExit(300)",
    "exit without a code": "raise SystemExit",
    "exit with a sentence": "raise SystemExit('a sentence')",
    "error": "raise ValueError('a number')",
    "syntax": "print(",
    "hook": "import sys; sys.excepthook = lambda *error: print('hook', error[1], file=sys.stderr); raise ValueError(1)",
    "stop": "raise KeyboardInterrupt",
    "stop from outside": "import os, signal; os.kill(os.getpid(), signal.SIGINT)",
    "kill": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "abort": "import os; os.abort()",
    "thread and exit": (
        "import atexit, threading, time; atexit.register(print, 'exit');"
        "threading.Thread(target=lambda: (time.sleep(0.1), print('thread'))).start(); print('main')"
    ),
    "another Python": (
        "import subprocess, sys; arguments = ['-u', '-W', 'ignore', '-c', 'import sys; print(sys.argv); sys.exit(4)'];"
        "print(subprocess.run([sys.executable, *arguments]).returncode, flush=True)"
    ),
    "another that is stopped": (
        "import subprocess, sys; arguments = ['-c', 'import time; print(flush=True); time.sleep(60)'];"
        "other = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE); other.stdout.readline();"
        "other.terminate(); print(other.wait())"
    ),
}


@pytest.fixture
def fresh(tmp_path: Path) -> Callable[..., Any]:
    """Run a new Python process."""

    def run(*arguments: str) -> Any:
        command, environment = [sys.executable, *arguments], os.environ | {"PLACE": "here"}
        pipes = {"stdin": subprocess.DEVNULL, "capture_output": True}
        return subprocess.run(command, cwd=tmp_path, env=environment, text=True, timeout=60, check=False, **pipes)

    return run


def assert_same(first: Any, second: Any) -> None:
    """Check that two processes ended alike; the lines inside a traceback may differ."""
    assert (first.returncode, first.stdout) == (second.returncode, second.stdout), first.stderr
    assert first.stderr.splitlines()[-1:] == second.stderr.splitlines()[-1:]


@pytest.mark.parametrize("name", CODE)
def test_code_ends_as_in_python_itself(name, python, fresh, tmp_path):
    arguments = ["-c", CODE[name], "first", "--second"]
    assert_same(python(*arguments, cwd=tmp_path, PLACE="here"), fresh(*arguments))


@pytest.mark.parametrize("message", [["place/one.py", "x"], ["-m", "place.one", "x"]], ids=["file", "module"])
def test_files_and_modules_are_the_main_program(message, python, fresh, tmp_path):
    (tmp_path / "place").mkdir()
    about = "__name__, __file__, sys.argv, sys.path[0], getattr(__main__.__spec__, 'name', None), __main__.found"
    (tmp_path / "place" / "one.py").write_text(f"import sys, __main__\nfound = 5\nprint({about})\n")
    completed = python(*message, cwd=tmp_path, PLACE="here")
    assert completed.returncode == 0, completed.stderr
    assert_same(completed, fresh(*message))


def test_streams_can_be_one(python):
    completed = python("-c", "import os; os.write(1, b'a'); os.write(2, b'b'); os.write(1, b'c')", merged=True)
    assert (completed.stdout, completed.stderr) == ("abc", "")


def test_a_process_is_killed_at_its_timeout(python):
    with pytest.raises(TimeoutError, match=r"process \d+ took more than 0\.5 s and is killed") as caught:
        python("-c", "import time; time.sleep(600)", timeout=0.5)
    assert is_gone(int(str(caught.value).split()[1]))


def test_killing_a_started_process_kills_its_child(python):
    """The stand-in for Python cannot forward SIGKILL; the child is killed when the stand-in ends."""
    code = (
        "import subprocess, sys; code = 'import os, time; print(os.getpid(), flush=True); time.sleep(600)';"
        "other = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE)"
        "; print(int(other.stdout.readline()))"
        "; other.kill(); other.wait()"
    )
    assert is_gone(int(python("-c", code).stdout))


def is_gone(number: int) -> bool:
    """Return whether a child ends within a minute; the server kills it shortly after the client is gone."""
    until = time.monotonic() + 60  # of the ten minutes that it would sleep
    while Path(f"/proc/{number}").exists() and time.monotonic() < until:
        time.sleep(0.02)
    return not Path(f"/proc/{number}").exists()


def test_children_draw_different_random_numbers_and_have_not_imported_the_bundle(python):
    code = "import numpy, random, sys; print(numpy.random.rand(), random.random(), 'bundle' in sys.modules)"
    first, two = (python("-c", code, cwd=Path("/")).stdout.split() for _ in range(2))
    assert first[2] == two[2] == "False"
    assert first[0] != two[0]
    assert first[1] != two[1]


def test_a_limit_is_that_of_one_child(python, tmp_path):
    code = "open('file', 'wb', buffering=0).write(bytes(50)); open('file', 'ab', buffering=0).write(bytes(50))"
    completed = python("-c", code, cwd=tmp_path, limit=50)
    assert completed.stderr.splitlines()[-1] == "OSError: [Errno 27] File too large"
    assert python("-c", code, cwd=tmp_path).returncode == 0
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


@pytest.mark.skipif(sys.platform != "linux", reason="rights of root by part are those of Linux")
def test_a_folder_without_permission_to_write_may_be_closed_to_root(python, tmp_path):
    tmp_path.chmod(0o555)
    code = "open('file', 'w')"
    completed = python("-c", code, cwd=tmp_path, keeps_modes=True)
    assert completed.stderr.splitlines()[-1] == "PermissionError: [Errno 13] Permission denied: 'file'"
    tmp_path.chmod(0o755)
    assert python("-c", code, cwd=tmp_path, keeps_modes=True).returncode == 0


def test_threads_are_those_asked_for(python):
    code = "import torch; print(torch.get_num_threads())"
    assert [python("-c", code, OMP_NUM_THREADS=str(count)).stdout for count in (1, 2)] == ["1\n", "2\n"]
