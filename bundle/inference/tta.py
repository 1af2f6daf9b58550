"""Answers averaged over flips and quarter turns of the image (test-time augmentation)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import Inferer
from torch import Tensor

MEMBERS: dict[int, tuple[tuple[bool, int], ...]] = {
    1: ((False, 0),),
    2: ((False, 0), (True, 0)),
    4: ((False, 0), (False, 2), (True, 0), (True, 2)),
    8: tuple((mirrored, quarters) for mirrored in (False, True) for quarters in range(4)),
}
"""By how many views there are: whether each is mirrored, and its quarter turns. Each set is a group, so the average
does not depend on which of these views the picture itself was."""


class TurnedInferer(Inferer):
    """An inferer that shows the image mirrored and turned, turns each answer back, and gives their mean.

    What is averaged are the maps as the network answers them: logits of the segmentation (so in the end the geometric
    mean of probabilities), and what :class:`StackedHeads` stacks, in its form. The views come one after the other, so
    the memory is that of one more map, and the time ``turns`` times the inner inferer's.

    Attributes of the inner inferer, for instance ``roi_size`` and ``overlap``, are this one's too.

    Args:
        inferer: answers one view; any of MONAI's.
        turns: number of views. 1: the image as it is; 2: and its mirror image; 4: and both upside down; 8: and all
            these turned by a quarter.

    Raises:
        ValueError: for another number of views.
    """

    def __init__(self, inferer: Inferer, turns: int = 8) -> None:
        super().__init__()
        if turns not in MEMBERS:
            raise ValueError(f"turns is {turns!r}; choose from {', '.join(map(str, MEMBERS))}")
        self.inferer = inferer
        self.turns = turns

    def __getattr__(self, name: str) -> Any:
        """Ask the inner inferer; called only for what this one lacks."""
        if name == "inferer" or name.startswith("__"):  # not made yet: a copy, or a process that unpickles it
            raise AttributeError(name)
        return getattr(self.inferer, name)

    def __call__(self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Tensor:
        """Mean answer (B, C, H, W) to images (B, 3, H, W).

        Args:
            inputs: images.
            network: answers one tensor.
            *args: for the inner inferer.
            **kwargs: for the inner inferer.

        Raises:
            TypeError: where the network answers with something else than one tensor.
        """
        total: Tensor | None = None
        for mirrored, quarters in MEMBERS[self.turns]:
            answer = self.inferer(_turned(inputs, mirrored, quarters), network, *args, **kwargs)
            if not isinstance(answer, Tensor):
                raise TypeError(f"the network answers with {type(answer).__name__}; turned answers want one tensor")
            back = _turned_back(answer, mirrored, quarters)
            total = back.float() if total is None else total + back
        assert total is not None
        return total / self.turns


def _turned(maps: Tensor, mirrored: bool, quarters: int) -> Tensor:
    """Mirror maps (B, C, H, W), then turn them by quarters."""
    return torch.rot90(maps.flip(-1) if mirrored else maps, quarters, (-2, -1))


def _turned_back(maps: Tensor, mirrored: bool, quarters: int) -> Tensor:
    """Undo :func:`_turned`."""
    back = torch.rot90(maps, -quarters, (-2, -1))
    return back.flip(-1) if mirrored else back
