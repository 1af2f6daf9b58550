"""Dice loss with pixel weights."""

from __future__ import annotations

from monai.losses import DiceLoss
from torch import Tensor, nn

from bundle.losses.pixel_weights import as_probabilities, pixel_weights


class Dice(nn.Module):
    """MONAI's Dice loss with softmax, a hard or soft target and pixel weights.

    1 - (2 sum_i w_i p_i t_i + s) / (sum_i w_i p_i^2 + sum_i w_i t_i^2 + s), mean over classes and images. This is the
    Dice loss of p sqrt(w) and t sqrt(w). With ``squared=False`` the denominator is sum w p + sum w t, and 2 p t becomes
    p + t - |p - t|, which is the same for a hard target. In both cases the loss is 0 if p equals a soft t.
    MONAI's ``MaskedDiceLoss`` is for one channel: with softmax, a masked pixel counts as missed background.

    Args:
        squared: whether the denominator has squares, as ``squared_pred`` of MONAI.
        smooth: s, above 0; it makes the loss 0 if all weights are 0.
        batch: whether to sum over the whole batch instead of each image. Otherwise an image whose weights are all 0 has
            the loss 0, which is part of the mean over images.
        include_background: whether to include class 0.

    Raises:
        ValueError: if ``smooth`` is 0 or less.
    """

    def __init__(
        self, squared: bool = True, smooth: float = 1.0, batch: bool = False, include_background: bool = True
    ) -> None:
        super().__init__()
        if smooth <= 0.0:
            raise ValueError(f"smooth must be above 0, because the loss of no pixel would be 0 / 0; got {smooth}")
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
        """Compute the loss, in float32 also under autocast.

        Args:
            prediction: logits (B, C, H, W), C >= 2.
            target: class indices (B, 1, H, W) where ``IGNORE`` is ignored, or class probabilities (B, C, H, W).
            weight: pixel weights (B, 1, H, W), 0 or more; ``None`` weights all pixels equally.

        Returns:
            The mean over classes and images, a 0-d tensor, in [0, 1]; 0 if all weights are 0.

        Raises:
            ValueError: if the shapes do not match.
        """
        weights = pixel_weights(prediction, target, weight)
        scale = weights.sqrt() if self.squared else weights
        probabilities = prediction.float().softmax(dim=1)
        return self.dice(probabilities * scale, as_probabilities(target, prediction.shape[1]) * scale)
