"""Errors of invalid requests: an HTTP status code and one sentence."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import HTTPException

from bundle.engines.error_summary import sentence

logger = logging.getLogger(__name__)

NOT_FOUND, CONFLICT, TOO_LARGE, UNREADABLE, BAD = 404, 409, 413, 422, 400
"""HTTP status codes: not found; exists already, or busy; too large; cannot be read; other invalid requests."""


class RefusalError(HTTPException):
    """Error of an invalid request; FastAPI responds with the status code and the message.

    Args:
        status: HTTP status code, 400 to 499.
        what: one sentence: what is wrong, where, and what to do.
    """

    def __init__(self, status: int, what: str) -> None:
        super().__init__(status_code=status, detail=what)

    def __str__(self) -> str:
        return str(self.detail)


@contextmanager
def refusing(status: int = UNREADABLE) -> Iterator[None]:
    """Convert errors caused by a file or a setting of the request to a refusal; other errors are unchanged.

    Raises:
        RefusalError: for a ``ValueError``, or a file that does not exist or is not readable, also as a cause.
    """
    try:
        yield
    except HTTPException:
        raise
    except Exception as error:
        if not _is_input_error(error):
            raise
        logger.info("request refused", exc_info=True)
        what = sentence(error).replace("give --mpp", "start the server with --conf mpp MICRONS, or set its mpp")
        raise RefusalError(status, what) from error


def _is_input_error(error: BaseException) -> bool:
    """Return whether an error or one of its causes is about the input."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ValueError | FileNotFoundError | PermissionError | IsADirectoryError):
            return True
        cause = cause.__cause__ or cause.__context__
    return False
