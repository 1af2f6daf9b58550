"""Dice loss with a weight a pixel."""

from __future__ import annotations

from monai.losses import DiceLoss
from torch import Tensor, nn

from bundle.losses.pixel_weights import as_probabilities, counts


class Dice(nn.Module):
    """MONAI's Dice loss of softmax with a hard or soft target, over the pixels that count.

    1 - (2 sum_i w_i p_i t_i + s) / (sum_i w_i p_i^2 + sum_i w_i t_i^2 + s), the mean over classes and images. It is
    Dice of p and t times the square root of w. With ``squared`` off the denominator is sum w p + sum w t, and 2 p t
    becomes p + t - |p - t|, which is the same for a hard target. Either way the loss is 0 where p equals a soft t.
    MONAI's ``MaskedDiceLoss`` is for one channel: with softmax, a masked pixel is background that was missed.

    Args:
        squared: whether the denominator has squares, as ``squared_pred`` of MONAI.
        smooth: s, above 0; what makes the loss 0 where nothing counts.
        batch: whether the sums run over the whole batch, and not image by image. An image without a counted pixel has
            the loss 0, which enters the mean over images.
        include_background: whether class 0 is one of the classes.

    Raises:
        ValueError: for ``smooth`` of 0 or less.
    """

    def __init__(
        self, squared: bool = True, smooth: float = 1.0, batch: bool = False, include_background: bool = True
    ) -> None:
        super().__init__()
        if smooth <= 0.0:
            raise ValueError(f"smooth is above 0, else the loss of no pixel is 0 / 0; got {smooth}")
        self.squared = squared
        self.dice = DiceLoss(
            include_background=include_background,
            squared_pred=squared,
            smooth_nr=smooth,
            smooth_dr=smooth,
            batch=batch,
            soft_label=True,
        )

    def forward(self, prediction: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Compare prediction and target, in float32 also under autocast.

        Args:
            prediction: logits (B, C, H, W), C >= 2.
            target: class indices (B, 1, H, W) where ``IGNORE`` counts nothing, or class probabilities (B, C, H, W).
            weight: how much each pixel counts, (B, 1, H, W), 0 or more; ``None`` counts all alike.

        Returns:
            The mean over classes and images, a tensor without dimensions, in [0, 1]; 0 where no pixel counts.

        Raises:
            ValueError: where shapes do not fit.
        """
        counted = counts(prediction, target, weight)
        scale = counted.sqrt() if self.squared else counted
        probabilities = prediction.float().softmax(dim=1)
        return self.dice(probabilities * scale, as_probabilities(target, prediction.shape[1]) * scale)
