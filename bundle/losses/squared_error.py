"""Squared error between class probabilities, the consistency loss of Mean Teacher."""

from __future__ import annotations

from torch import Tensor, nn

from bundle.losses.pixel_weights import as_probabilities, pixel_weights, weighted_mean


class SoftmaxSquaredError(nn.Module):
    """Mean squared error between softmax of a prediction and a target (Tarvainen, Valpola 2017, arXiv 1703.01780).

    sum_i w_i (1/C) sum_c (p_ic - t_ic)^2 / sum_i w_i over all pixels i of the batch, p = softmax(prediction).
    """

    def forward(self, prediction: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Compute the loss, in float32 also under autocast.

        Args:
            prediction: logits (B, C, H, W), C >= 2.
            target: class probabilities (B, C, H, W), or class indices (B, 1, H, W) where ``IGNORE`` is ignored.
            weight: pixel weights (B, 1, H, W), 0 or more; ``None`` weights all pixels equally.

        Returns:
            The mean over classes and weighted mean over pixels, a 0-d tensor, in [0, 2 / C]; 0 if all weights are 0.

        Raises:
            ValueError: if the shapes do not match.
        """
        weights = pixel_weights(prediction, target, weight)
        squared = (prediction.float().softmax(dim=1) - as_probabilities(target, prediction.shape[1])) ** 2
        return weighted_mean(squared.mean(dim=1, keepdim=True), weights)
