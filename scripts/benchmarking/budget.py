"""Training length of a cell: steps from a budget, equal for all methods and shares of labels."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Unit = Literal["steps", "minutes"]
FORM = re.compile(r"([0-9]+(?:\.[0-9]+)?) *(steps|minutes)")


@dataclass(frozen=True)
class Budget:
    """Budget of one training: optimizer steps, or minutes of the slowest method."""

    amount: float
    unit: Unit

    def __str__(self) -> str:
        return f"{self.amount:g}{self.unit}"

    def comes_to(self, length: Length) -> str:
        """Return a sentence with the resulting steps, and why they may differ from the budget."""
        text = f"{length.steps} steps, {length.epochs} epochs of {length.epoch_length}"
        if self.unit == "steps" and length.steps != self.amount:
            text += ": rounded up, because all epochs have the same length"
        return f"--budget {self} gives {text}"


@dataclass(frozen=True)
class Length:
    """Length of every training of a benchmark: ``epochs`` of ``epoch_length`` steps."""

    epochs: int
    epoch_length: int

    @property
    def steps(self) -> int:
        """Total number of optimizer steps."""
        return self.epochs * self.epoch_length


@dataclass(frozen=True)
class Pace:
    """Measured seconds of a method for one training step and one validation."""

    step: float
    validation: float


def read_budget(text: str) -> Budget:
    """Parse a budget such as ``575steps`` or ``10minutes``.

    Raises:
        ValueError: for any other text, and for less than one step.
    """
    match = FORM.fullmatch(text.strip())
    if match is None or float(match[1]) <= 0 or (match[2] == "steps" and not match[1].isdigit()):
        raise ValueError(f"a budget is a number of steps or minutes, such as 575steps or 10minutes, not {text!r}")
    return Budget(float(match[1]), "steps" if match[2] == "steps" else "minutes")


def length_of(steps: int, epochs: int) -> Length:
    """Divide steps into epochs. The number of epochs is kept, as learning rates, ramps and validations depend on it.

    Args:
        steps: minimal number of steps; rounded up, so that all epochs have the same length.
        epochs: number of epochs in the configuration; with fewer steps, each step is an epoch.

    Raises:
        ValueError: for less than one step.
    """
    if steps < 1 or epochs < 1:
        raise ValueError(f"{steps} steps in {epochs} epochs are not enough for a training; give a larger budget")
    return Length(epochs, -(-steps // epochs)) if steps >= epochs else Length(steps, 1)


def whole_passes(images: int, batch_size: int, epochs: int) -> Length:
    """Return the length without a budget: an epoch has as many steps as there are batches of all images.

    Labeled and unlabeled images are counted, so that the length does not depend on the share of labels. The default
    epoch of the configuration, the longer of the two streams, depends on it.
    """
    return Length(epochs, max(1, -(-images // batch_size)))


def steps_within(minutes: float, paces: Mapping[str, Pace], epochs: int, interval: int) -> int:
    """Return the steps of the slowest method in ``minutes``, including its validations, in epochs of equal length.

    Steps are rounded down, so that the training takes no longer; see ``length_of``.

    Args:
        minutes: duration of one training.
        paces: method -> measured seconds.
        epochs: epochs of the training.
        interval: epochs between two validations.

    Raises:
        ValueError: if the validations alone take longer.
    """
    validations = -(-epochs // interval)
    steps = {}
    for method, pace in paces.items():
        training_seconds = minutes * 60 - validations * pace.validation
        steps[method] = int(training_seconds / pace.step)
        if steps[method] < 1:
            raise ValueError(
                f"{minutes:g} minutes are too few: {validations} validations of {method} take "
                f"{validations * pace.validation / 60:.1f} minutes; give more minutes, or --set val_interval=..."
            )
    fewest = min(steps.values())
    return fewest - fewest % epochs if fewest >= epochs else fewest
