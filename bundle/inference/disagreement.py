"""Where not to trust a mask: how far the opinions of experts and gates cancel out, as a map."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from bundle.types import FUSED, SDF, SEG, Heads

OPINIONS = ((SEG, SDF), (FUSED + SEG, FUSED + SDF))
"""Heads that say what a pixel is: segmentation and signed distance of the experts, and of the gates."""


def disagreement(heads: Heads) -> Tensor:
    """How little the heads of a network agree on what each pixel is; see :func:`consensus_entropy`.

    Its mean over an image is a score of the image: the higher, the more a person's label would tell.

    Args:
        heads: as ``network.heads(image)`` gives them: ``seg``, ``fused_seg`` (B, C, H, W) logits, ``sdf``,
            ``fused_sdf`` (B, 1, H, W) before tanh; others are not looked at.

    Returns:
        (B, 1, H, W) in [0, 1], float32.

    Raises:
        ValueError: where a head is missing.
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
    """Entropy of the mean opinion about each pixel, in units of a coin (two classes) or die (C classes) toss.

    A score gives probabilities by its softmax. A distance d says gland with probability (1 + d) / 2, and leaves the
    kind of gland to the scores of its place. The entropy of the mean is the mean entropy plus the Jensen-Shannon
    divergence of the opinions, so it is low only where all are sure of the same: consensus entropy, as in query by
    committee (Settles 2009, Active Learning Literature Survey, 2.2). docs/inference.md says what else was measured.

    Args:
        scores: logits (B, C, H, W) each.
        distances: (B, 1, H, W) in [-1, 1] each, positive inside; as many as scores.

    Returns:
        (B, 1, H, W) in [0, 1], float32.
    """
    opinions = []
    for score, distance in zip(scores, distances, strict=True):
        score, gland = score.float(), (1.0 + distance.float()) / 2.0
        opinions.append(score.softmax(dim=1))
        opinions.append(torch.cat([1.0 - gland, gland * score[:, 1:].softmax(dim=1)], dim=1))
    mean = torch.stack(opinions).mean(dim=0)
    return (torch.special.entr(mean).sum(dim=1, keepdim=True) / math.log(mean.shape[1])).clamp(0.0, 1.0)
