"""How long a cell trains: steps from a budget, the same for every method and share of labels."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Unit = Literal["steps", "minutes"]
FORM = re.compile(r"([0-9]+(?:\.[0-9]+)?) *(steps|minutes)")


@dataclass(frozen=True)
class Budget:
    """What one training may cost: optimizer steps, or minutes of the slowest method."""

    amount: float
    unit: Unit

    def __str__(self) -> str:
        return f"{self.amount:g}{self.unit}"

    def comes_to(self, length: Length) -> str:
        """What is run for it, in a sentence, and why it may be other steps than those asked for."""
        told = f"{length.steps} steps, {length.epochs} epochs of {length.epoch_length}"
        if self.unit == "steps" and length.steps != self.amount:
            told += ": rounded up, since all epochs are equally long"
        return f"--budget {self} comes to {told}"


@dataclass(frozen=True)
class Length:
    """Length of every training of a benchmark: ``epochs`` of ``epoch_length`` steps."""

    epochs: int
    epoch_length: int

    @property
    def steps(self) -> int:
        """All optimizer steps."""
        return self.epochs * self.epoch_length


@dataclass(frozen=True)
class Pace:
    """How fast a method was, in seconds: one training step, and one validation."""

    step: float
    validation: float


def read_budget(text: str) -> Budget:
    """Read ``575steps`` or ``10minutes``.

    Raises:
        ValueError: for anything else, and for less than one step.
    """
    match = FORM.fullmatch(text.strip())
    if match is None or float(match[1]) <= 0 or (match[2] == "steps" and not match[1].isdigit()):
        raise ValueError(f"a budget is a number of steps or minutes, such as 575steps or 10minutes, not {text!r}")
    return Budget(float(match[1]), "steps" if match[2] == "steps" else "minutes")


def length_of(steps: int, epochs: int) -> Length:
    """Lay steps out in epochs. The number of epochs is kept, since learning rates, ramps and validations follow it.

    Args:
        steps: at least so many; they are rounded up, so that all epochs are equally long.
        epochs: as the configuration has them; with fewer steps than that, each step is an epoch.

    Raises:
        ValueError: for less than one step.
    """
    if steps < 1 or epochs < 1:
        raise ValueError(f"{steps} steps in {epochs} epochs are no training; give a larger budget")
    return Length(epochs, -(-steps // epochs)) if steps >= epochs else Length(steps, 1)


def whole_passes(images: int, batch_size: int, epochs: int) -> Length:
    """Without a budget: each epoch has as many steps as all images, labeled and unlabeled, make batches.

    So the length does not depend on the share of labels; the configuration's own epoch, the longer of the two streams,
    does.
    """
    return Length(epochs, max(1, -(-images // batch_size)))


def steps_within(minutes: float, paces: Mapping[str, Pace], epochs: int, interval: int) -> int:
    """Steps that the slowest method makes in ``minutes``, its validations counted, in epochs of equal length.

    Rounded down, so that it takes no longer; see ``length_of``.

    Args:
        minutes: of one training.
        paces: how fast each method is, by name.
        epochs: of the training.
        interval: epochs between two validations.

    Raises:
        ValueError: where the validations alone take that long.
    """
    validations = -(-epochs // interval)
    steps = {}
    for method, pace in paces.items():
        left = minutes * 60 - validations * pace.validation
        steps[method] = int(left / pace.step)
        if steps[method] < 1:
            raise ValueError(
                f"{minutes:g} minutes are too few: {validations} validations of {method} take "
                f"{validations * pace.validation / 60:.1f} minutes; give more, or --set val_interval=..."
            )
    fewest = min(steps.values())
    return fewest - fewest % epochs if fewest >= epochs else fewest
