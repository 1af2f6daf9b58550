"""MONAI Label's server, with answers of one sentence in place of errors: ``--uvicorn_app lib.server:app``."""

from __future__ import annotations

import json
import logging

from fastapi import Request
from fastapi.responses import JSONResponse
from lib.refusals import BAD
from monailabel.app import app
from monailabel.interfaces.exception import MONAILabelException

from bundle.engines.ending import sentence

__all__ = ["app"]

logger = logging.getLogger(__name__)
FAULT = 500


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


async def _failed(request: Request, error: Exception) -> JSONResponse:
    """A fault of the server: the log has all of it, the answer its last sentence."""
    logger.error("%s %s", request.method, request.url.path, exc_info=error)
    return JSONResponse({"detail": sentence(error)}, FAULT)


app.add_exception_handler(MONAILabelException, _refused)
app.add_exception_handler(ValueError, _no_json)
app.add_exception_handler(Exception, _failed)
