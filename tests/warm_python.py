"""A process that has imported torch and MONAI and becomes, by a fork of itself, any program; see `processes.py`.

Of the bundle it has imported nothing, so that each child takes the one in its folder.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import resource
import runpy
import select
import signal
import socket
import sys
import threading
import types
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

CHUNK = 1 << 16
"""Bytes of a message that are read at once."""
LIBRARIES = ["monai.bundle", "nibabel", "scipy.ndimage", "skimage.segmentation", "tifffile"]
LIBRARIES += ["shapely", "skimage.morphology", "torch._dynamo", "torch.utils.tensorboard"]
"""What the bundle and its programs import of others, and takes long."""


def warm_up() -> None:
    """Import the libraries, and keep the collector away from them, which would copy their memory in each child."""
    for name in LIBRARIES:
        importlib.import_module(name)
    sys.modules["monai.bundle"].ComponentLocator().get_component_module_name("DiceLoss")  # imports all of MONAI
    gc.collect()
    gc.freeze()


def serve(listener: socket.socket) -> dict[str, Any] | None:
    """Answer requests until the tests end, which close the standard input; in a child, give what it is to become.

    Each request has a connection, which hears the number of its child, and at its end the exit code. Where the other
    side goes away before, the child is killed.
    """
    waiting: dict[socket.socket, int] = {}
    woken, waker = socket.socketpair()
    for end_of_pair in (woken, waker):
        end_of_pair.setblocking(False)
    signal.set_wakeup_fd(waker.fileno())
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    while True:
        ready, _, _ = select.select([listener, sys.stdin, woken, *waiting], [], [])
        for connection in waiting if sys.stdin in ready else waiting.keys() & ready:
            os.kill(waiting[connection], signal.SIGKILL)
        if sys.stdin in ready:
            return None
        for connection in waiting.keys() & ready:
            waiting.pop(connection)
            connection.close()
        if woken in ready:
            woken.recv(CHUNK)
            reap(waiting)
        if listener in ready:
            connection, _ = listener.accept()
            request = received(connection)
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for one in (listener, woken, waker, connection, *waiting):
                    one.close()
                return request
            for file in request["files"]:
                os.close(file)
            connection.sendall(b"%d\n" % pid)
            waiting[connection] = pid


def received(connection: socket.socket) -> dict[str, Any]:
    """What is asked for, with the files of its streams."""
    message, files, _, _ = socket.recv_fds(connection, CHUNK, 2)
    while not message.endswith(b"\n"):
        message += connection.recv(CHUNK)
    return json.loads(message) | {"files": files}


def reap(waiting: dict[socket.socket, int]) -> None:
    """Tell of the children that have ended."""
    ended = {}
    with contextlib.suppress(ChildProcessError):  # none is left
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            ended[found[0]] = os.waitstatus_to_exitcode(found[1])
    for connection in [one for one, pid in waiting.items() if pid in ended]:
        with contextlib.suppress(BrokenPipeError), connection:  # nobody waits any more
            connection.sendall(b"%d\n" % ended[waiting.pop(connection)])


def settle(request: Mapping[str, Any]) -> None:
    """Take up folder, environment and streams of a process that begins."""
    import numpy
    import torch

    signal.signal(signal.SIGINT, signal.default_int_handler)
    files = request["files"]
    for stream, file in ((1, files[0]), (2, files[-1])):
        os.dup2(file, stream)
    for file in files:
        os.close(file)
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
    sys.executable = sys.argv[2]  # so that also what it starts is a child of the warm process
    os.chdir(request["cwd"])
    threads = os.environ.get("OMP_NUM_THREADS")
    os.environ.clear()
    os.environ.update(request["environment"] | {"CUDA_VISIBLE_DEVICES": ""})
    if os.environ.get("OMP_NUM_THREADS", threads) != threads:
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    numpy.random.seed()  # or each child would draw the same; Python's own numbers know of forks
    if request["limit"]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["limit"], request["limit"]))


def become(words: Sequence[str]) -> None:
    """Run what ``python WORDS`` runs, as the main program."""
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    kind, *rest = words
    while kind in ("-u", "-W"):
        if kind == "-W":
            warnings.simplefilter(rest.pop(0))  # type: ignore[arg-type]
        kind, *rest = rest
    if kind == "-m":
        sys.path[:1] = [os.getcwd(), *paths]
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif kind == "-c":
        sys.path[:1] = ["", *paths]
        sys.argv = ["-c", *rest[1:]]
        run(rest[0], "<string>")
    else:
        assert not kind.startswith("-"), f"an option of Python that is not known here: {kind}"
        sys.path[:1] = [str(Path(kind).resolve().parent), *paths]
        sys.argv = [kind, *rest]
        run(Path(kind).read_bytes(), os.path.abspath(kind))


def run(code: str | bytes, file: str) -> None:
    """Run code as the main program."""
    main_module = types.ModuleType("__main__")
    if os.path.isabs(file):
        main_module.__file__ = file
    sys.modules["__main__"] = main_module
    exec(compile(code, file, "exec", dont_inherit=True), vars(main_module))


def end(error: BaseException | None) -> None:
    """End as Python does, but for the half second that it takes to clear up."""
    code = 0
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        if not isinstance(error.code, int | None):
            print(error.code, file=sys.stderr)
    elif error is not None:
        sys.excepthook(type(error), error, error.__traceback__)
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, as Python does first
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # nobody reads any more
            stream.flush()
    if isinstance(error, KeyboardInterrupt):
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(code & 0xFF)


def main() -> None:
    """Listen at the address, and in each child be what was asked for."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the tests; they close this process
    warm_up()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{sys.argv[1]}.new")
    listener.listen()
    os.rename(f"{sys.argv[1]}.new", sys.argv[1])  # it is there when it can be asked
    request = serve(listener)
    if request is None:
        return
    error = None
    try:
        settle(request)
        become(request["words"])
    except BaseException as caught:
        error = caught
    end(error)


if __name__ == "__main__":
    main()
