"""Cross-entropy with a weight a pixel."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from bundle.losses.pixel_weights import counts, is_hard, mean_over
from bundle.types import IGNORE


class CrossEntropy(nn.Module):
    """Cross-entropy of a prediction with a hard or soft target, over the pixels that count.

    -sum_i w_i sum_c t_ic log p_ic / sum_i w_i over all pixels i of the batch, p = softmax(prediction). PyTorch's own
    has no weight a pixel.
    """

    def forward(self, prediction: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Compare prediction and target, in float32 also under autocast.

        Args:
            prediction: logits (B, C, H, W), C >= 2.
            target: class indices (B, 1, H, W) where ``IGNORE`` counts nothing, or class probabilities (B, C, H, W).
            weight: how much each pixel counts, (B, 1, H, W), 0 or more; ``None`` counts all alike.

        Returns:
            The mean over counted pixels, in nats, a tensor without dimensions, 0 or more (for a soft target never
            below its entropy); 0 where no pixel counts.

        Raises:
            ValueError: where shapes do not fit.
        """
        counted = counts(prediction, target, weight)
        logits = prediction.float()
        if is_hard(target):
            each = functional.cross_entropy(logits, target[:, 0].long(), ignore_index=IGNORE, reduction="none")
        else:
            each = functional.cross_entropy(logits, target.float(), reduction="none")
        return mean_over(each[:, None], counted)
