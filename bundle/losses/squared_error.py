"""Squared error between class probabilities: the consistency of Mean Teacher and its kin."""

from __future__ import annotations

from torch import Tensor, nn

from bundle.losses.pixel_weights import as_probabilities, counts, mean_over


class SoftmaxSquaredError(nn.Module):
    """Mean squared error between softmax of a prediction and a target (Tarvainen, Valpola 2017, arXiv 1703.01780).

    sum_i w_i (1/C) sum_c (p_ic - t_ic)^2 / sum_i w_i over all pixels i of the batch, p = softmax(prediction).
    """

    def forward(self, prediction: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Compare prediction and target, in float32 also under autocast.

        Args:
            prediction: logits (B, C, H, W), C >= 2.
            target: class probabilities (B, C, H, W), or class indices (B, 1, H, W) where ``IGNORE`` counts nothing.
            weight: how much each pixel counts, (B, 1, H, W), 0 or more; ``None`` counts all alike.

        Returns:
            The mean over classes and counted pixels, a tensor without dimensions, in [0, 2 / C]; 0 where no pixel
            counts.

        Raises:
            ValueError: where shapes do not fit.
        """
        counted = counts(prediction, target, weight)
        squared = (prediction.float().softmax(dim=1) - as_probabilities(target, prediction.shape[1])) ** 2
        return mean_over(squared.mean(dim=1, keepdim=True), counted)
