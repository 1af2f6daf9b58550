"""Pictures for inference, one of which may be broken without stopping the others."""

from __future__ import annotations

from typing import Any

from monai.data import Dataset

from bundle.data.stored import PictureError
from bundle.types import FAILED, IMAGE


class PicturesToPredict(Dataset):
    """MONAI's ``Dataset`` of entries with ``image``, a path; a file that cannot be read gives the reason instead.

    Such an item is ``{"image": path, "failed": sentence}``, for ``bundle.engines.Predictor``. Errors of other kinds,
    for instance of a setting, stop the run as ever. The batch size must be 1.

    Args, errors: as for ``Dataset``.
    """

    def _transform(self, index: int) -> Any:
        try:
            return super()._transform(index)
        except (RuntimeError, ValueError, OSError) as error:  # MONAI wraps what a reader raises
            reason = _of_the_file(error)
            if reason is None:
                raise
            return {IMAGE: str(self.data[index][IMAGE]), FAILED: reason}


def _of_the_file(error: BaseException) -> str | None:
    """What the error below says of the file itself; nothing where the file is not to blame."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, PictureError | FileNotFoundError | PermissionError | IsADirectoryError):
            return " ".join(str(cause).split())
        cause = cause.__cause__ or cause.__context__
    return None
