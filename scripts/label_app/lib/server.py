"""MONAI Label's server with one-sentence error responses: ``--uvicorn_app lib.server:app``."""

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
from lib.request_errors import BAD
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
"""Signature algorithms of the realm's RSA key."""


class ForViewers:
    """Middleware that supports viewers and blocks foreign web pages.

    A body without a content type is treated as JSON: QuPath's extension sends none, and FastAPI since 0.132 refuses it.
    Cross-origin requests are refused, because a foreign web page could otherwise change data without a login.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward or refuse a request."""
        if scope["type"] == "http":
            headers = dict(scope["headers"])
            origin = headers.get(b"origin")
            if origin is not None and urlsplit(origin).netloc != headers.get(b"host"):
                response = JSONResponse({"detail": "cross-origin requests are not allowed"}, FORBIDDEN)
                await response(scope, receive, send)
                return
            if b"content-type" not in headers:
                scope = {**scope, "headers": [*scope["headers"], (b"content-type", b"application/json")]}
        await self.app(scope, receive, send)


async def _refused(_: Request, error: Exception) -> JSONResponse:
    """Handle an error that MONAI Label raises without a status code."""
    return JSONResponse({"detail": str(getattr(error, "msg", error))}, BAD)


async def _no_json(_: Request, error: Exception) -> JSONResponse:
    """Handle parameters that are not valid JSON or have a wrong type."""
    what = (
        f"the parameters are not valid JSON ({error})"
        if isinstance(error, json.JSONDecodeError)
        else " ".join(str(error).split())
    )
    return JSONResponse({"detail": what}, BAD)


async def _too_deep(_: Request, error: Exception) -> JSONResponse:
    """Handle JSON that is nested too deeply."""
    return JSONResponse({"detail": "the parameters are nested too deeply"}, BAD)


async def _no_file(request: Request, error: Exception) -> JSONResponse:
    """Handle a file name that is too long."""
    if getattr(error, "errno", None) == errno.ENAMETOOLONG:
        return JSONResponse({"detail": "the file name is too long"}, BAD)
    return await _failed(request, error)


async def _failed(request: Request, error: Exception) -> JSONResponse:
    """Handle an internal error: log it, respond with its message, and close the connection."""
    logger.error("%s %s", request.method, request.url.path, exc_info=error)
    return JSONResponse({"detail": sentence(error)}, FAULT, {"connection": "close"})


def _decoded(token: str, key: str, options: Mapping[str, Any]) -> Any:
    """Decode a token; MONAI Label 0.8.5 passes no signature algorithms, which PyJWT requires since 2.0."""
    return jwt.decode(token, key, algorithms=list(ALGORITHMS), options=dict(options))


app.add_exception_handler(MONAILabelException, _refused)
app.add_exception_handler(ValueError, _no_json)
app.add_exception_handler(RecursionError, _too_deep)
app.add_exception_handler(OSError, _no_file)
app.add_exception_handler(Exception, _failed)
app.user_middleware[:] = [middleware for middleware in app.user_middleware if middleware.cls is not CORSMiddleware]
app.add_middleware(ForViewers)
auth.jwt = SimpleNamespace(decode=_decoded)
app.router.routes[:] = [route for route in app.router.routes if getattr(route, "path", "") != "/reload"]


@app.put("/model/{model}", tags=["Model"], summary="Upload weights; they must fit the network")
async def put_model(
    model: str,
    file: UploadFile,
    user: auth.User = Depends(auth.RBAC(settings.MONAI_LABEL_AUTH_ROLE_ANNOTATOR)),  # noqa: B008
) -> dict[str, Any]:
    """Replace the current model by uploaded weights; the previous model is kept."""
    with tempfile.TemporaryDirectory(prefix="model_") as folder:
        path = Path(folder) / "model.pt"
        with path.open("wb") as target:
            shutil.copyfileobj(file.file, target)
        result: dict[str, Any] = app_instance().take_model(model, path)
    return result


app.router.routes.insert(0, app.router.routes.pop())  # before MONAI Label's own route, which does not check the file
