"""Access to the label server: only this machine, or requests with a token of the realm."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hmac
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("monailabel", reason="MONAI Label is not installed here: make test-label")
import jwt
import psutil
import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from lib.middleware import TrustedHosts
from monailabel.config import settings
from starlette.responses import PlainTextResponse

pytest_plugins = ["tests.label_app.served"]

HERE = "127.0.0.1"
MODEL = "semi_moe"
INFER = f"/infer/{MODEL}"
ROLES = [f"monailabel-{name}" for name in ("admin", "reviewer", "annotator", "user")]
DEADLINE = 300
"""Seconds that a server may take until it answers, on a machine that has much else to do."""
Ask = Callable[..., Any]


def picture(value: int = 200) -> bytes:
    data = io.BytesIO()
    Image.fromarray(np.full((24, 32, 3), value, np.uint8)).save(data, "PNG")
    return data.getvalue()


@pytest.fixture(scope="module")
def keys() -> dict[str, Any]:
    return {name: rsa.generate_private_key(public_exponent=65537, key_size=2048) for name in ("realm", "other")}


@pytest.fixture(scope="module")
def realm(keys: dict[str, Any]) -> Iterator[str]:
    """Address of a stand-in for a Keycloak realm, which serves its public key."""
    form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    public = base64.b64encode(keys["realm"].public_key().public_bytes(*form)).decode()

    class Realm(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = {"public_key": public, "token_endpoint": f"http://{HERE}/token"}
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(content).encode())

        def log_message(self, *arguments: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer((HERE, 0), Realm) as service:
        thread = threading.Thread(target=service.serve_forever)
        thread.start()
        yield f"http://{HERE}:{service.server_port}/realms/tests"
        service.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def guarded(
    realm: str,
    tmp_path_factory: pytest.TempPathFactory,
    tiny_bundle: Path,
    program: list[str],
    free_port: Callable[[], int],
    label_environment: Callable[..., dict[str, str]],
    connect: Callable[[str], Ask],
) -> Iterator[tuple[Ask, int]]:
    """A server that requires tokens, started without a host, and its process."""
    folder, port = tmp_path_factory.mktemp("guarded"), free_port()
    (folder / "one.png").write_bytes(picture())
    env = label_environment({"MONAI_LABEL_AUTH_ENABLE": "true", "MONAI_LABEL_AUTH_REALM_URI": realm})
    arguments = [*program, "--studies", str(folder), "--port", str(port), "--conf", "bundle", str(tiny_bundle)]
    ask, end, log = connect(f"http://{HERE}:{port}"), time.monotonic() + DEADLINE, folder / "server.log"
    with log.open("wb") as file:
        process = subprocess.Popen(arguments, cwd=folder, env=env, stdout=file, stderr=file, start_new_session=True)
    try:
        while not answers(ask):
            assert process.poll() is None, log.read_text(encoding="utf-8")
            assert time.monotonic() < end, log.read_text(encoding="utf-8")
            time.sleep(0.2)
        yield lambda method, path, **arguments: ask(method, path, None, **arguments), process.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def answers(ask: Ask) -> bool:
    try:
        ask("GET", "/auth/", None)
    except requests.ConnectionError:
        return False
    return True


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def bearer(key: Any, roles: list[str], lasts: float = 600, algorithm: str = "RS256") -> dict[str, str]:
    claims = {"preferred_username": "tester", "exp": time.time() + lasts, "realm_access": {"roles": roles}}
    return {"Authorization": f"Bearer {jwt.encode(claims, key, algorithm=algorithm)}"}


def test_it_listens_on_this_machine_alone(guarded: tuple[Ask, int]) -> None:
    process = psutil.Process(guarded[1])
    listening = [item.laddr.ip for item in process.net_connections("inet") if item.status == psutil.CONN_LISTEN]
    assert listening == [HERE]


@pytest.mark.parametrize(
    ("arguments", "asks", "host", "warns"),
    [
        ([], "", HERE, False),
        (["--host", "0.0.0.0"], "", "0.0.0.0", True),
        (["--host", "0.0.0.0"], "true", "0.0.0.0", False),
    ],
)
def test_who_opens_it_to_others_is_warned(
    load_program: Callable[[str], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    arguments: list[str],
    asks: str,
    host: str,
    warns: bool,
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("MONAI_LABEL_AUTH_ENABLE", asks)
    start, recorded = load_program("label_app/start"), []
    monkeypatch.setattr(start, "serve", lambda given: recorded.extend(given) or 0)
    assert start.main(["--studies", str(tmp_path), *arguments]) == 0
    assert recorded[recorded.index("--host") + 1] == host
    assert ("anyone who can reach 0.0.0.0" in capsys.readouterr().err) is warns


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ([], {"127.0.0.1"}),
        (["--host", "::1"], {"::1"}),
        (["--host", "0.0.0.0"], {"0.0.0.0", socket.gethostname()}),
        (["--host", "127.0.0.1", "--host", "box.lab", "--conf", "hosts", "a,b"], {"127.0.0.1", "box.lab", "a", "b"}),
    ],
)
def test_requests_may_use_the_names_that_the_program_is_given(
    load_program: Callable[[str], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: list[str],
    names: set[str],
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    start, recorded = load_program("label_app/start"), []
    monkeypatch.setattr(start, "serve", lambda given: recorded.extend(given) or 0)
    assert start.main(["--studies", str(tmp_path), *arguments]) == 0
    assert set(recorded[recorded.index("hosts") + 1].split(",")) == names


@pytest.mark.parametrize(
    ("host", "given", "status"),
    [
        ("localhost:8000", "", 200),
        ("box.lab:8000", "", 403),
        ("BOX.lab:8000", "box.lab", 200),
        ("10.0.0.7", "box.lab", 403),
        ("10.0.0.7", "10.0.0.7", 200),
        ("10.0.0.7:8000", "0.0.0.0", 200),
        ("[fe80::1]:8000", "::", 200),
        ("box.lab", "0.0.0.0", 403),
        ("", "0.0.0.0", 403),
        ("box.lab:port", "box.lab", 403),
    ],
)
def test_a_host_must_be_known(monkeypatch: pytest.MonkeyPatch, host: str, given: str, status: int) -> None:
    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await PlainTextResponse("")(scope, receive, send)

    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    monkeypatch.setattr(settings, "MONAI_LABEL_APP_CONF", {"hosts": given})
    scope = {"type": "http", "headers": [(b"host", host.encode())], "path": "/", "method": "GET"}
    asyncio.run(TrustedHosts(answer)(scope, None, send))
    assert sent[0]["status"] == status


@pytest.mark.parametrize(
    "path",
    ["GET /info/", f"POST {INFER}?image=one", f"POST /infer/wsi/{MODEL}?image=one", f"POST /infer/wsi_v2/{MODEL}"]
    + ["GET /datastore/", "GET /datastore/image?image=one", "PUT /datastore/image", "PUT /datastore/label?image=one"]
    + ["DELETE /datastore/image?id=one", "GET /datastore/dataset", f"POST /train/{MODEL}", "GET /train/"]
    + ["DELETE /train/", f"POST /batch/infer/{MODEL}", "POST /scoring/disagreement", "POST /activelearning/first"]
    + [f"{method} /model/{MODEL}" for method in ("GET", "PUT", "DELETE")]
    + ["GET /logs/", "GET /proxy/dicom/a", "PUT /session/"]
    + ["GET /view/image?image=one", "GET /view/tile?image=one&level=0&x=0&y=0", "GET /view/label?image=one"],
)
def test_without_a_token_nothing_is_done(guarded: tuple[Ask, int], path: str) -> None:
    assert guarded[0](*path.split()).status_code in (401, 403)


def test_every_route_that_writes_asks_for_a_token(guarded: tuple[Ask, int]) -> None:
    ask, _ = guarded
    paths = ask("GET", "/openapi.json").json()["paths"]
    routes = [(method.upper(), path) for path, methods in paths.items() for method in methods if method != "get"]
    assert len(routes) > 15
    open_to_all = [
        (method, path)
        for method, path in routes
        if ask(method, re.sub(r"{\w+}", "a", path)).status_code not in (401, 403, 404, 405)
    ]
    assert open_to_all == [("POST", "/auth/token")]


def test_the_page_itself_needs_no_token(guarded: tuple[Ask, int]) -> None:
    """The page asks for the login, contains no data, runs only its own scripts, and cannot be embedded."""
    for path in ("/", "/page/page.js", "/page/page.css", "/page/LICENSES.txt"):
        response = guarded[0]("GET", path)
        assert response.status_code == 200
        policy = response.headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "script" not in policy


def test_tokens_of_others_old_ones_and_unsigned_ones_are_refused(guarded: tuple[Ask, int], keys: Any) -> None:
    form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    public = keys["realm"].public_key().public_bytes(*form)
    header, claims, _ = bearer(keys["realm"], ROLES)["Authorization"].split()[1].split(".")
    unsigned, shared = (encoded(f'{{"alg":"{name}","typ":"JWT"}}'.encode()) for name in ("none", "HS256"))
    signature = encoded(hmac.digest(public, f"{shared}.{claims}".encode(), "sha256"))
    tokens = {
        "another key": bearer(keys["other"], ROLES),
        "too old": bearer(keys["realm"], ROLES, lasts=-60),
        "signed with what all know": {"Authorization": f"Bearer {shared}.{claims}.{signature}"},
        "unsigned": {"Authorization": f"Bearer {unsigned}.{claims}."},
        "cut": {"Authorization": f"Bearer {header}.{claims}."},
        "none": {"Authorization": "Bearer "},
    }
    for name, headers in tokens.items():
        assert guarded[0]("GET", "/info/", headers=headers).status_code == 401, name
    assert guarded[0]("GET", "/info/", headers=bearer(keys["realm"], ["someone"])).status_code == 403


def test_a_token_of_the_realm_opens_what_its_roles_allow(guarded: tuple[Ask, int], keys: Any) -> None:
    ask, (user, all_roles) = guarded[0], (bearer(keys["realm"], roles) for roles in (["monailabel-user"], ROLES))
    assert ask("GET", "/info/", headers=user).json()["labels"] == ["Gland"]
    assert ask("POST", f"{INFER}?image=one&output=image", headers=user).status_code == 200
    assert ask("POST", f"/train/{MODEL}", headers=user, json={}).status_code == 403
    assert ask("DELETE", "/datastore/image?id=one", headers=user).status_code == 403
    assert ask("PUT", "/datastore/image?image=two", headers=user, files={"file": ("a.png", picture())}).ok is False
    assert ask("PUT", "/datastore/image?image=two", headers=all_roles, files={"file": ("a.png", picture())}).ok
