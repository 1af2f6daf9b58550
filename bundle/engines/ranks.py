"""Several processes that share one inference: how they find each other, and who does what."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TypeVar

from ignite import distributed as idist
from torch import distributed

Item = TypeVar("Item")
PATIENCE = timedelta(days=30)
"""How long a process that is done waits for the others: a slide may take hours."""


def join_ranks() -> None:
    """Meet the other processes where ``torchrun`` started this one; alone there is nothing to do.

    What they tell each other is small and on the CPU, so gloo does it on every machine.
    """
    if distributed.is_available() and distributed.is_torchelastic_launched() and not distributed.is_initialized():
        distributed.init_process_group("gloo", timeout=PATIENCE)
        idist.sync()  # ignite looks around once, with all processes: here, since some may never ask for their rank


def leave_ranks() -> None:
    """Part from the other processes."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def gathered(item: Item) -> list[Item]:
    """What each process gives, in the order of the ranks; all of them must ask."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return [item]
    everyone: list[Item] = [item] * distributed.get_world_size()
    distributed.all_gather_object(everyone, item)
    return everyone


def own_share(items: Sequence[Item]) -> list[Item]:
    """The items of this process: each item belongs to exactly one of them."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return list(items)
    return list(items[distributed.get_rank() :: distributed.get_world_size()])
