"""Progress of a benchmark: messages about cells, and the remaining time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any


@dataclass(frozen=True)
class Running:
    """A running cell.

    Attributes:
        name: name of the cell.
        method: method of the cell.
        seconds: seconds since the start of its process.
        before: share of the training that was done at that time, in [0, 1].
        share: share of the training that is done now.
    """

    name: str
    method: str
    seconds: float
    before: float
    share: float

    def whole(self) -> float | None:
        """Estimate the total seconds of the training from the pace of this process; ``None`` if it is unknown."""
        gained = self.share - self.before
        return self.seconds / gained if gained > 0 else None


@dataclass
class Progress:
    """Counter of cells that estimates the remaining time from finished and running cells.

    Attributes:
        total: number of requested cells.
        slots: number of cells that run in parallel.
        ended: number of finished and failed cells.
        known: method -> seconds of each finished cell.
    """

    total: int
    slots: int
    ended: int = 0
    known: dict[str, list[float]] = field(default_factory=dict)

    def add(self, method: str, seconds: float) -> None:
        """Count a finished cell."""
        self.known.setdefault(method, []).append(seconds)

    def finished(self, content: Mapping[str, Any]) -> str:
        """Return a message about a finished cell: test score, time and memory."""
        metric = (content.get("selected") or {}).get("metric")
        metric = metric if metric in content["metrics"] else next(iter(content["metrics"]))
        value, seconds = content["metrics"][metric], content["seconds"]
        memory = content["peak_memory"]
        device = "" if memory["device_mib"] is None else f", {memory['device_mib']:.0f} MiB of the device"
        return (
            f"[{self.ended}/{self.total}] {content['name']}: {metric} {value:.4f} on test; training "
            f"{duration(seconds['training'])}, evaluation {duration(seconds['evaluation'])}, "
            f"{memory['host_mib']:.0f} MiB{device}"
        )

    def at_work(self, running: Sequence[Running]) -> str:
        """Return the running cells with their progress in percent."""
        return "; ".join(f"{cell.name} {100 * cell.share:.0f} %" for cell in running)

    def left(self, waiting: Sequence[str], running: Sequence[Running]) -> str:
        """Return the remaining time as text.

        Args:
            waiting: methods of the cells that have not started.
            running: running cells.
        """
        estimates = {cell.method: seconds for cell in running if (seconds := cell.whole()) is not None}
        expected = estimates | {method: fmean(seconds) for method, seconds in self.known.items()}
        if not expected:
            return "remaining time unknown"
        mean = fmean(expected.values())
        seconds_left = sum(expected.get(method, mean) for method in waiting)
        seconds_left += sum((1 - cell.share) * expected.get(cell.method, mean) for cell in running)
        return f"about {duration(seconds_left / max(1, min(self.slots, len(waiting) + len(running))))} left"


def duration(seconds: float) -> str:
    """Format seconds as ``45 s``, ``12 min`` or ``3 h 20 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
