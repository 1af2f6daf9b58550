"""Disagreement between the heads of experts and gates, as a map of where a mask is uncertain."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from bundle.types import FUSED, SDF, SEG, Heads

OPINIONS = ((SEG, SDF), (FUSED + SEG, FUSED + SDF))
"""Pairs of heads that classify a pixel: segmentation and signed distance of the experts, and of the gates."""


def disagreement(heads: Heads) -> Tensor:
    """Return a map of how little the heads of a network agree on each pixel; see :func:`consensus_entropy`.

    Its mean over an image is a score for active learning: a higher score means a more informative label.

    Args:
        heads: as ``network.heads(image)`` returns them: ``seg``, ``fused_seg`` (B, C, H, W) logits, ``sdf``,
            ``fused_sdf`` (B, 1, H, W) before tanh; others are ignored.

    Returns:
        (B, 1, H, W) in [0, 1], float32.

    Raises:
        ValueError: if a head is missing.
    """
    missing = [name for pair in OPINIONS for name in pair if name not in heads]
    if missing:
        raise ValueError(
            f"the network has no head {', '.join(map(repr, missing))}, only {sorted(heads)}; its disagreement needs a "
            "network with experts and gates for segmentation and distance: Semi-MoE"
        )
    scores, distances = zip(*((heads[seg], heads[sdf].float().tanh()) for seg, sdf in OPINIONS), strict=True)
    return consensus_entropy(scores, distances)


def consensus_entropy(scores: Sequence[Tensor], distances: Sequence[Tensor]) -> Tensor:
    """Return the entropy of the mean prediction at each pixel, divided by log C.

    Scores become probabilities by softmax. A signed distance d means gland with probability (1 + d) / 2; this is
    divided among the gland classes as in the scores at the same position of the list. The entropy of the mean is the
    mean entropy plus the Jensen-Shannon divergence of the predictions, so it is low only if all are certain of the
    same class. This is the consensus entropy of query by committee (Settles 2009, Active Learning Literature Survey,
    2.2). docs/inference.md compares it with alternatives.

    Args:
        scores: logits (B, C, H, W) each.
        distances: (B, 1, H, W) in [-1, 1] each, positive inside; as many as scores.

    Returns:
        (B, 1, H, W) in [0, 1], float32.
    """
    predictions = []
    for score, distance in zip(scores, distances, strict=True):
        score, gland = score.float(), (1.0 + distance.float()) / 2.0
        predictions.append(score.softmax(dim=1))
        predictions.append(torch.cat([1.0 - gland, gland * score[:, 1:].softmax(dim=1)], dim=1))
    mean = torch.stack(predictions).mean(dim=0)
    return (torch.special.entr(mean).sum(dim=1, keepdim=True) / math.log(mean.shape[1])).clamp(0.0, 1.0)
