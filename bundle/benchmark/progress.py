"""How far a benchmark is: lines about cells, and the time left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any


@dataclass(frozen=True)
class Running:
    """A cell at work.

    Attributes:
        name: of the cell.
        method: of the cell.
        seconds: since its process started.
        before: share of its training that was done then, in [0, 1].
        share: that is done now.
    """

    name: str
    method: str
    seconds: float
    before: float
    share: float

    def whole(self) -> float | None:
        """Seconds that its training takes in all, at the pace of this process; ``None`` while there is no pace."""
        gained = self.share - self.before
        return self.seconds / gained if gained > 0 else None


@dataclass
class Progress:
    """Counts cells and estimates the time left from those that are finished and running.

    Attributes:
        total: cells that were asked for.
        slots: how many run at once.
        ended: cells that are over, failed ones too.
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
        """Line about a finished cell: its score on the test part and what it took."""
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
        """What is running, and how far it is."""
        return "; ".join(f"{one.name} {100 * one.share:.0f} %" for one in running)

    def left(self, waiting: Sequence[str], running: Sequence[Running]) -> str:
        """The time left, in words.

        Args:
            waiting: methods of the cells that have not begun.
            running: cells at work.
        """
        paces = {one.method: whole for one in running if (whole := one.whole()) is not None}
        expected = paces | {method: fmean(seconds) for method, seconds in self.known.items()}
        if not expected:
            return "time left not known yet"
        typical = fmean(expected.values())
        work = sum(expected.get(method, typical) for method in waiting)
        work += sum((1 - one.share) * expected.get(one.method, typical) for one in running)
        return f"about {duration(work / max(1, min(self.slots, len(waiting) + len(running))))} left"


def duration(seconds: float) -> str:
    """A length of time for people: ``45 s``, ``12 min``, ``3 h 20 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
