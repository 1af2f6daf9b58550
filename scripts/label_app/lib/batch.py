"""Answering for many images at once: each on its own, one that fails is named and the next follows."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from fastapi import HTTPException
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag
from monailabel.interfaces.tasks.batch_infer import BatchInferTask
from monailabel.utils.others.generic import remove_file

from bundle.engines.error_summary import sentence

logger = logging.getLogger(__name__)


class BatchAnswers(BatchInferTask):
    """Labels of the model for all images, or those with or without a final label; tiles get masks, slides outlines.

    MONAI Label's own asks for a GPU by default, and ends with the first image that fails.
    """

    def __call__(
        self, request: dict[str, Any], datastore: Datastore, infer: Callable[..., dict[str, Any]]
    ) -> dict[str, Any]:
        """Answer.

        Args:
            request: ``model``; ``images`` (``all``, ``labeled``, ``unlabeled`` or names), ``label_tag``,
                ``max_batch_size`` (how many at most, 0 for all), ``device``.
            datastore: images and labels.
            infer: answers for one image.

        Returns:
            For each name ``label``, ``tag`` and ``params``, or ``failed``, the reason.
        """
        names = sorted(self.get_images(request, datastore))
        names = names[: int(request.get("max_batch_size") or 0) or len(names)]
        started = time.time()
        result: dict[str, Any] = {}
        for number, name in enumerate(names, 1):
            wanted = {
                "image": name,
                "save_label": True,
                "label_tag": request.get("label_tag", DefaultLabelTag.ORIGINAL),
            }
            try:
                answer = infer({**request, **wanted}, datastore)
            except (HTTPException, OSError, RuntimeError, ValueError) as error:
                result[name] = {"failed": str(getattr(error, "detail", "")) or sentence(error)}
                logger.warning("%s: %s", name, result[name]["failed"])
                continue
            remove_file(answer.pop("file", None))
            answer["params"].pop("annotations", None)  # they stand in the label; the log shows this answer
            result[name] = answer
            logger.info("%d of %d images, %.0f s", number, len(names), time.time() - started)
        return result
