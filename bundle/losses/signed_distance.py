"""Loss of the signed-distance head."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bundle.types import IGNORE


class SignedDistanceLoss(nn.Module):
    """Mean squared error between tanh of a prediction and a signed distance: the loss R of Semi-MoE (BMVC 2025).

    Differs from the authors' code: the shapes must be equal. There a prediction (B, 1, H, W) and a target (B, H, W)
    broadcast to (B, B, H, W), so that every image is compared with every distance map of the batch.
    """

    def forward(self, prediction: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Compute the loss, in float32 also under autocast.

        Args:
            prediction: (B, 1, H, W), any range; tanh maps it to [-1, 1].
            target: signed distance (B, 1, H, W) in [-1, 1], or ``IGNORE``: such pixels are ignored.
            weight: pixel weights (B, 1, H, W), 0 or more; ``None`` weights all pixels equally.

        Returns:
            The weighted mean, a 0-d tensor, in [0, 4]; 0, with gradient 0, if all weights are 0.

        Raises:
            ValueError: if the shapes are not the same.
        """
        if prediction.shape != target.shape:
            raise ValueError(f"prediction {tuple(prediction.shape)} and target {tuple(target.shape)} differ in shape")
        if weight is not None and weight.shape != target.shape:
            raise ValueError(f"weight {tuple(weight.shape)} and target {tuple(target.shape)} differ in shape")
        weights = (target != IGNORE).float()
        if weight is not None:
            weights = weights * weight.float()
        squared = (torch.tanh(prediction.float()) - target.float()) ** 2
        return (squared * weights).sum() / weights.sum().clamp_min(torch.finfo(torch.float32).tiny)
