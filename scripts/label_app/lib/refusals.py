"""What the server answers to a request that cannot be served: a number of HTTP, and one sentence."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import HTTPException

from bundle.engines.error_summary import sentence

logger = logging.getLogger(__name__)

NOT_FOUND, CONFLICT, TOO_LARGE, UNREADABLE, BAD = 404, 409, 413, 422, 400
"""Not there; there already, or busy; too large; without a right reading; other faults."""


class RefusalError(HTTPException):
    """A request that is refused; FastAPI answers it with the status and the sentence, and the server goes on.

    Args:
        status: number of HTTP, 400 to 499.
        what: one sentence: what, where, what to do.
    """

    def __init__(self, status: int, what: str) -> None:
        super().__init__(status_code=status, detail=what)

    def __str__(self) -> str:
        return str(self.detail)


@contextmanager
def refusing(status: int = UNREADABLE) -> Iterator[None]:
    """Errors that a file or a setting of the request is to blame for become a refusal; others pass.

    Raises:
        RefusalError: for a ``ValueError``, or a file that is not there or not readable, however wrapped.
    """
    try:
        yield
    except HTTPException:
        raise
    except Exception as error:
        if not _to_blame(error):
            raise
        logger.info("refused", exc_info=True)
        what = sentence(error).replace("give --mpp", "start the server with --conf mpp MICRONS, or note its mpp")
        raise RefusalError(status, what) from error


def _to_blame(error: BaseException) -> bool:
    """Whether an error at the root of others is of a kind that speaks of what was given."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ValueError | FileNotFoundError | PermissionError | IsADirectoryError):
            return True
        cause = cause.__cause__ or cause.__context__
    return False
