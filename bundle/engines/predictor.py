"""MONAI's evaluator for pictures without labels: it goes on where one cannot be read."""

from __future__ import annotations

import logging
from typing import Any

from ignite.engine import Events
from monai.engines import SupervisedEvaluator

from bundle.types import FAILED, IMAGE

logger = logging.getLogger(__name__)


class Predictor(SupervisedEvaluator):
    """Answers pictures; one that came with the reason why it cannot be read is left out.

    Its output is then ``[{"image": path, "failed": reason}]``, for a journal to keep; no other handler of an iteration
    gets it as a prediction. Where no picture is left, it ends at once.
    """

    def _iteration(self, engine: Any, batchdata: Any) -> Any:
        """One batch, as MONAI's evaluator makes it."""
        if isinstance(batchdata, dict) and FAILED in batchdata:
            names = zip(batchdata[IMAGE], batchdata[FAILED], strict=True)
            engine.state.output = [{IMAGE: path, FAILED: reason} for path, reason in names]
            return engine.state.output
        return super()._iteration(engine, batchdata)

    def run(self, global_epoch: int = 1) -> None:  # type: ignore[override]
        """Answer all pictures of the loader."""
        if len(self.data_loader) > 0:  # type: ignore[arg-type]
            super().run(global_epoch)
            return
        logger.info("nothing is left to do here; --overwrite True does all again")
        for event in (Events.STARTED, Events.COMPLETED):  # MONAI would skip them, and other processes wait for ours
            self.fire_event(event)
