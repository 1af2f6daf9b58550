"""Validation at the end of a training whose last epoch is not a multiple of the interval."""

from __future__ import annotations

from typing import Any

from ignite.engine import Engine, Events
from monai.engines import Evaluator
from monai.handlers import ValidationHandler


class LastValidation(ValidationHandler):
    """Handler that validates after the last epoch if MONAI's ``ValidationHandler`` does not; used in addition to it.

    Without it, a training shorter than the interval would save no model. It does nothing without validation images.

    Args:
        interval: epochs between two validations of the other handler.
        validator: evaluator of the validation.
    """

    def __init__(self, interval: int, validator: Evaluator) -> None:
        super().__init__(interval=interval, validator=validator)
        loader: Any = validator.data_loader
        self.has_images = len(getattr(loader, "dataset", loader)) > 0

    def attach(self, engine: Engine) -> None:
        """Validate once, after the last epoch, unless it is a multiple of the interval."""
        if self.has_images:
            engine.add_event_handler(Events.EPOCH_COMPLETED(event_filter=self._is_due), self)

    def _is_due(self, engine: Engine, epoch: int) -> bool:
        return epoch == engine.state.max_epochs and epoch % self.interval != 0
