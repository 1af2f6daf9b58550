"""Middleware of the server: which hosts and pages may send requests, and how large these may be."""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

from fastapi.responses import JSONResponse
from lib.request_errors import TOO_LARGE, RefusalError
from lib.settings import names_of_server, upload_limit
from monailabel.config import settings
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

FORBIDDEN = 403
MEBIBYTE = 2**20
LABEL_MIB = 512
"""Largest upload of a label, MiB; outlines may have 64 MiB (``read_annotations``)."""
DISCARDED_MIB = 256
"""How much of a refused upload is read before the response, MiB."""
PLAIN_MIB = 8
"""Largest body without files, MiB; it is read into memory."""


class TrustedHosts:
    """Middleware that refuses requests to unknown host names and from foreign web pages.

    A web page of another site can let its own host name point to 127.0.0.1 (DNS rebinding); its requests then have that
    name as host *and* as origin. So the host must be a loopback name, or one that ``--host`` or ``--conf hosts`` gives.
    An IP address cannot be rebound, so if the server listens on all addresses, each of them is allowed.

    Starlette's ``TrustedHostMiddleware`` has a fixed list of names and responds with plain text.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward or refuse a request."""
        if scope["type"] == "http":
            reason = _refusal(Headers(scope=scope), names_of_server(settings.MONAI_LABEL_APP_CONF))
            if reason is not None:
                await JSONResponse({"detail": reason}, FORBIDDEN)(scope, receive, send)
                return
        await self.app(scope, receive, send)


class JSONByDefault:
    """Middleware that treats a body without a content type as JSON.

    QuPath's extension sends none, and FastAPI since 0.132 refuses it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward a request."""
        if scope["type"] == "http" and "content-type" not in Headers(scope=scope):
            scope = {**scope, "headers": [*scope["headers"], (b"content-type", b"application/json")]}
        await self.app(scope, receive, send)


class BodyLimit:
    """Middleware that refuses bodies that are too large, before they are stored; also those of unknown length."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward or refuse a request; a body without a declared length is counted while it arrives."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers, received = Headers(scope=scope), 0
        limit = _limit(headers, scope["path"])
        refusal = RefusalError(
            TOO_LARGE, f"the request is larger than {limit} MiB, the limit here; see the settings of the server"
        )
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > limit * MEBIBYTE:
            await _discard(receive)
            response = JSONResponse({"detail": refusal.detail}, TOO_LARGE, {"connection": "close"})
            await response(scope, receive, send)
            return

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit * MEBIBYTE:
                if message.get("more_body"):
                    await _discard(receive)
                raise refusal
            return message

        await self.app(scope, counted, send)


async def _discard(receive: Receive) -> None:
    """Read on for a while, because many clients read a response only after they have sent everything."""
    left = DISCARDED_MIB * MEBIBYTE
    while left > 0:
        message = await receive()
        left -= len(message.get("body", b""))
        if not message.get("more_body"):
            return


def _limit(headers: Headers, path: str) -> int:
    """Return the largest allowed size of a request, MiB."""
    if not headers.get("content-type", "").lower().startswith("multipart/"):
        return PLAIN_MIB
    limit = upload_limit(settings.MONAI_LABEL_APP_CONF)
    return min(limit, LABEL_MIB) if path.rstrip("/").endswith("/datastore/label") else limit


def _refusal(headers: Headers, names: Collection[str]) -> str | None:
    """Return why the host or the origin of a request is refused; ``None`` if both are allowed."""
    hosts = headers.getlist("host")
    name = _host_name(f"//{hosts[0]}") if len(hosts) == 1 else None
    if name is None or not _is_known(name, names):
        return "this host name is not known to the server; use localhost, or start it with --host NAME"
    for origin in headers.getlist("origin"):
        if _host_name(origin) is None or urlsplit(origin).netloc.lower() != hosts[0].lower():
            return "requests of other web pages are not allowed"
    return None


def _host_name(address: str) -> str | None:
    """Return the host name of an address in lower case; ``None`` if it is malformed."""
    try:
        parts = urlsplit(address)
        parts.port  # noqa: B018 - it raises ValueError for a port that is no number
    except ValueError:
        return None
    return None if parts.username is not None or not parts.hostname else parts.hostname.rstrip(".")


def _is_known(name: str, names: Collection[str]) -> bool:
    """Return whether a host is a loopback name, a given name, or any address if the server listens on all."""
    given = {known.strip("[]").rstrip(".").lower() for known in names}
    address = _address(name)
    if address is None:
        return name == "localhost" or name in given
    allowed = [other for other in map(_address, given) if other is not None]
    return address.is_loopback or any(other in (address,) or other.is_unspecified for other in allowed)


def _address(name: str) -> IPv4Address | IPv6Address | None:
    """Return the IP address that a name is; ``None`` for other names."""
    try:
        return ip_address(name)
    except ValueError:
        return None
