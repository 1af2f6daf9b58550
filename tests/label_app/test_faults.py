"""The label server under many requests: simultaneous, cut off, of wrong types, and with paths in every parameter."""

from __future__ import annotations

import itertools
import random
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("monailabel", reason="MONAI Label is not installed here: make test-label")

import requests

from tests.faults.counts import add_counts
from tests.label_app.test_hostile import files_of, picture

pytest_plugins = ["tests.label_app.served"]
pytestmark = pytest.mark.slow

MODEL = "semi_moe"
PATHS = (
    "../secret",
    "../../etc/passwd",
    "/etc/passwd",
    "..",
    "a\\..\\..\\b",
    "a\0b",
    "%2e%2e%2fsecret",
    "~",
    "x" * 5000,
)
TYPES = (None, "text/plain", "application/json", "application/xml", "multipart/form-data", "application/octet-stream")
ENDLESS = ("/logs",)
"""Routes that stream, or show pages of the documentation."""

Ask = Callable[..., Any]


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the images in ``studies``, uploads in ``received``, and a picture outside both."""
    folder = tmp_path_factory.mktemp("place")
    for name in ("studies", "received"):
        (folder / name).mkdir()
    (folder / "secret.png").write_bytes(picture(7))
    for number in range(8):
        (folder / "studies" / f"tile_{number}.png").write_bytes(picture(20 * number))
    return folder


@pytest.fixture(scope="module")
def server(serve: Callable[..., Any], studies: Path) -> Any:
    env = {"TMPDIR": str(studies / "received"), "MONAI_LABEL_AUTO_UPDATE_SCORING": "false"}
    return serve(studies / "studies", env)


@pytest.fixture(scope="module")
def ask(server: Any, connect: Callable[..., Any]) -> Ask:
    """Return a function that sends a request and accepts any status."""
    ask = connect(server.url)
    return lambda method, path, **arguments: ask(method, path, None, **arguments)


def routes(ask: Ask) -> Iterator[tuple[str, str, list[str]]]:
    """Yield method, path and names of the parameters in the query of each route."""
    for path, methods in ask("GET", "/openapi.json").json()["paths"].items():
        for method, route in methods.items():
            if not path.startswith(ENDLESS):
                yield (
                    method.upper(),
                    path,
                    [item["name"] for item in route.get("parameters", []) if item["in"] == "query"],
                )


def refused(response: Any, folder: Path) -> None:
    """Check that a response is no server error and contains no path of the server."""
    assert response.status_code < 500, (response.request.method, response.request.url[:200], response.text[:300])
    assert str(folder) not in response.text
    assert "Traceback" not in response.text


def changed(folder: Path, before: dict[str, bytes]) -> list[str]:
    """Return the changed files; uploads are removed a moment after the response."""
    end = time.monotonic() + 10
    while True:
        after = files_of(folder)
        names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
        if not names or time.monotonic() > end:
            return names
        time.sleep(0.1)


def test_paths_in_every_parameter(ask: Ask, studies: Path) -> None:
    from urllib.parse import quote

    ask("GET", f"/model/{MODEL}")  # the first download copies the model to the folder of images
    before, statuses = files_of(studies), Counter[int]()
    for (method, path, names), text in itertools.product(list(routes(ask)), PATHS):
        inner = [part[1:-1] for part in path.split("/") if part.startswith("{")]
        fixed = {"model": MODEL, "image": "tile_1"}
        for name in [*inner, *names]:
            filled = path
            for part in inner:
                value = text if part == name else fixed.get(part, "random")
                filled = filled.replace(f"{{{part}}}", quote(value, safe=""))
            if method in ("POST", "DELETE") and filled.startswith(("/train", "/batch", "/scoring")) and name in names:
                continue  # it would start or stop a task as it should; test_hostile.py has their settings
            if method != "GET" and filled == f"/model/{MODEL}":
                continue  # it would replace or remove the model as it should
            response = ask(method, filled, params={name: text} if name in names else {})
            refused(response, studies)
            statuses[response.status_code] += 1
    assert sum(statuses.values()) > 200
    assert changed(studies, before) == []
    add_counts("paths in parameters of the label server", sum(statuses.values()), sentence=sum(statuses.values()))


def test_wrong_content_types_and_bodies(ask: Ask, studies: Path) -> None:
    before, count = files_of(studies), 0
    bodies = (b"", b"{", b"[]", b"null", b"\xff\xfe", b"--x\r\nContent-Disposition: form-data\r\n\r\n", b"<a/>")
    for method, path, _ in list(routes(ask)):
        if method in ("GET", "HEAD") or path.startswith(("/train", "/batch", "/scoring", "/model")):
            continue
        filled = path.replace("{model}", MODEL).replace("{image}", "tile_1")
        for kind, body in itertools.product(TYPES, bodies):
            response = ask(method, filled, data=body, headers={"Content-Type": kind} if kind else {})
            refused(response, studies)
            count += 1
    assert count > 100
    assert changed(studies, before) == []
    add_counts("wrong content types and bodies to the label server", count, sentence=count)


def test_uploads_that_are_cut_off(ask: Ask, server: Any, studies: Path) -> None:
    before, chance = files_of(studies), random.Random(0)
    address = server.url.removeprefix("http://")
    host, _, port = address.partition(":")
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="cut.png"\r\nContent-Type: image/png\r\n\r\n'
    body = head + picture() * 2000 + b"\r\n--b--\r\n"
    for _ in range(20):
        request = f"PUT /datastore/?image=cut HTTP/1.1\r\nHost: {address}\r\nContent-Length: {len(body)}\r\n"
        request += "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(request.encode() + body[: chance.randrange(len(body))])
            time.sleep(chance.uniform(0, 0.1))
        assert ask("GET", "/info/").status_code == 200
    assert changed(studies, before) == []
    add_counts("uploads to the label server that are cut off", 20, result=20)


def test_forty_requests_at_once(ask: Ask, server: Any, studies: Path, connect: Callable[..., Any]) -> None:
    """Predictions equal those of single requests, and every upload is stored."""
    expected = [ask("POST", f"/infer/{MODEL}?image=tile_{number}&output=image").content for number in range(8)]

    def request(number: int) -> None:
        with requests.Session() as session:
            session.trust_env = False

            def send(method: str, path: str, **arguments: Any) -> bytes:
                response = session.request(method, server.url + path, timeout=300, **arguments)
                assert response.status_code == 200, response.text
                return response.content

            if number % 4 == 0:
                send("GET", "/info/")
            elif number % 4 == 1:
                send("PUT", f"/datastore/?image=new_{number}", files={"file": ("a.png", picture(number))})
            else:
                first = number % 8
                assert send("POST", f"/infer/{MODEL}?image=tile_{first}&output=image") == expected[first]

    with ThreadPoolExecutor(40) as pool:
        for round_of_forty in range(3):
            list(pool.map(request, range(40)))
            names = {path.stem for path in (studies / "studies").glob("new_*.png")}
            assert names == {f"new_{number}" for number in range(1, 40, 4)}, round_of_forty
    add_counts("requests at once to the label server", 120, result=120)
