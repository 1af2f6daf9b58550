"""The words that all parts share: names of heads and keys, and what passes between the parts.

Every other module of ``bundle`` may import this one and outside libraries, and nothing else of ``bundle``
but the files of its own folder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

SEG = "seg"
"""Segmentation: logits (B, C, H, W); its target is a class index (B, 1, H, W), 0 is background."""
SDF = "sdf"
"""Signed distance: one value a pixel (B, 1, H, W) before tanh; its target lies in [-1, 1], positive inside."""
BOUNDARY = "boundary"
"""Boundary: logits (B, 2, H, W); its target is 0 or 1 (B, 1, H, W)."""
EXPERTS = (SEG, SDF, BOUNDARY)

FUSED = "fused_"
"""Prefix of a head that a gate mixed from the experts: ``fused_seg``."""
GATE = "gate_"
"""Prefix of a head that holds gate weights (B, K), one an expert and an image, each row sums to 1: ``gate_seg``."""

SPECIALIST = "specialist_"
"""Prefix of a head that knows one class: logits (B, 3, H, W) of background, its own class and every other class.

``specialist_2`` is that of class 2; :func:`as_specialist` makes its target.
"""
OWN, OTHER = 1, 2
"""What a specialist calls its own class, and every other foreground class; 0 is background, as everywhere."""

IGNORE = 255
"""In a label or a target: nothing is known of this pixel. Losses and metrics leave it out; no class has this number."""

IMAGE = "image"
LABEL = "label"
FILE = "file"
"""In a batch for training, the names of the files that its images came from."""
FAILED = "failed"
"""In inference, in place of a picture that cannot be read: the sentence that says why."""
FACTS = "facts"
"""In inference, plain numbers about the work on one picture, for its journal."""
FILES = "files"
"""In inference, the files that were written for a picture beside its mask."""

Heads = dict[str, Tensor]
"""What a network answers: every map that a method needs, (B, C, H, W) logits or values, and gate weights (B, K)."""
Batch = dict[str, Any]
"""What a loader gives: ``image`` (B, 3, H, W), normalized; on labeled images ``label`` and further targets."""
Scalars = dict[str, Tensor]
"""Named numbers of one step, each a tensor without dimensions."""
Ramp = Callable[[float], float]
"""A weight over training: progress in [0, 1] -> weight."""


@dataclass(frozen=True)
class PseudoLabel:
    """What a pseudo-labeler writes for one head; it never carries gradient.

    Attributes:
        target: what the head is held to. Class indices (B, 1, H, W) of an integer type (hard), class probabilities
            (B, C, H, W) with C >= 2 (soft), or signed distances (B, 1, H, W) in [-1, 1].
        weight: how much each pixel counts, (B, 1, H, W) in [0, 1]; ``None`` counts all alike.
    """

    target: Tensor
    weight: Tensor | None = None

    def foreground(self) -> Tensor:
        """Share of foreground in [0, 1], a tensor without dimensions, over the pixels that count (weight above 0)."""
        inside = 1.0 - self.target[:, :1].float() if self.target.shape[1] > 1 else (self.target > 0).float()
        if self.weight is None:
            return inside.mean()
        counts = (self.weight > 0).float()
        return (inside * counts).sum() / counts.sum().clamp_min(1.0)


class Viewed(Protocol):
    """One batch as one view shows it, with the same random draw for image and pseudo-label."""

    batch: Batch

    def carry(self, label: PseudoLabel) -> PseudoLabel:
        """Move a pseudo-label from the pixels of the original batch to the pixels of this view."""


class View(Protocol):
    """A way of showing a batch: noise, color, CutMix. It draws once a call and changes no argument."""

    def __call__(self, batch: Batch) -> Viewed:
        """Show ``batch``; images are (B, 3, H, W), or (n B, 3, H, W) where ``carry`` repeats the labels n times."""


class PseudoLabeler(Protocol):
    """Who writes the pseudo-labels of which heads."""

    needs_heads: bool
    """Whether it reads the student's own heads in the source view; a teacher does not, which saves a pass."""

    def __call__(self, batch: Batch, heads: Heads, progress: float) -> dict[str, PseudoLabel]:
        """Write labels for the source view.

        Args:
            batch: the images as the source view shows them; may hold a (sparse) ``label``.
            heads: the student's own answer to them, detached; empty where ``needs_heads`` is False.
            progress: share of training that is over, in [0, 1].
        """


class HeadNetwork(Protocol):
    """A network with named heads. ``forward`` gives one tensor (what is evaluated, exported and served)."""

    def __call__(self, image: Tensor) -> Tensor:
        """Logits of the answer (B, C, H, W)."""

    def heads(self, image: Tensor) -> Heads:
        """Every map that the method needs."""


def detached(heads: Mapping[str, Tensor]) -> Heads:
    """The same maps without gradient."""
    return {name: head.detach() for name, head in heads.items()}


def as_specialist(classes: Tensor, own: int) -> Tensor:
    """Class indices as the specialist of one class sees them.

    Args:
        classes: class indices of any shape and integer type; may hold ``IGNORE``, which stays.
        own: the specialist's class, 1 or above.

    Returns:
        The same shape and type: 0 background, ``OWN`` where the class is ``own``, ``OTHER`` where it is another.
    """
    other = (classes != 0) & (classes != own) & (classes != IGNORE)
    return classes.masked_fill(classes == own, OWN).masked_fill(other, OTHER)


def as_switch(value: bool | str | int, name: str = "switch") -> bool:
    """Read a yes-or-no setting as a person types it on a command line.

    Args:
        value: a bool, 0 or 1, or one of true, yes, on, 1, false, no, off, 0 in any spelling of case.
        name: how the setting is called in the error.

    Raises:
        ValueError: for anything else; ``bool("false")`` would be True.
    """
    words = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
    key = str(value).strip().lower()
    if key not in words:
        raise ValueError(f"{name} is {value!r}; write True or False")
    return words[key]
