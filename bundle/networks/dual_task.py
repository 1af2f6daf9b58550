"""U-Net with a signed-distance head, an assistant head and pixel embeddings beside the segmentation (DCCL-Seg)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from bundle.networks.encoders import initialize_convolutions
from bundle.networks.unet import UNet
from bundle.types import Heads


class DualTaskUNet(UNet):
    """U-Net with four heads on its last features: ``seg``, ``sdf``, ``assistant`` and ``embedding``.

    DCCL-Seg (Yu et al. 2025, doi 10.1109/JBHI.2025.3546698) predicts segmentation and signed distance. A second
    segmentation head, the assistant, learns the pseudo-labels, so that their errors do not reach the weights of
    ``seg``. Embeddings are for a contrastive loss. ``seg`` is the output; the other heads are used only in training.

    Differs from the paper: its abstract does not describe the heads; here each is a 1x1 convolution.

    Args:
        in_channels: channels of the image.
        out_channels: number of classes, including the background.
        embedding_channels: channels of an embedding, at least 2.
        **rest: as for :class:`UNet`.
    """

    def __init__(
        self, in_channels: int = 3, out_channels: int = 2, *, embedding_channels: int = 16, **rest: Any
    ) -> None:
        super().__init__(in_channels, out_channels, **rest)
        channels = {"sdf": 1, "assistant": out_channels, "embedding": embedding_channels}
        self.extra_heads = nn.ModuleDict(
            {name: nn.Conv2d(self.head.in_channels, count, kernel_size=1) for name, count in channels.items()}
        )
        initialize_convolutions(self.extra_heads)

    @torch.jit.export
    def heads(self, image: Tensor) -> Heads:
        """Return ``seg`` and ``assistant`` (B, out_channels, H, W), ``sdf`` (B, 1, H, W) before tanh, ``embedding``."""
        features = self.decoder(self.encoder(image))
        outputs: dict[str, Tensor] = {"seg": self.decoder.full_size(self.head(features), image)}
        for name, head in self.extra_heads.items():
            outputs[name] = self.decoder.full_size(head(features), image)
        return outputs
