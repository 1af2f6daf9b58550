"""Batch inference: images are segmented one by one, and failures are recorded."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from fastapi import HTTPException
from lib.request_checks import integer
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag
from monailabel.interfaces.tasks.batch_infer import BatchInferTask
from monailabel.utils.others.generic import remove_file

from bundle.engines.error_summary import sentence

logger = logging.getLogger(__name__)


def batch_size(request: Mapping[str, Any]) -> int:
    """Return the maximum number of images of a batch, 0 for all.

    Raises:
        RefusalError: 400 if it is not an integer.
    """
    return integer(request, "max_batch_size", 0, 0, 10**9)


class BatchAnswers(BatchInferTask):
    """Segment all images, or those with or without a final label, as masks of tiles and outlines of slides.

    MONAI Label's own task uses a GPU by default, and stops at the first failure.
    """

    def __call__(
        self, request: dict[str, Any], datastore: Datastore, infer: Callable[..., dict[str, Any]]
    ) -> dict[str, Any]:
        """Segment the images.

        Args:
            request: ``model``; ``images`` (``all``, ``labeled``, ``unlabeled`` or names), ``label_tag``,
                ``max_batch_size`` (maximum number of images, 0 for all), ``device``.
            datastore: images and labels.
            infer: function that segments one image.

        Returns:
            Name -> ``label``, ``tag`` and ``params``, or the reason of a failure as ``failed``.
        """
        names = sorted(self.get_images(request, datastore))
        names = names[: batch_size(request) or len(names)]
        started = time.time()
        result: dict[str, Any] = {}
        for number, name in enumerate(names, 1):
            settings = {
                "image": name,
                "save_label": True,
                "label_tag": request.get("label_tag", DefaultLabelTag.ORIGINAL),
            }
            try:
                answer = infer({**request, **settings}, datastore)
            except (HTTPException, OSError, RuntimeError, ValueError) as error:
                result[name] = {"failed": str(getattr(error, "detail", "")) or sentence(error)}
                logger.warning("%s: %s", name, result[name]["failed"])
                continue
            remove_file(answer.pop("file", None))
            answer["params"].pop("annotations", None)  # the label contains them, and this result is logged
            result[name] = answer
            logger.info("%d of %d images, %.0f s", number, len(names), time.time() - started)
        return result
