"""MONAI Label's server, with answers of one sentence in place of errors: ``--uvicorn_app lib.server:app``."""

from __future__ import annotations

import errno
import json
import logging
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import jwt
from fastapi import Depends, Request, UploadFile
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from lib.refusals import BAD
from monailabel.app import app
from monailabel.config import settings
from monailabel.endpoints.user import auth
from monailabel.interfaces.exception import MONAILabelException
from monailabel.interfaces.utils.app import app_instance
from starlette.types import ASGIApp, Receive, Scope, Send

from bundle.engines.error_summary import sentence

__all__ = ["app"]

logger = logging.getLogger(__name__)
FAULT, FORBIDDEN = 500, 403
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
"""Of signatures by the realm's RSA key."""


class ForViewers:
    """What viewers need and web pages must not have, before a request reaches MONAI Label.

    A body without a kind is taken for JSON: QuPath's extension names none, and FastAPI from 0.132 on refuses that. A
    request that a web page of another place makes is refused: it could else change all, without being able to log in.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "http":
            headers = dict(scope["headers"])
            origin = headers.get(b"origin")
            if origin is not None and urlsplit(origin).netloc != headers.get(b"host"):
                answer = JSONResponse({"detail": "web pages of other places may not ask this server"}, FORBIDDEN)
                await answer(scope, receive, send)
                return
            if b"content-type" not in headers:
                scope = {**scope, "headers": [*scope["headers"], (b"content-type", b"application/json")]}
        await self.app(scope, receive, send)


async def _refused(_: Request, error: Exception) -> JSONResponse:
    """What MONAI Label refuses without a number."""
    return JSONResponse({"detail": str(getattr(error, "msg", error))}, BAD)


async def _no_json(_: Request, error: Exception) -> JSONResponse:
    """Parameters that are no JSON, or not of the right kind."""
    what = (
        f"the parameters are no JSON ({error})"
        if isinstance(error, json.JSONDecodeError)
        else " ".join(str(error).split())
    )
    return JSONResponse({"detail": what}, BAD)


async def _too_deep(_: Request, error: Exception) -> JSONResponse:
    """JSON that is nested too deeply."""
    return JSONResponse({"detail": "the parameters are nested too deeply"}, BAD)


async def _no_file(request: Request, error: Exception) -> JSONResponse:
    """An ending of a file's name that is too long for a file."""
    if getattr(error, "errno", None) == errno.ENAMETOOLONG:
        return JSONResponse({"detail": "the name of the file is too long"}, BAD)
    return await _failed(request, error)


async def _failed(request: Request, error: Exception) -> JSONResponse:
    """A fault of the server: the log has all of it, the answer its last sentence; then the connection is closed."""
    logger.error("%s %s", request.method, request.url.path, exc_info=error)
    return JSONResponse({"detail": sentence(error)}, FAULT, {"connection": "close"})


def _decoded(token: str, key: str, options: Mapping[str, Any]) -> Any:
    """Content of a token; MONAI Label 0.8.5 names no kinds of signature, and PyJWT from 2.0 on refuses that."""
    return jwt.decode(token, key, algorithms=list(ALGORITHMS), options=dict(options))


app.add_exception_handler(MONAILabelException, _refused)
app.add_exception_handler(ValueError, _no_json)
app.add_exception_handler(RecursionError, _too_deep)
app.add_exception_handler(OSError, _no_file)
app.add_exception_handler(Exception, _failed)
app.user_middleware[:] = [one for one in app.user_middleware if one.cls is not CORSMiddleware]
app.add_middleware(ForViewers)
auth.jwt = SimpleNamespace(decode=_decoded)
app.router.routes[:] = [route for route in app.router.routes if getattr(route, "path", "") != "/reload"]


@app.put("/model/{model}", tags=["Model"], summary="Upload weights; what is none of this network is refused")
async def put_model(
    model: str,
    file: UploadFile,
    user: auth.User = Depends(auth.RBAC(settings.MONAI_LABEL_AUTH_ROLE_ANNOTATOR)),  # noqa: B008
) -> dict[str, Any]:
    """Let uploaded weights serve; the model before is kept."""
    with tempfile.TemporaryDirectory(prefix="model_") as folder:
        place = Path(folder) / "model.pt"
        with place.open("wb") as target:
            shutil.copyfileobj(file.file, target)
        taken: dict[str, Any] = app_instance().take_model(model, place)
    return taken


app.router.routes.insert(0, app.router.routes.pop())  # before MONAI Label's own, which writes without a look
