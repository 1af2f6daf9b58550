"""A server process with torch and MONAI imported, which forks a child for each requested program (see `processes.py`).

It imports nothing from the bundle, so each child imports the bundle of its own working directory.
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
"""Size of the buffer for a request, in bytes."""
LIBRARIES = ["monai.bundle", "nibabel", "scipy.ndimage", "skimage.segmentation", "tifffile"]
LIBRARIES += ["shapely", "skimage.morphology", "torch._dynamo", "torch.utils.tensorboard"]
"""Slow imports that the bundle and its programs share."""


def warm_up() -> None:
    """Import the libraries and freeze them for the garbage collector, which would copy their memory in each child."""
    for name in LIBRARIES:
        importlib.import_module(name)
    sys.modules["monai.bundle"].ComponentLocator().get_component_module_name("DiceLoss")  # imports all of MONAI
    gc.collect()
    gc.freeze()


def serve(listener: socket.socket) -> dict[str, Any] | None:
    """Serve requests until standard input is closed, which ends the server; return the request in a forked child.

    The server sends the process id of the child over the connection of its request, and its exit code when it ends. If
    the client closes the connection before that, the child is killed.
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
                for item in (listener, woken, waker, connection, *waiting):
                    item.close()
                return request
            for file in request["files"]:
                os.close(file)
            connection.sendall(b"%d\n" % pid)
            waiting[connection] = pid


def received(connection: socket.socket) -> dict[str, Any]:
    """Receive a request, with the file descriptors of its output streams under ``files``."""
    message, files, _, _ = socket.recv_fds(connection, CHUNK, 2)
    while not message.endswith(b"\n"):
        message += connection.recv(CHUNK)
    return json.loads(message) | {"files": files}


def reap(waiting: dict[socket.socket, int]) -> None:
    """Send the exit codes of the children that have ended."""
    ended = {}
    with contextlib.suppress(ChildProcessError):  # there are no more children
        while (result := os.waitpid(-1, os.WNOHANG))[0]:
            ended[result[0]] = os.waitstatus_to_exitcode(result[1])
    for connection in [item for item, pid in waiting.items() if pid in ended]:
        with contextlib.suppress(BrokenPipeError), connection:  # the client has gone
            connection.sendall(b"%d\n" % ended[waiting.pop(connection)])


def settle(request: Mapping[str, Any]) -> None:
    """Set up the working directory, environment and streams of a new child."""
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
    sys.executable = sys.argv[2]  # programs that it starts are also forked from the server
    os.chdir(request["cwd"])
    threads = os.environ.get("OMP_NUM_THREADS")
    os.environ.clear()
    os.environ.update(request["environment"] | {"CUDA_VISIBLE_DEVICES": ""})
    if os.environ.get("OMP_NUM_THREADS", threads) != threads:
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    numpy.random.seed()  # else all children draw the same numbers; `random` reseeds itself after a fork
    if request["limit"]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["limit"], request["limit"]))
    if request.get("keeps_modes") and sys.platform == "linux":
        keep_modes()


def keep_modes() -> None:
    """Give up root's right to write where modes of files forbid it; of no effect for others."""
    import ctypes

    system, header, sets = ctypes.CDLL(None), (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    system.capget(header, sets)
    sets[0] &= ~(1 << 1)  # CAP_DAC_OVERRIDE among those in effect
    assert system.capset(header, sets) == 0


def become(arguments: Sequence[str]) -> None:
    """Run what ``python ARGUMENTS`` would run, as the main program."""
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    kind, *rest = arguments
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
    """Exit as Python does, but without the half second of freeing memory."""
    code = 0
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        if not isinstance(error.code, int | None):
            print(error.code, file=sys.stderr)
    elif error is not None:
        sys.excepthook(type(error), error, error.__traceback__)
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]  # joins threads, as Python does at exit
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # the pipe is closed
            stream.flush()
    if isinstance(error, KeyboardInterrupt):
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(code & 0xFF)


def main() -> None:
    """Listen at the address; in each child, run the requested program."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the tests, which then close this process
    warm_up()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{sys.argv[1]}.new")
    listener.listen()
    os.rename(f"{sys.argv[1]}.new", sys.argv[1])  # the socket appears when it accepts connections
    request = serve(listener)
    if request is None:
        return
    error = None
    try:
        settle(request)
        become(request["arguments"])
    except BaseException as caught:
        error = caught
    end(error)


if __name__ == "__main__":
    main()
