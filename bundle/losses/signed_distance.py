"""Loss of the signed-distance head."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bundle.types import IGNORE


class SignedDistanceLoss(nn.Module):
    """Mean squared error between tanh of a prediction and a signed distance: the loss R of Semi-MoE (BMVC 2025).

    Differs from the authors' code: the shapes must be equal. There a prediction (B, 1, H, W) met a target (B, H, W),
    which broadcasts to (B, B, H, W), so that every image was held to every distance map of the batch.
    """

    def forward(self, prediction: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Compare prediction and target, in float32 also under autocast.

        Args:
            prediction: (B, 1, H, W), any range; tanh brings it to [-1, 1].
            target: signed distance (B, 1, H, W) in [-1, 1], or ``IGNORE``: such pixels count nothing.
            weight: how much each pixel counts, (B, 1, H, W), 0 or more; ``None`` counts all alike.

        Returns:
            The (weighted) mean, a tensor without dimensions, in [0, 4]; 0, with gradient 0, where no pixel counts.

        Raises:
            ValueError: when the shapes are not the same.
        """
        if prediction.shape != target.shape:
            raise ValueError(f"prediction {tuple(prediction.shape)} and target {tuple(target.shape)} differ in shape")
        if weight is not None and weight.shape != target.shape:
            raise ValueError(f"weight {tuple(weight.shape)} and target {tuple(target.shape)} differ in shape")
        counts = (target != IGNORE).float()
        if weight is not None:
            counts = counts * weight.float()
        squared = (torch.tanh(prediction.float()) - target.float()) ** 2
        return (squared * counts).sum() / counts.sum().clamp_min(torch.finfo(torch.float32).tiny)
