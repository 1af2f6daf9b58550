"""Validation at the end of a training whose last epoch is no multiple of the interval."""

from __future__ import annotations

from ignite.engine import Engine, Events
from monai.engines import Evaluator
from monai.handlers import ValidationHandler


class LastValidation(ValidationHandler):
    """Validates after the last epoch, where MONAI's ``ValidationHandler`` does not: else nobody judges it.

    A training shorter than the interval would leave no model at all. It stands beside the ``ValidationHandler``.

    Args:
        interval: epochs between two validations of the other handler.
        validator: the engine that validates.
    """

    def __init__(self, interval: int, validator: Evaluator) -> None:
        super().__init__(interval=interval, validator=validator)

    def attach(self, engine: Engine) -> None:
        """Validate once, after the last epoch, unless it is a multiple of the interval."""
        engine.add_event_handler(Events.EPOCH_COMPLETED(event_filter=self._is_due), self)

    def _is_due(self, engine: Engine, epoch: int) -> bool:
        return epoch == engine.state.max_epochs and epoch % self.interval != 0
