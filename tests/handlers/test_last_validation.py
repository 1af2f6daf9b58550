"""The last epoch is validated with any interval."""

from __future__ import annotations

from typing import Any

import pytest
from ignite.engine import Engine
from monai.engines import Evaluator
from monai.handlers import ValidationHandler

from bundle.handlers import LastValidation


class Judge(Evaluator):
    """Evaluator that records its calls."""

    def __init__(self, images: int = 1) -> None:
        super().__init__(device="cpu", val_data_loader=[0] * images)
        self.asked: list[int] = []

    def run(self, global_epoch: int = 1) -> None:
        self.asked.append(global_epoch)


@pytest.mark.parametrize(
    ("epochs", "interval", "judged"), [(1, 5, [1]), (7, 3, [3, 6, 7]), (6, 3, [3, 6]), (2, 1, [1, 2])]
)
def test_each_training_ends_with_one_validation(epochs: int, interval: int, judged: list[int]) -> None:
    judge = Judge()
    trainer: Any = Engine(lambda engine, batch: None)
    ValidationHandler(interval=interval, validator=judge).attach(trainer)
    LastValidation(interval=interval, validator=judge).attach(trainer)
    trainer.run([0], max_epochs=epochs)
    assert judge.asked == judged


def test_a_training_without_validation_images_validates_nothing() -> None:
    judge = Judge(images=0)
    trainer: Any = Engine(lambda engine, batch: None)
    LastValidation(interval=5, validator=judge).attach(trainer)
    trainer.run([0], max_epochs=1)
    assert judge.asked == []
