"""More than one map in the answer of a network: heads side by side in one tensor, and apart again."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.transforms.transform import Transform
from torch import Tensor, nn

FORMS = ("logits", "tanh", "probability")
"""How a head is shown: as it is; its tanh, in [-1, 1]; its softmax without the background, each in [0, 1]."""


class StackedHeads(nn.Module):
    """A network that answers with several heads of another, side by side on the channel axis.

    An evaluator slides its window over one tensor, blends it and brings it back to the size of the image. With this
    network in place of the bare one, that tensor also holds what the postprocessing needs beside the segmentation, and
    every map goes the same way. Each channel is treated by itself, so the segmentation stays what it was. Logits are
    blended as logits; distances and probabilities as such, because overlapping windows should agree on their mean.

    The network inside is shared, not copied: load weights into it, not into this one, whose keys carry a prefix.

    Args:
        network: has ``heads(image)``, (B, C, H, W) by name.
        heads: names of heads and their form, in the order of the channels. ``logits`` keeps all C channels as they
            are, ``tanh`` all C in [-1, 1]; ``probability`` is the softmax without channel 0, C - 1 channels in [0, 1].

    Raises:
        ValueError: without a head, or for an unknown form.
    """

    def __init__(self, network: nn.Module, heads: Mapping[str, str]) -> None:
        super().__init__()
        if not heads:
            raise ValueError("no head to stack; name at least one")
        for name, form in heads.items():
            if form not in FORMS:
                raise ValueError(f"head {name!r} has the form {form!r}; choose from {list(FORMS)}")
        self.network = network
        self.shown = dict(heads)

    def forward(self, image: Tensor) -> Tensor:
        """Maps side by side (B, sum of channels, H, W) of images (B, 3, H, W).

        Raises:
            ValueError: for a network that lacks one of the heads.
        """
        heads = self.network.heads(image) if hasattr(self.network, "heads") else {}  # type: ignore[operator]
        missing = [name for name in self.shown if name not in heads]
        if missing:
            raise ValueError(
                f"{type(self.network).__name__} has no head {', '.join(map(repr, missing))}, only {sorted(heads)}; "
                "choose a method whose network has it, or evaluate without this postprocessing"
            )
        return torch.cat([_formed(heads[name], form) for name, form in self.shown.items()], dim=1)


class UnstackHeadsd(Transform):
    """Dictionary transform that takes stacked heads apart again, channel by channel.

    Args:
        key: maps side by side (C, H, W), as :class:`StackedHeads` answers for one image.
        parts: keys of the record and how many channels each gets, in their order; ``key`` itself may be among them.

    Raises:
        ValueError: for a part without channel.
    """

    def __init__(self, key: Hashable, parts: Mapping[Hashable, int]) -> None:
        for name, channels in parts.items():
            if channels < 1:
                raise ValueError(f"part {name!r} has {channels} channels; it needs at least 1")
        self.key = key
        self.parts = dict(parts)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Give a copy of the record with the parts, (channels, H, W) each, with the metadata of the whole.

        Raises:
            ValueError: where the maps have another number of channels than the parts together.
        """
        record = dict(data)
        stacked = record[self.key]
        if stacked.shape[0] != sum(self.parts.values()):
            raise ValueError(
                f"{self.key!r} has {stacked.shape[0]} channels, but its parts are {self.parts}: the evaluator's "
                "network and this transform must name the same heads"
            )
        start = 0
        for name, channels in self.parts.items():
            record[name] = stacked[start : start + channels]
            start += channels
        return record


def _formed(head: Tensor, form: str) -> Tensor:
    """One head (B, C, H, W) in its form."""
    if form == "tanh":
        return head.tanh()
    return head.softmax(dim=1)[:, 1:] if form == "probability" else head
