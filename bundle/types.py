"""Names of heads and keys, data types and protocols that all parts share.

A module of ``bundle`` may import this one, files of its own folder and third-party libraries, nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ignite.engine import Engine
from torch import Tensor

SEG = "seg"
"""Segmentation: logits (B, C, H, W); the target holds class indices (B, 1, H, W), 0 is background."""
SDF = "sdf"
"""Signed distance before tanh (B, 1, H, W); the target is in [-1, 1], positive inside objects."""
BOUNDARY = "boundary"
"""Boundary: logits (B, 2, H, W); the target is 0 or 1 (B, 1, H, W)."""
EXPERTS = (SEG, SDF, BOUNDARY)

FUSED = "fused_"
"""Prefix of a head that a gate mixes from the experts: ``fused_seg``."""
GATE = "gate_"
"""Prefix of gate weights (B, K), one per image and expert; each row sums to 1: ``gate_seg``."""

SPECIALIST = "specialist_"
"""Prefix of a head for one class: logits (B, 3, H, W) of background, this class and all other classes.

``specialist_2`` is the head of class 2; :func:`as_specialist` makes its target.
"""
OWN, OTHER = 1, 2
"""Indices of a specialist for its own class and for all other foreground classes; 0 is background."""

IGNORE = 255
"""Value of unannotated pixels in labels and targets. Losses and metrics ignore them; no class has this index."""

IMAGE = "image"
LABEL = "label"
PRED = "pred"
"""The main output of a network; also its name among all outputs of an export, as in metadata.json."""
FILE = "file"
"""In a training batch: file names of its images."""
FAILED = "failed"
"""In inference: the reason why an image cannot be read, in place of the image."""
FACTS = "facts"
"""In inference: numbers about the processing of one image, for the inference log."""
FILES = "files"
"""In inference: files written for an image in addition to its mask."""

Heads = dict[str, Tensor]
"""Outputs of a network: all maps that a method needs, (B, C, H, W) logits or values, and gate weights (B, K)."""
Batch = dict[str, Any]
"""A batch of a loader: ``image`` (B, 3, H, W), normalized; for labeled images also ``label`` and further targets."""
Scalars = dict[str, Tensor]
"""Named numbers of one step, each a 0-d tensor."""
Ramp = Callable[[float], float]
"""Weight over training: progress in [0, 1] -> weight."""


@dataclass(frozen=True)
class PseudoLabel:
    """Pseudo-label of one head, without gradient.

    Attributes:
        target: class indices (B, 1, H, W) of an integer type (hard), class probabilities (B, C, H, W) with C >= 2
            (soft), or signed distances (B, 1, H, W) in [-1, 1].
        weight: pixel weights (B, 1, H, W) in [0, 1]; ``None`` weights all pixels equally.
    """

    target: Tensor
    weight: Tensor | None = None

    def foreground(self) -> Tensor:
        """Return the share of foreground in [0, 1], a 0-d tensor, over the pixels with a weight above 0."""
        inside = 1.0 - self.target[:, :1].float() if self.target.shape[1] > 1 else (self.target > 0).float()
        if self.weight is None:
            return inside.mean()
        counts = (self.weight > 0).float()
        return (inside * counts).sum() / counts.sum().clamp_min(1.0)


class Viewed(Protocol):
    """A batch in one view, with the same random draw for images and pseudo-labels."""

    batch: Batch

    def transform_label(self, label: PseudoLabel) -> PseudoLabel:
        """Transform a pseudo-label from the pixels of the original batch to the pixels of this view."""


class View(Protocol):
    """Augmentation of a batch: noise, color, CutMix. It draws once per call and does not modify its argument."""

    def __call__(self, batch: Batch) -> Viewed:
        """Apply the view.

        Images are (B, 3, H, W), or (n B, 3, H, W) if ``transform_label`` repeats the labels n times.
        """


class EngineHandler(Protocol):
    """Handler of MONAI's or Ignite's kind."""

    def attach(self, engine: Engine) -> None:
        """Register the methods of this handler for events of an engine."""


class PseudoLabeler(Protocol):
    """Module that makes the pseudo-labels of one or more heads."""

    needs_heads: bool
    """Whether it uses the student's heads in the source view. A teacher does not, which saves a forward pass."""

    def __call__(self, batch: Batch, heads: Heads, progress: float) -> dict[str, PseudoLabel]:
        """Make pseudo-labels in the source view.

        Args:
            batch: batch in the source view; may hold a (sparse) ``label``.
            heads: the student's heads for it, detached; empty if ``needs_heads`` is False.
            progress: share of the training that is done, in [0, 1].
        """


class HeadNetwork(Protocol):
    """Network with named heads. ``forward`` returns one tensor, which is evaluated, exported and served."""

    def __call__(self, image: Tensor) -> Tensor:
        """Return logits (B, C, H, W)."""

    def heads(self, image: Tensor) -> Heads:
        """Return all maps that the method needs."""


def detached(heads: Mapping[str, Tensor]) -> Heads:
    """Return the same maps without gradient."""
    return {name: head.detach() for name, head in heads.items()}


def as_specialist(classes: Tensor, own: int) -> Tensor:
    """Convert class indices to the target of the specialist of one class.

    Args:
        classes: class indices of any shape and integer type; ``IGNORE`` stays.
        own: class of the specialist, 1 or above.

    Returns:
        Same shape and type: 0 for background, ``OWN`` for class ``own``, ``OTHER`` for all other classes.
    """
    other = (classes != 0) & (classes != own) & (classes != IGNORE)
    return classes.masked_fill(classes == own, OWN).masked_fill(other, OTHER)


def to_bool(value: bool | str | int, name: str = "switch") -> bool:
    """Convert a setting from the command line to a bool.

    Args:
        value: a bool, 0 or 1, or one of true, yes, on, 1, false, no, off, 0, in upper or lower case.
        name: name of the setting in the error message.

    Raises:
        ValueError: for any other value; ``bool("false")`` would be True.
    """
    values = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
    key = str(value).strip().lower()
    if key not in values:
        raise ValueError(f"{name} is {value!r}; write True or False")
    return values[key]
