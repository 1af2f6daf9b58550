"""Which labeled images judge and which teach: an image that has taught never judges."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

TRAINING, VALIDATION = "training", "validation"


def divided(names: Iterable[str], share: float, before: Mapping[str, str]) -> dict[str, str]:
    """Give each labeled image a part.

    An image keeps the part that it had, so that a model is never judged by what it or an earlier one learned from.
    New images are taken in an order that depends on their names alone, and judge until the share is reached. At least
    one judges where there are two or more and ``share`` is above 0, unless all have taught already.

    Args:
        names: of the images with a label.
        share: of those that judge, in [0, 1); 0 lets all teach.
        before: part of each image in earlier trainings.

    Returns:
        ``training`` or ``validation`` for each name.
    """
    ordered = sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    if share <= 0:
        return dict.fromkeys(ordered, TRAINING)
    parts = {name: before[name] for name in ordered if before.get(name) in (TRAINING, VALIDATION)}
    wanted = max(1, round(share * len(ordered))) if len(ordered) > 1 else 0
    judging = sum(part == VALIDATION for part in parts.values())
    teaching = len(parts) - judging
    for name in (name for name in ordered if name not in parts):
        judges = judging < wanted and (teaching > 0 or len(ordered) - len(parts) > 1)
        parts[name] = VALIDATION if judges else TRAINING
        judging, teaching = judging + judges, teaching + (not judges)
    if teaching == 0 and ordered:  # those that taught are gone
        parts[ordered[0]] = TRAINING
    return parts
