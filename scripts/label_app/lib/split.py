"""Split of the labeled images into training and validation; a training image never becomes a validation image."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

TRAINING, VALIDATION = "training", "validation"


def divided(names: Iterable[str], share: float, before: Mapping[str, str]) -> dict[str, str]:
    """Assign each labeled image to training or validation.

    An image keeps its part, so that a model is never validated on images that it or an earlier model was trained on.
    New images, in an order that depends only on their names, go to validation until the share is reached. If there are
    two or more images and ``share`` is above 0, at least one is for validation, unless all were used for training.

    Args:
        names: names of the labeled images.
        share: share of validation images, in [0, 1); with 0 all are for training.
        before: name -> part in earlier trainings.

    Returns:
        Name -> ``training`` or ``validation``.
    """
    ordered = sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    if share <= 0:
        return dict.fromkeys(ordered, TRAINING)
    parts = {name: before[name] for name in ordered if before.get(name) in (TRAINING, VALIDATION)}
    target = max(1, round(share * len(ordered))) if len(ordered) > 1 else 0
    validation = sum(part == VALIDATION for part in parts.values())
    training = len(parts) - validation
    for name in (name for name in ordered if name not in parts):
        validates = validation < target and (training > 0 or len(ordered) - len(parts) > 1)
        parts[name] = VALIDATION if validates else TRAINING
        validation, training = validation + validates, training + (not validates)
    if training == 0 and ordered:  # all earlier training images were removed
        parts[ordered[0]] = TRAINING
    return parts
