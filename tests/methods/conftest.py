"""A method by its overlay, tiny, inside this process."""

from __future__ import annotations

import ast
import re
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
from bundle.semi_supervision import ConstantRamp, Step
from bundle.types import Batch, Scalars


class OnlyTaught(nn.Module):
    """An objective that counts the unlabeled images alone."""

    def forward(self, labeled: Scalars, unlabeled: Scalars, progress: float) -> tuple[Tensor, Scalars]:
        return sum(unlabeled.values(), start=next(iter((labeled | unlabeled).values())).new_zeros(())), {}


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
        """Count the consistency terms alone."""
        self.step.objective = OnlyTaught()

    def open_up(self) -> None:
        """All consistency terms at full weight from the first step on, and no pixel left out."""
        for part in (self.step.objective, *self.step.consistency.values(), *self.step.regularizers.values()):
            if hasattr(part, "ramp"):
                part.ramp = ConstantRamp(1.0)
        for term in self.step.consistency.values():
            if hasattr(term.pseudo_labeler, "confidence"):
                term.pseudo_labeler.confidence = 0.0
            if hasattr(term.pseudo_labeler, "threshold"):  # the share of ln C below which an entropy counts
                term.pseudo_labeler.threshold = ConstantRamp(2.0)


def files_of(overlay: Path) -> list[str]:
    """The configs of the command in an overlay's header: train.json, what the method needs below it, and itself."""
    header = re.sub(r"\\?\n# *", " ", overlay.read_text(encoding="utf-8"))
    command = re.search(r"python -m monai\.bundle run training +--config_file \"(\[.*?\])\"", header)
    assert command is not None, f"the header of {overlay.name} has no command"
    files = ast.literal_eval(command[1])
    assert files[0] == "configs/train.json"
    assert files[-1] == f"configs/methods/{overlay.name}"
    return files


@pytest.fixture
def method(tiny: dict[str, Any], repository_root: Path) -> Callable[..., Method]:
    """Makes a method by its overlay, tiny, from the same random numbers; over data and encoder overlays if given."""

    def make(name: str, data: str | None = None, encoder: str | None = None, **changes: Any) -> Method:
        torch.manual_seed(0)
        parser = ConfigParser()
        overlay = repository_root / "configs" / "methods" / f"{name}.yaml"
        first, *rest = files_of(overlay)
        files = [first, *([f"configs/data/{data}.yaml"] if data else []), *rest]
        encoders = [f"configs/encoders/{encoder}.yaml"] if encoder else []
        parser.read_config([str(repository_root / file) for file in [*files, *encoders]])
        own = {"network_def#encoder", "network_def#output_stride"} if encoder else set()
        parser.update({key: value for key, value in tiny.items() if key not in own} | {"max_epochs": 1} | changes)
        trainer = parser.get_parsed_content("train#trainer")
        return Method(parser, trainer, trainer.step, trainer.network)

    return make
