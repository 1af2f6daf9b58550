"""Cross-entropy with pixel weights."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from bundle.losses.pixel_weights import is_hard, pixel_weights, weighted_mean
from bundle.types import IGNORE


class CrossEntropy(nn.Module):
    """Cross-entropy with a hard or soft target and pixel weights, which PyTorch's cross-entropy does not have.

    -sum_i w_i sum_c t_ic log p_ic / sum_i w_i over all pixels i of the batch, p = softmax(prediction).
    """

    def forward(self, prediction: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Compute the loss, in float32 also under autocast.

        Args:
            prediction: logits (B, C, H, W), C >= 2.
            target: class indices (B, 1, H, W) where ``IGNORE`` is ignored, or class probabilities (B, C, H, W).
            weight: pixel weights (B, 1, H, W), 0 or more; ``None`` weights all pixels equally.

        Returns:
            The weighted mean over pixels, in nats, a 0-d tensor, 0 or more (for a soft target at least its entropy);
            0 if all weights are 0.

        Raises:
            ValueError: if the shapes do not match.
        """
        weights = pixel_weights(prediction, target, weight)
        logits = prediction.float()
        if is_hard(target):
            loss = functional.cross_entropy(logits, target[:, 0].long(), ignore_index=IGNORE, reduction="none")
        else:
            loss = functional.cross_entropy(logits, target.float(), reduction="none")
        return weighted_mean(loss[:, None], weights)
