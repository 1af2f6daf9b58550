"""Test-time augmentation by flips and 90 degree rotations."""

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
"""Number of views -> (is mirrored, number of 90 degree rotations) of each. Each set is a group, so the mean does not
depend on the orientation of the picture."""


class TTAInferer(Inferer):
    """Inferer that averages predictions over mirrored and rotated views of the image.

    The mean is over the maps as the network returns them: logits of the segmentation (so the geometric mean of
    probabilities), and the maps of :class:`StackedHeads` in their form. Views are predicted one after another, so the
    memory of one more map is needed, and ``views`` times the time of the inner inferer.

    Attributes of the inner inferer, such as ``roi_size`` and ``overlap``, can be read from this one.

    Args:
        inferer: MONAI inferer for one view.
        views: number of views. 1: the image; 2: with its mirror image; 4: with both rotated by 180 degrees; 8: with
            all these rotated by 90 degrees.

    Raises:
        ValueError: if ``views`` is not 1, 2, 4 or 8.

    Example::

        >>> from monai.inferers import SimpleInferer
        >>> TTAInferer(SimpleInferer(), views=8)(torch.zeros(1, 3, 32, 32), lambda image: image[:, :2]).shape
        torch.Size([1, 2, 32, 32])
    """

    def __init__(self, inferer: Inferer, views: int = 8) -> None:
        super().__init__()
        if views not in MEMBERS:
            raise ValueError(f"views is {views!r}; choose from {', '.join(map(str, MEMBERS))}")
        self.inferer = inferer
        self.views = views

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the inner inferer; called only for attributes that this one lacks."""
        if name == "inferer" or name.startswith("__"):  # not initialized yet, while copying or unpickling
            raise AttributeError(name)
        return getattr(self.inferer, name)

    def __call__(self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Tensor:
        """Return the mean prediction (B, C, H, W) for images (B, 3, H, W).

        Args:
            inputs: images.
            network: returns one tensor.
            *args: for the inner inferer.
            **kwargs: for the inner inferer.

        Raises:
            TypeError: if the network does not return one tensor.
        """
        total: Tensor | None = None
        for mirrored, quarters in MEMBERS[self.views]:
            output = self.inferer(_rotate(inputs, mirrored, quarters), network, *args, **kwargs)
            if not isinstance(output, Tensor):
                raise TypeError(f"the network returns {type(output).__name__}; test-time augmentation needs one tensor")
            restored = _rotate_back(output, mirrored, quarters)
            total = restored.float() if total is None else total + restored
        assert total is not None
        return total / self.views


def _rotate(maps: Tensor, mirrored: bool, quarters: int) -> Tensor:
    """Mirror maps (B, C, H, W), then rotate them by multiples of 90 degrees."""
    return torch.rot90(maps.flip(-1) if mirrored else maps, quarters, (-2, -1))


def _rotate_back(maps: Tensor, mirrored: bool, quarters: int) -> Tensor:
    """Invert :func:`_rotate`."""
    restored = torch.rot90(maps, -quarters, (-2, -1))
    return restored.flip(-1) if mirrored else restored
