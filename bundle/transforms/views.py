"""Views made of views: one after another, or side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bundle.types import Batch, PseudoLabel, View, Viewed


@dataclass
class ShownInTurn:
    """What :class:`ViewChain` shows: the last of its views, and labels carried through all of them."""

    batch: Batch
    shown: tuple[Viewed, ...]

    def carry(self, label: PseudoLabel) -> PseudoLabel:
        """Carry a label through each view in turn."""
        for one in self.shown:
            label = one.carry(label)
        return label


@dataclass(frozen=True)
class ViewChain:
    """Views one after another: the strong view is colors first, then CutMix.

    Args:
        views: each sees what the one before it shows; none shows the batch as it is.
    """

    views: Sequence[View]

    def __call__(self, batch: Batch) -> Viewed:
        """Show ``batch`` through all views; each draws once."""
        shown: list[Viewed] = []
        for view in self.views:
            shown.append(view(batch))
            batch = shown[-1].batch
        return ShownInTurn(batch, tuple(shown))


@dataclass
class ShownTogether:
    """What :class:`ViewsTogether` shows: n views of B images as one batch of n B, and n labels of each."""

    batch: Batch
    shown: tuple[Viewed, ...]

    def carry(self, label: PseudoLabel) -> PseudoLabel:
        """Carry a label (B, ...) into each view; (n B, ...) in the order of the views."""
        carried = [one.carry(label) for one in self.shown]
        weights = [one.weight for one in carried if one.weight is not None]
        return PseudoLabel(torch.cat([one.target for one in carried]), torch.cat(weights) if weights else None)


@dataclass(frozen=True)
class ViewsTogether:
    """Views side by side in one pass of the network: UniMatch V2 shows a batch twice (Yang et al. 2025).

    Image i of view k has the index k B + i, so with two views the halves of a batch are pairs, which is what
    ``bundle.networks.ComplementaryDropout`` relies on.

    Args:
        views: at least one; each draws anew, so one object may stand twice.

    Raises:
        ValueError: without a view.
    """

    views: Sequence[View]

    def __post_init__(self) -> None:
        """Refuse what would show nothing."""
        if not self.views:
            raise ValueError("give at least one view to show together")

    def __call__(self, batch: Batch) -> Viewed:
        """Show ``batch``, B images, as n B; every tensor of it is repeated likewise."""
        shown = tuple(view(batch) for view in self.views)
        together = {
            key: torch.cat([one.batch[key] for one in shown]) if isinstance(value, Tensor) else value
            for key, value in batch.items()
        }
        return ShownTogether(together, shown)
