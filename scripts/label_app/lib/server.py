"""MONAI Label's server with checked requests and one-sentence error responses: ``--uvicorn_app lib.server:app``."""

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

import jwt
from fastapi import Depends, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse, Response
from lib.endpoints import run_in_threads
from lib.middleware import BodyLimit, JSONByDefault, TrustedHosts
from lib.page import router
from lib.request_errors import BAD, NOT_FOUND, UNREADABLE
from lib.server_paths import without_paths
from monailabel.app import app
from monailabel.config import settings
from monailabel.endpoints.user import auth
from monailabel.interfaces.exception import MONAILabelException
from monailabel.interfaces.utils.app import app_instance
from pydantic import ValidationError
from starlette.exceptions import HTTPException

__all__ = ["app"]

logger = logging.getLogger(__name__)
FAULT = 500
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
"""Signature algorithms of the realm's RSA key."""


def _detail(status: int, what: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Return a response with one sentence that names no folder of the server."""
    return JSONResponse({"detail": without_paths(" ".join(what.split()))}, status, headers)


async def _with_status(_: Request, error: Exception) -> Response:
    """Handle an error with a status code."""
    assert isinstance(error, HTTPException)
    return _detail(error.status_code, str(error.detail), error.headers)


async def _refused(_: Request, error: Exception) -> Response:
    """Handle an error that MONAI Label raises without a status code."""
    return _detail(BAD, str(getattr(error, "msg", error)))


async def _invalid(_: Request, error: Exception) -> Response:
    """Handle arguments of a wrong type."""
    assert isinstance(error, RequestValidationError | ValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path")) or "the body"
    status = UNREADABLE if isinstance(error, RequestValidationError) else BAD
    return _detail(status, f"the request is invalid at {where}: {first['msg']}; /docs describes all requests")


async def _no_json(_: Request, error: Exception) -> Response:
    """Handle parameters that are not valid JSON or have a wrong type."""
    is_json = isinstance(error, json.JSONDecodeError)
    return _detail(BAD, f"the parameters are not valid JSON ({error})" if is_json else str(error))


async def _too_deep(_: Request, error: Exception) -> Response:
    """Handle JSON that is nested too deeply."""
    return _detail(BAD, "the parameters are nested too deeply")


async def _no_file(request: Request, error: Exception) -> Response:
    """Handle a file name that is too long, or a program that is not installed."""
    if getattr(error, "errno", None) == errno.ENAMETOOLONG:
        return _detail(BAD, "the file name is too long")
    if request.url.path.endswith("/logs/gpu") and isinstance(error, FileNotFoundError):
        return _detail(NOT_FOUND, "nvidia-smi is not installed on the server; it has no NVIDIA GPU")
    return await _failed(request, error)


async def _failed(request: Request, error: Exception) -> Response:
    """Handle an internal error: log it, respond with its kind, and close the connection."""
    logger.error("%s %s", request.method, request.url.path, exc_info=error)
    what = f"the server failed ({type(error).__name__}); its log says why, try again or restart it"
    return _detail(FAULT, what, {"connection": "close"})


def _decoded(token: str, key: str, options: Mapping[str, Any]) -> Any:
    """Decode a token; MONAI Label 0.8.5 passes no signature algorithms, which PyJWT requires since 2.0."""
    return jwt.decode(token, key, algorithms=list(ALGORITHMS), options=dict(options))


app.add_exception_handler(HTTPException, _with_status)
app.add_exception_handler(RequestValidationError, _invalid)
app.add_exception_handler(ValidationError, _invalid)
app.add_exception_handler(MONAILabelException, _refused)
app.add_exception_handler(ValueError, _no_json)
app.add_exception_handler(RecursionError, _too_deep)
app.add_exception_handler(OSError, _no_file)
app.add_exception_handler(Exception, _failed)
app.user_middleware[:] = [middleware for middleware in app.user_middleware if middleware.cls is not CORSMiddleware]
for middleware in (BodyLimit, JSONByDefault, TrustedHosts):  # the last one is called first
    app.add_middleware(middleware)
auth.jwt = SimpleNamespace(decode=_decoded)


@app.put("/model/{model}", tags=["Model"], summary="Upload weights; they must fit the network")
def put_model(
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


app.router.routes[:] = [route for route in app.router.routes if getattr(route, "path", None) != "/"]
run_in_threads(app)  # after put_model, so that MONAI Label's own route, which does not check the file, is not used
app.include_router(router, prefix=settings.MONAI_LABEL_API_STR)  # the page, instead of MONAI Label's list of requests
