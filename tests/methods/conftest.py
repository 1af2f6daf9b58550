"""A method by its overlay, tiny, inside this process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser
from torch import Tensor, nn

from bundle.engines import SemiSupervisedTrainer
from bundle.engines.trainer import tensors_of
from bundle.teaching import ConstantRamp, Step
from bundle.types import Batch, Scalars


class OnlyTaught(nn.Module):
    """An objective that counts the unlabeled images alone."""

    def forward(self, labeled: Scalars, unlabeled: Scalars, progress: float) -> tuple[Tensor, Scalars]:
        return torch.stack(list(unlabeled.values())).sum(), {}


@dataclass
class Method:
    """A method as its overlay makes it."""

    parser: ConfigParser
    trainer: SemiSupervisedTrainer
    step: Step
    network: nn.Module

    def batches(self) -> tuple[Batch, Batch | None]:
        """The first batch of each stream, as plain tensors."""
        cpu, other = torch.device("cpu"), self.trainer.unlabeled_data_loader
        labeled = tensors_of(next(iter(self.trainer.data_loader)), cpu)
        return labeled, None if other is None else tensors_of(next(iter(other)), cpu)

    def only_taught(self) -> None:
        """Count the lessons alone."""
        self.step.objective = OnlyTaught()

    def open_up(self) -> None:
        """All lessons at full weight from the first step on, and no pixel left out."""
        for part in (self.step.objective, *self.step.lessons.values(), *self.step.regularizers.values()):
            if hasattr(part, "ramp"):
                part.ramp = ConstantRamp(1.0)
        for lesson in self.step.lessons.values():
            if hasattr(lesson.labeler, "confidence"):
                lesson.labeler.confidence = 0.0


@pytest.fixture
def method(tiny: dict[str, Any], repository_root: Path) -> Callable[..., Method]:
    """Makes a method by the name of its overlay, tiny, from the same random numbers."""

    def make(name: str, **changes: Any) -> Method:
        torch.manual_seed(0)
        parser = ConfigParser()
        overlay = repository_root / "configs" / "methods" / f"{name}.yaml"
        parser.read_config([str(repository_root / "configs" / "train.json"), str(overlay)])
        parser.update(tiny | {"max_epochs": 1} | changes)
        trainer = parser.get_parsed_content("train#trainer")
        return Method(parser, trainer, trainer.step, trainer.network)

    return make
