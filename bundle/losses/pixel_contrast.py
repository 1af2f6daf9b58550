"""Contrastive loss on the embeddings of pixels."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from bundle.losses.pixel_weights import is_hard, pixel_weights


class PixelContrast(nn.Module):
    """Contrast of each pixel's embedding with the mean embeddings of the classes (InfoNCE, arXiv 1807.03748).

    With z_i the embedding of pixel i at length 1, y_i its class, w_i its weight, and m_c the mean of w_i z_i over the
    pixels of class c, at length 1:

        l_i = -log(exp(z_i . m_y_i / t) / sum_c exp(z_i . m_c / t))
        loss = mean over the classes c of (sum over y_i = c of w_i l_i) / (sum over y_i = c of w_i)

    Only classes with a weight above 0 in the batch count. All of them count equally, however large they are. Means
    instead of pairs of pixels need no sampling, and their memory is proportional to the number of pixels.

    Args:
        temperature: t, above 0; a smaller one weights the hard pixels more.

    Raises:
        ValueError: if ``temperature`` is not above 0.
    """

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__()
        if temperature <= 0.0:
            raise ValueError(f"the temperature of a contrastive loss must be above 0, got {temperature}")
        self.temperature = temperature

    def forward(self, prediction: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Compute the loss, in float32 also under autocast.

        Args:
            prediction: embeddings (B, D, H, W) of any length, D >= 2.
            target: class indices (B, 1, H, W) of an integer type, where ``IGNORE`` is ignored.
            weight: pixel weights (B, 1, H, W), 0 or more; ``None`` weights all pixels equally.

        Returns:
            A 0-d tensor, 0 or more; 0, with gradient 0, if fewer than two classes have a weight above 0.

        Raises:
            ValueError: if the shapes do not match, or the target holds no class indices.
        """
        if not is_hard(target):
            raise ValueError(f"the target of a contrastive loss is (B, 1, H, W), got {tuple(target.shape)}")
        weights = pixel_weights(prediction, target, weight)
        classes = target[weights > 0].unique()
        if len(classes) < 2:
            return prediction.float().sum() * 0.0
        embeddings = functional.normalize(prediction.float(), dim=1)
        members = (target == classes.view(1, -1, 1, 1)).float() * weights
        # b image, k class, d channel, h row, w column
        means = functional.normalize(torch.einsum("bkhw,bdhw->kd", members, embeddings), dim=1)
        similarity = torch.einsum("bdhw,kd->bkhw", embeddings, means) / self.temperature
        losses = -(members * similarity.log_softmax(dim=1)).sum(dim=[0, 2, 3])
        return (losses / members.sum(dim=[0, 2, 3])).mean()
