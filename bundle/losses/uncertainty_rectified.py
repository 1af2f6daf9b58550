"""Loss of uncertainty rectified pyramid consistency (URPC)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bundle.losses.pixel_weights import as_probabilities, pixel_weights, weighted_mean


class RectifiedSquaredError(nn.Module):
    """Squared error weighted by the certainty of the prediction, plus the uncertainty.

    Uncertainty rectified pyramid consistency (URPC: Luo et al. 2021, arXiv 2012.07042), for one scale:

        p = softmax(prediction),  v = KL(p, t) = sum_c p_c (log p_c - log t_c)  (one value per pixel)
        loss = sum exp(-v) m / sum exp(-v) + mean v,  m = mean_c (p_c - t_c)^2

    The uncertainty v has a gradient in both terms. The target t, the mean of all scales, is a pseudo-label without
    gradient.

    Differs from the paper: there the target has a gradient too.
    """

    def forward(self, prediction: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Compute the loss, in float32 also under autocast.

        Args:
            prediction: logits (B, C, H, W), C >= 2.
            target: class probabilities (B, C, H, W), or class indices (B, 1, H, W) where ``IGNORE`` is ignored.
            weight: pixel weights in all sums (B, 1, H, W), 0 or more; ``None`` weights all pixels equally.

        Returns:
            A 0-d tensor, 0 or more; 0 if prediction and target are equal or all weights are 0.

        Raises:
            ValueError: if the shapes do not match.
        """
        weights = pixel_weights(prediction, target, weight)
        expected = as_probabilities(target, prediction.shape[1])
        logarithms = prediction.float().log_softmax(dim=1)
        probabilities = logarithms.exp()
        squared = (probabilities - expected).square().mean(dim=1, keepdim=True)
        log_ratio = logarithms - expected.clamp_min(torch.finfo(torch.float32).tiny).log()
        divergence = (probabilities * log_ratio).sum(dim=1, keepdim=True)
        return weighted_mean(squared, weights * torch.exp(-divergence)) + weighted_mean(divergence, weights)
