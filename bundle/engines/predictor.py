"""MONAI's evaluator for images without labels; it skips unreadable images and continues."""

from __future__ import annotations

import logging
from typing import Any

from ignite.engine import Events
from monai.engines import SupervisedEvaluator

from bundle.engines.output_check import OutputCheck
from bundle.types import FAILED, IMAGE

logger = logging.getLogger(__name__)


class Predictor(SupervisedEvaluator):
    """Evaluator that predicts images and skips those that could not be read.

    A skipped image has the output ``[{"image": path, "failed": reason}]``, which the journal records; no other handler
    of an iteration sees it as a prediction. Without images the run ends at once. A network that returns NaN, infinite
    or far too large numbers stops the run (:class:`OutputCheck`).
    """

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        """Make the evaluator; arguments are those of MONAI's ``SupervisedEvaluator``."""
        super().__init__(*arguments, **settings)
        OutputCheck().attach(self)

    def _iteration(self, engine: Any, batchdata: Any) -> Any:
        """Process one batch as MONAI's evaluator does."""
        if isinstance(batchdata, dict) and FAILED in batchdata:
            names = zip(batchdata[IMAGE], batchdata[FAILED], strict=True)
            engine.state.output = [{IMAGE: path, FAILED: reason} for path, reason in names]
            return engine.state.output
        return super()._iteration(engine, batchdata)

    def run(self, global_epoch: int = 1) -> None:  # type: ignore[override]
        """Predict all images of the loader."""
        if len(self.data_loader) > 0:  # type: ignore[arg-type]
            super().run(global_epoch)
            return
        logger.info("all images are done; give --overwrite True to process them again")
        for event in (Events.STARTED, Events.COMPLETED):  # MONAI would skip them, but other ranks wait for this one
            self.fire_event(event)
