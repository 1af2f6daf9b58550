"""MONAI Label's endpoints, with checked arguments, in threads, and without server paths in responses.

MONAI Label runs each request in the event loop, so that a prediction or a large label would block all clients.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import anyio.to_thread
from anyio import CapacityLimiter
from fastapi import APIRouter, Depends, FastAPI
from fastapi.routing import APIRoute
from lib.request_checks import PREDICTIONS, check_fields
from lib.request_errors import NOT_FOUND, RefusalError
from lib.server_paths import without_paths
from lib.task_checks import check_task
from monailabel import endpoints
from monailabel.config import settings
from monailabel.endpoints.user.auth import RBAC, User
from monailabel.interfaces.utils.app import app_instance
from starlette.routing import Mount, Route

Endpoint = Callable[..., Awaitable[Any]]

MODULES = (
    *("activelearning", "batch_infer", "datastore", "infer", "info", "logs", "model", "scoring", "session", "train"),
    "wsi_infer",
)
TASKS = {"train": "train", "batch_infer": "batch_infer", "scoring": "scoring"}
"""Module -> kind of the task that its endpoint ``api_run`` starts."""
UPLOADS = ("api_add_image", "api_save_label", "api_sample")
"""Endpoints that read images or labels."""
LIMITS = {"predictions": 2, "uploads": 4, "others": 16}
"""Number of requests of a kind that run at once; further ones wait without a thread."""


def run_in_threads(app: FastAPI) -> None:
    """Replace the endpoints of MONAI Label in its app.

    Its DICOM proxy, which would send requests to any path of the server's own folder, responds with 404.

    Args:
        app: MONAI Label's app.
    """
    limiters = {kind: CapacityLimiter(count) for kind, count in LIMITS.items()}
    app.router.routes[:] = [route for route in app.router.routes if _stays(route)]
    modules = [*MODULES, *(["login"] if settings.MONAI_LABEL_AUTH_ENABLE else [])]
    for name in modules:
        router = APIRouter()
        for route in getattr(endpoints, name).router.routes:
            router.add_api_route(
                route.path,
                _in_thread(route.endpoint, TASKS.get(name), limiters[_kind(route.endpoint)]),
                methods=sorted(route.methods),
                summary=route.summary,
                tags=route.tags,
                responses=route.responses,
                deprecated=route.deprecated,
                include_in_schema=route.include_in_schema,
            )
        app.include_router(router, prefix=settings.MONAI_LABEL_API_STR)
    for path in ("/proxy/{path:path}", "/ohif/{path:path}"):
        app.add_api_route(path, no_dicom, methods=["GET", "POST"], include_in_schema=False)


def no_dicom(user: User = Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER))) -> None:  # noqa: B008
    """Refuse requests of DICOMweb viewers.

    Raises:
        RefusalError: always.
    """
    raise RefusalError(NOT_FOUND, "this server has no DICOMweb; GET /datastore/?output=all lists all images")


def _stays(route: object) -> bool:
    """Return whether a route of the app is kept: static files and pages; the others are in routers of their own."""
    if isinstance(route, APIRoute):
        return not route.endpoint.__module__.startswith("monailabel.endpoints.") and route.path != "/reload"
    return isinstance(route, Mount | Route)


def _kind(endpoint: Endpoint) -> str:
    if endpoint.__name__ in PREDICTIONS:
        return "predictions"
    return "uploads" if endpoint.__name__ in UPLOADS else "others"


def _in_thread(endpoint: Endpoint, task: str | None, limiter: CapacityLimiter) -> Endpoint:
    """Return an endpoint with the same arguments that checks them and runs in a thread."""

    def run(values: Mapping[str, Any]) -> Any:
        check_fields(endpoint.__name__, values)
        if task is not None and endpoint.__name__.startswith("api_run"):
            instance = app_instance()
            check_task(task, values, (*instance.info()["trainers"], *instance.info()["scoring"]))
        answer = asyncio.run(_awaited(endpoint, values))  # it never waits for anything of the server's own loop
        return without_paths(answer) if isinstance(answer, dict | list) else answer

    @functools.wraps(endpoint)
    async def in_thread(**values: Any) -> Any:
        return await anyio.to_thread.run_sync(run, values, limiter=limiter)

    return in_thread


async def _awaited(endpoint: Endpoint, values: Mapping[str, Any]) -> Any:
    return await endpoint(**values)
