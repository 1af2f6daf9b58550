"""Two networks that give each other pseudo-labels, and padding to any image size."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

from torch import Tensor, nn
from torch.nn import functional

from bundle.networks.encoders import Encoder
from bundle.networks.outputs import ALL, PRED, NamedOutputs
from bundle.networks.unet import UNet
from bundle.types import Heads


class Padded(nn.Module):
    """Wrapper that lets a network for sides of a fixed multiple accept images of any size.

    The image is padded at its right and lower border (replicate), and the output is cropped.

    Args:
        network: takes images (B, in_channels, H, W) and returns logits of the same size.
        multiple: number that must divide the sides, in px.
    """

    def __init__(self, network: nn.Module, multiple: int) -> None:
        super().__init__()
        self.network = network
        self.multiple = multiple

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, C, H, W) for an image (B, in_channels, H, W)."""
        height, width = image.shape[2], image.shape[3]
        missing = [0, -width % self.multiple, 0, -height % self.multiple]
        if sum(missing) > 0:
            image = functional.pad(image, missing, mode="replicate")
        return self.network(image)[:, :, :height, :width]


class Peers(NamedOutputs):
    """A U-Net and a peer network that is used only in training.

    Cross pseudo supervision (Chen et al. 2021, arXiv 2106.01226) if both are U-Nets, which have different random
    weights; cross teaching (Luo et al. 2022, arXiv 2112.04894) if the peer is a transformer.

    Only the U-Net is evaluated: ``forward`` does not run the peer, and TorchScript contains neither the peer nor
    ``heads``, so any module may be the peer. The state dict contains both networks.

    Args:
        in_channels: channels of the image.
        out_channels: number of classes, including the background.
        widths: channels of the five levels of the U-Net.
        dropout: probability of dropout in the U-Nets.
        peer: the second network, answering (B, out_channels, H, W); ``None`` makes another U-Net of that kind.
        outputs: as for :class:`NamedOutputs`; ``all`` is not possible in TorchScript, which does not contain the peer.
        encoder: as for :class:`UNet`; a U-Net peer gets a copy, other peers have their own encoder.
        output_stride: as for :class:`UNet`, of both U-Nets.
    """

    __jit_ignored_attributes__ = ("peer",)

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 2,
        widths: Sequence[int] = (16, 32, 64, 128, 256),
        dropout: float = 0.0,
        peer: nn.Module | None = None,
        outputs: str = PRED,
        encoder: Encoder | None = None,
        output_stride: int = 1,
    ) -> None:
        super().__init__(outputs)
        peer_encoder = deepcopy(encoder)
        self.network = UNet(in_channels, out_channels, widths, dropout, PRED, encoder, output_stride)
        if peer is None:
            peer = UNet(in_channels, out_channels, widths, dropout, PRED, peer_encoder, output_stride)
        self.peer = peer

    def __prepare_scriptable__(self) -> Peers:
        """Return the module that TorchScript compiles.

        Raises:
            ValueError: if the outputs include the peer.
        """
        if self.outputs == ALL:
            raise ValueError(
                f"TorchScript cannot contain the peer of {type(self).__name__}, which may be any module; "
                f"keep network_def#outputs at {PRED}, or export to ONNX"
            )
        return self

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits of the U-Net (B, out_channels, H, W).

        Args:
            image: (B, in_channels, H, W), H and W at least 16 px.
        """
        return self.network(image)

    def heads(self, image: Tensor) -> Heads:
        """Return the logits (B, out_channels, H, W) of ``seg`` (the U-Net, as ``forward``) and ``peer``."""
        return {"seg": self.network(image), "peer": self.peer(image)}
