"""Process group of an inference with several ranks, and distribution of the images."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TypeVar

from ignite import distributed as idist
from torch import distributed

Item = TypeVar("Item")
PATIENCE = timedelta(days=30)
"""Timeout of the process group. A rank that is done waits for the others, and a slide may take hours."""


def join_ranks() -> None:
    """Join the process group if ``torchrun`` started this process; otherwise do nothing.

    The backend is gloo, because the ranks exchange only small objects on the CPU.
    """
    if distributed.is_available() and distributed.is_torchelastic_launched() and not distributed.is_initialized():
        distributed.init_process_group("gloo", timeout=PATIENCE)
        idist.sync()  # ignite synchronizes all ranks once: here, because some may never ask for their rank


def leave_ranks() -> None:
    """Leave the process group."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def gathered(item: Item) -> list[Item]:
    """Return the items of all ranks in their order; all ranks must call this function."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return [item]
    items: list[Item] = [item] * distributed.get_world_size()
    distributed.all_gather_object(items, item)
    return items


def own_share(items: Sequence[Item]) -> list[Item]:
    """Return the items of this rank; each item belongs to exactly one rank."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return list(items)
    return list(items[distributed.get_rank() :: distributed.get_world_size()])
