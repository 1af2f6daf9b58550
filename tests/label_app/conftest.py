"""Shared fixtures of the tests of MONAI Label: tiles, folders of tiles, and real servers on this machine."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bundle.data import write_phantom

APP = Path(__file__).resolve().parents[2] / "scripts" / "label_app"
HERE = "127.0.0.1"
SQUARE, OBLONG = (96, 96), (64, 112)
"""Height and width of tiles, px: a square one may come back transposed, and its size does not tell."""
DEADLINE = 120
"""Seconds that a server may take until it answers, on a machine that has much else to do."""
ENVIRONMENT = {
    "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
    "CUDA_VISIBLE_DEVICES": "",
    # Nothing may ask the internet: who tries, fails at once.
    "HTTP_PROXY": f"http://{HERE}:9",
    "HTTPS_PROXY": f"http://{HERE}:9",
    "NO_PROXY": HERE,
}
"""What processes of MONAI Label get beside the environment of the tests."""

sys.path.insert(0, str(APP))  # tests import `lib`, as the app does
if importlib.util.find_spec("monailabel") is not None:
    from lib.operators import prepare_torchvision

    with warnings.catch_warnings():
        # passlib 1.7.4 asks for a module that Python 3.13 no longer has, and does without.
        warnings.filterwarnings("ignore", "'crypt' is deprecated", DeprecationWarning)
        import passlib.utils  # noqa: F401
    prepare_torchvision(ENVIRONMENT)


ALLOWED = (
    # MONAI 1.6.1 registers every reader that it knows before it reads a picture; pydicom, found here, brings one more.
    "ignore:NvImgCodecPydicomReader. nvImageCodec decoder plugin did not register:UserWarning",
)
"""Warnings that only an environment with MONAI Label gives."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Do not treat these warnings as errors in the tests of this folder."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            for line in ALLOWED:
                item.add_marker(pytest.mark.filterwarnings(line))


@dataclass(frozen=True)
class Server:
    """A running server: its address, its process, and its log file."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def said(self) -> str:
        """Return its log so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def stop(self) -> None:
        """Stop it and the trainings that it started."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(30)


@pytest.fixture(scope="session")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """Image and label of phantom tiles by name: ``square_1`` .. ``square_6`` and ``oblong_1`` .. ``oblong_3``."""
    folder, result = tmp_path_factory.mktemp("tiles"), {}
    for name, size, count in (("square", SQUARE, 4), ("oblong", OBLONG, 1)):
        parts = {"training": (count, count), "validation": (1, 1), "test": (1, 1)}
        write_phantom(folder / name, size=size, parts=parts)
        for number, image in enumerate(sorted((folder / name / "image").glob("*.png")), 1):
            result[f"{name}_{number}"] = (image, folder / name / "label" / image.name)
    return result


@pytest.fixture(scope="session")
def make_studies(
    tiles: Mapping[str, tuple[Path, Path]], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """Return a function that creates a folder of images for a server, with the tiles of these names, or all."""

    def make(*names: str) -> Path:
        studies = tmp_path_factory.mktemp("studies")
        for name in names or tiles:
            shutil.copy(tiles[name][0], studies / f"{name}.png")
        return studies

    return make


@pytest.fixture(scope="session")
def studies(make_studies: Callable[..., Path]) -> Path:
    """A folder of all tiles that tests only read; for a server that receives labels, use `make_studies`."""
    return make_studies()


@pytest.fixture(scope="session")
def free_port() -> Iterator[Callable[[], int]]:
    """Return a function that finds a free port of this machine."""
    with ExitStack() as held:

        def find() -> int:
            probe = held.enter_context(socket.socket())
            probe.bind((HERE, 0))
            port: int = probe.getsockname()[1]
            if sys.platform == "linux":  # a server can listen there beside it, and nobody else is given the port
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            else:
                probe.close()
            return port

        yield find


@pytest.fixture(scope="session")
def label_environment(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, str]]:
    """Environment of a process of MONAI Label: on the CPU, offline, with sessions and uploads in temporary folders."""

    def make(changes: Mapping[str, str] | None = None) -> dict[str, str]:
        paths = {
            "MONAI_LABEL_SESSION_PATH": str(tmp_path_factory.mktemp("sessions")),
            "TMPDIR": str(tmp_path_factory.mktemp("temporary")),
        }
        return {**os.environ, **ENVIRONMENT, **paths, **(changes or {})}

    return make


@pytest.fixture(scope="module")
def start_server(
    free_port: Callable[[], int],
    label_environment: Callable[..., dict[str, str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[..., Server]]:
    """Return a function that starts ``monailabel start_server``; all servers end with the tests of the file.

    Other programs that take its options can be given: ``program=[sys.executable, "start.py"]``.
    """
    running: list[Server] = []

    def start(
        app: Path | None,
        studies: Path,
        conf: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
        program: Sequence[str] = (sys.executable, "-m", "monailabel.main", "start_server"),
        more: Sequence[str] = (),
        port: int | None = None,
    ) -> Server:
        port, log = port or free_port(), tmp_path_factory.mktemp("server") / "server.log"
        arguments = [*program, *(["--app", str(app)] if app else []), "--studies", str(studies)]
        arguments += [word for key, value in (conf or {}).items() for word in ("--conf", key, str(value))]
        arguments += ["--host", HERE, "--port", str(port), *more]
        with log.open("wb") as file:
            process = subprocess.Popen(
                arguments, cwd=log.parent, env=label_environment(env), stdout=file, stderr=file, start_new_session=True
            )
        server = Server(f"http://{HERE}:{port}", process, log)
        running.append(server)
        wait_for(server)
        return server

    yield start
    for server in running:
        server.stop()


def wait_for(server: Server) -> None:
    """Wait until the server responds to ``GET /info/``; a failure shows its log."""
    import requests

    end = time.monotonic() + DEADLINE
    with requests.Session() as session:
        session.trust_env = False
        while time.monotonic() < end and server.process.poll() is None:
            try:
                if session.get(f"{server.url}/info/", timeout=DEADLINE).ok:
                    return
            except requests.ConnectionError:
                time.sleep(0.2)
    server.stop()
    pytest.fail(f"no answer from {server.url}/info/\n{server.said}", pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Add the logs of a failed test's servers to its report."""
    report = yield
    if report.failed:
        for name, value in getattr(item, "funcargs", {}).items():
            if isinstance(value, Server):
                report.sections.append((f"{name} said", "\n".join(value.said.splitlines()[-80:])))
    return report
