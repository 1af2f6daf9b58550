"""Two networks side by side, each of which writes labels for the other."""

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
    """A network that asks for sides divisible by a number, made to take images of any size.

    The image is continued at its right and lower border with the values there, and the answer is cut back.

    Args:
        network: takes images (B, in_channels, H, W) and answers at their size.
        multiple: what the sides must divide by, px.
    """

    def __init__(self, network: nn.Module, multiple: int) -> None:
        super().__init__()
        self.network = network
        self.multiple = multiple

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, C, H, W) of images (B, in_channels, H, W)."""
        height, width = image.shape[2], image.shape[3]
        missing = [0, -width % self.multiple, 0, -height % self.multiple]
        if sum(missing) > 0:
            image = functional.pad(image, missing, mode="replicate")
        return self.network(image)[:, :, :height, :width]


class Peers(NamedOutputs):
    """Two networks that see the same image: a U-Net, which answers, and its peer, which is there for training alone.

    They teach each other: cross pseudo supervision (Chen et al. 2021, arXiv 2106.01226) where both are U-Nets, drawn
    one after the other from the same random numbers, so never alike; cross teaching (Luo et al. 2022,
    arXiv 2112.04894) where the peer is a transformer.

    The U-Net alone is evaluated: ``forward`` does not ask the peer, and a TorchScript of this network does not hold
    it, nor ``heads``, so any module may be a peer. A state dict holds both.

    Args:
        in_channels: channels of the image.
        out_channels: number of classes, background counted.
        widths: channels of the five levels of the U-Net.
        dropout: probability of dropout in the U-Nets.
        peer: the second network, answering (B, out_channels, H, W); ``None`` makes another U-Net of that kind.
        outputs: as for :class:`NamedOutputs`; TorchScript, which does not hold the peer, refuses ``all``.
        encoder: as for :class:`UNet`; a peer that is a U-Net has a copy, another peer keeps an encoder of its own.
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
        other = deepcopy(encoder)
        self.network = UNet(in_channels, out_channels, widths, dropout, PRED, encoder, output_stride)
        if peer is None:
            peer = UNet(in_channels, out_channels, widths, dropout, PRED, other, output_stride)
        self.peer = peer

    def __prepare_scriptable__(self) -> Peers:
        """What TorchScript is made of.

        Raises:
            ValueError: where it would have to hold the peer.
        """
        if self.outputs == ALL:
            raise ValueError(
                f"TorchScript cannot hold the peer of {type(self).__name__}, which may be of any kind; "
                f"leave network_def#outputs at {PRED}, or export to ONNX"
            )
        return self

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, out_channels, H, W) of the U-Net for images (B, in_channels, H, W), sides of at least 16 px."""
        return self.network(image)

    def heads(self, image: Tensor) -> Heads:
        """Both answers: ``seg`` (the U-Net, as in ``forward``) and ``peer``, logits (B, out_channels, H, W) each."""
        return {"seg": self.network(image), "peer": self.peer(image)}
