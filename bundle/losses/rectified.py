"""Loss of uncertainty rectified pyramid consistency."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bundle.losses.pixel_weights import as_probabilities, counts, mean_over


class RectifiedSquaredError(nn.Module):
    """Squared error that counts less where a prediction strays from its target, plus how far it strays.

    Uncertainty rectified pyramid consistency (URPC: Luo et al. 2021, arXiv 2012.07042), for one scale:

        p = softmax(prediction),  v = KL(p, t) = sum_c p_c (log p_c - log t_c)  (one value a pixel)
        loss = sum exp(-v) m / sum exp(-v) + mean v,  m = mean_c (p_c - t_c)^2

    v has gradient in both places, so the network is also asked to agree; the target t, the mean of all scales, has
    none, as it is a pseudo-label.

    Differs from the paper: there the mean has gradient too.
    """

    def forward(self, prediction: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Compare prediction and target, in float32 also under autocast.

        Args:
            prediction: logits (B, C, H, W), C >= 2.
            target: class probabilities (B, C, H, W), or class indices (B, 1, H, W) where ``IGNORE`` counts nothing.
            weight: how much each pixel counts in all sums, (B, 1, H, W), 0 or more; ``None`` counts all alike.

        Returns:
            A tensor without dimensions, 0 or more; 0 where all agree or no pixel counts.

        Raises:
            ValueError: where shapes do not fit.
        """
        counted = counts(prediction, target, weight)
        expected = as_probabilities(target, prediction.shape[1])
        logarithms = prediction.float().log_softmax(dim=1)
        probabilities = logarithms.exp()
        squared = (probabilities - expected).square().mean(dim=1, keepdim=True)
        apart = logarithms - expected.clamp_min(torch.finfo(torch.float32).tiny).log()
        divergence = (probabilities * apart).sum(dim=1, keepdim=True)
        return mean_over(squared, counted * torch.exp(-divergence)) + mean_over(divergence, counted)
