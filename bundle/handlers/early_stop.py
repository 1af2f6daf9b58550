"""Early stopping on the key metric of the validation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ignite.engine import Engine
from ignite.handlers import EarlyStopping


def key_metric_of(evaluator: Any) -> float:
    """Return the key metric of MONAI's evaluator after a validation."""
    return float(evaluator.state.metrics[evaluator.state.key_metric_name])


class EarlyStop(EarlyStopping):
    """Ignite's ``EarlyStopping``, on the key metric by default; attach it to the evaluator.

    Args:
        patience: validations without improvement after which the training ends.
        trainer: engine that is ended.
        score_function: maps the evaluator to a score; higher is better.
    """

    def __init__(
        self, patience: int, trainer: Engine, score_function: Callable[[Engine], float] = key_metric_of
    ) -> None:
        super().__init__(patience=patience, score_function=score_function, trainer=trainer)
