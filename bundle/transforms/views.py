"""Combinations of views: in sequence, or concatenated along the batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bundle.types import Batch, PseudoLabel, View, Viewed


@dataclass
class ChainedViews:
    """Result of :class:`ViewChain`: the batch of the last view; labels are carried through all views."""

    batch: Batch
    views: tuple[Viewed, ...]

    def transform_label(self, label: PseudoLabel) -> PseudoLabel:
        """Carry a label through the views, one after the other."""
        for view in self.views:
            label = view.transform_label(label)
        return label


@dataclass(frozen=True)
class ViewChain:
    """Views applied one after the other, for example color changes and then CutMix.

    Args:
        views: each is applied to the batch of the previous one; an empty sequence leaves the batch unchanged.
    """

    views: Sequence[View]

    def __call__(self, batch: Batch) -> Viewed:
        """Return ``batch`` after all views; each is called once."""
        viewed: list[Viewed] = []
        for view in self.views:
            viewed.append(view(batch))
            batch = viewed[-1].batch
        return ChainedViews(batch, tuple(viewed))


@dataclass
class ConcatenatedViews:
    """Result of :class:`ConcatenateViews`: n views of B images as one batch of n B images."""

    batch: Batch
    views: tuple[Viewed, ...]

    def transform_label(self, label: PseudoLabel) -> PseudoLabel:
        """Carry a label (B, ...) into each view and concatenate to (n B, ...), in the order of the views."""
        labels = [view.transform_label(label) for view in self.views]
        weights = [carried.weight for carried in labels if carried.weight is not None]
        return PseudoLabel(torch.cat([carried.target for carried in labels]), torch.cat(weights) if weights else None)


@dataclass(frozen=True)
class ConcatenateViews:
    """Views concatenated along the batch, for one pass of the network, as the two of UniMatch V2 (Yang et al. 2025).

    Image i of view k has the index k B + i, so with two views the halves of a batch are pairs, which
    ``bundle.networks.ComplementaryDropout`` relies on.

    Args:
        views: at least one; each is random at each call, so the same object may be given twice.

    Raises:
        ValueError: if ``views`` is empty.
    """

    views: Sequence[View]

    def __post_init__(self) -> None:
        """Check that there is a view."""
        if not self.views:
            raise ValueError("views is empty; give at least one view")

    def __call__(self, batch: Batch) -> Viewed:
        """Return all views of ``batch``, B images, as one batch of n B; all tensors are concatenated."""
        viewed = tuple(view(batch) for view in self.views)
        concatenated = {
            key: torch.cat([view.batch[key] for view in viewed]) if isinstance(value, Tensor) else value
            for key, value in batch.items()
        }
        return ConcatenatedViews(concatenated, viewed)
