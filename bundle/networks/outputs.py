"""Base class of networks with named heads, whose ``forward`` returns one output or, for exports, all heads."""

from __future__ import annotations

from torch import Tensor, nn

from bundle.networks.encoders import Encoder
from bundle.types import PRED, SEG, Heads

ALL = "all"


class NamedOutputs(nn.Module):
    """Base class of networks with named heads.

    With ``outputs="all"``, ``forward`` returns a dictionary. This is only for exports: TorchScript keeps it, and an
    ONNX file gets one output per name. ``pred``, the main output, is first and replaces its head; the other
    heads follow in the order of ``heads``. State dicts do not change.

    Training, evaluation and inference call ``heads``, or expect one tensor from ``forward``.

    Args:
        outputs: ``pred`` or ``all``.
        main_head: name of the head that ``forward`` returns.

    Raises:
        ValueError: if ``outputs`` is unknown.
    """

    __constants__ = ("outputs", "main_head")  # otherwise TorchScript shares one compiled `forward` in a class

    def __init__(self, outputs: str = PRED, main_head: str = SEG) -> None:
        super().__init__()
        if outputs not in (PRED, ALL):
            raise ValueError(f"outputs is {outputs!r}; choose {PRED} (the main output) or {ALL} (all heads by name)")
        self.outputs = outputs
        self.main_head = main_head
        if outputs == ALL:  # with a branch in `forward`, TorchScript would not know the type that it returns
            self.forward = self.all_outputs

    def heads(self, image: Tensor) -> Heads:
        """Return all heads for an image (B, in_channels, H, W)."""
        raise NotImplementedError

    def encoder_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of encoders that can be pretrained, whether or not they are."""
        encoders = [part for part in self.modules() if isinstance(part, Encoder) and part.pretrainable]
        return [parameter for encoder in encoders for parameter in encoder.parameters()]

    def other_parameters(self) -> list[nn.Parameter]:
        """Return all other parameters, which always start from random values."""
        encoder = {id(parameter) for parameter in self.encoder_parameters()}
        return [parameter for parameter in self.parameters() if id(parameter) not in encoder]

    def all_outputs(self, image: Tensor) -> Heads:
        """Return ``pred``, then all other heads, for an image (B, in_channels, H, W)."""
        heads = self.heads(image)
        named = {"pred": heads[self.main_head]}  # the value of PRED: TorchScript cannot read module constants
        for name, head in heads.items():
            if name != self.main_head:
                named[name] = head
        return named
