"""Several heads of a network in one output tensor: stack them along the channel axis and split them again."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.transforms.transform import Transform
from torch import Tensor, nn

FORMS = ("logits", "tanh", "probability")
"""Output form of a head: unchanged; tanh, in [-1, 1]; softmax without the background class, each in [0, 1]."""


class StackedHeads(nn.Module):
    """Network that returns several heads of another network, concatenated along the channel axis.

    An evaluator slides its window over one tensor, blends it and resamples it to the size of the image. With this
    network in place of the bare one, the tensor also holds the maps that the postprocessing needs beside the
    segmentation. Channels are independent, so the segmentation does not change. Logits are blended as logits;
    distances and probabilities are converted first, because overlapping windows should agree on their mean.

    The wrapped network is shared, not copied. Load weights into it, not into this module, whose keys have a prefix.

    Args:
        network: network with ``heads(image)``, which returns (B, C, H, W) maps by name.
        heads: head -> form, in the order of the channels. ``logits`` keeps all C channels, ``tanh`` maps all C to
            [-1, 1]; ``probability`` is the softmax without channel 0, C - 1 channels in [0, 1].

    Raises:
        ValueError: if no head is given or a form is unknown.

    Example::

        >>> from bundle.networks import SemiMoE
        >>> network = StackedHeads(SemiMoE(widths=(4, 8, 8, 8, 8)), {"fused_seg": "logits", "fused_sdf": "tanh"})
        >>> network.eval()(torch.zeros(1, 3, 64, 64)).shape
        torch.Size([1, 3, 64, 64])
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
        """Return the stacked maps (B, sum of channels, H, W) of images (B, 3, H, W).

        Raises:
            ValueError: if the network lacks one of the heads.
        """
        heads = self.network.heads(image) if hasattr(self.network, "heads") else {}  # type: ignore[operator]
        missing = [name for name in self.shown if name not in heads]
        if missing:
            raise ValueError(
                f"{type(self.network).__name__} has no head {', '.join(map(repr, missing))}, only {sorted(heads)}; "
                "choose a method whose network has it, or evaluate without this postprocessing"
            )
        return torch.cat([_convert_head(heads[name], form) for name, form in self.shown.items()], dim=1)


class UnstackHeadsd(Transform):
    """Dictionary transform that splits stacked heads along the channel axis.

    Args:
        key: stacked maps (C, H, W), as :class:`StackedHeads` returns them for one image.
        parts: key of each part -> number of its channels, in their order; ``key`` itself may be among them.

    Raises:
        ValueError: if a part has no channel.
    """

    def __init__(self, key: Hashable, parts: Mapping[Hashable, int]) -> None:
        for name, channels in parts.items():
            if channels < 1:
                raise ValueError(f"part {name!r} has {channels} channels; it needs at least 1")
        self.key = key
        self.parts = dict(parts)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a copy of the record with the parts, (channels, H, W) each, with the metadata of the stacked maps.

        Raises:
            ValueError: if the number of channels differs from the sum over the parts.
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


def _convert_head(head: Tensor, form: str) -> Tensor:
    """Convert one head (B, C, H, W) to its output form."""
    if form == "tanh":
        return head.tanh()
    return head.softmax(dim=1)[:, 1:] if form == "probability" else head
