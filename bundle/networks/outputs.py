"""What ``forward`` of a network gives: its answer alone, or, in an export, all of its maps by name."""

from __future__ import annotations

from torch import Tensor, nn

from bundle.networks.encoders import Encoder
from bundle.types import SEG, Heads

PRED = "pred"
"""The answer alone, and its name among all outputs (that of metadata.json)."""
ALL = "all"


class NamedOutputs(nn.Module):
    """A network with named heads, whose ``forward`` an export may ask for all of its maps; what networks here inherit.

    With ``outputs`` ``all`` its ``forward`` gives a dictionary, for the sake of an export alone: TorchScript keeps it,
    and the ONNX file has an output of each name. ``pred`` is first; it is what ``forward`` else gives, and takes the
    place of the head of that name. The other heads follow in the order of ``heads``. State dicts are the same.

    Training, evaluation and inference never ask for it: they call ``heads``, or want one tensor.

    Args:
        outputs: ``pred`` or ``all``.
        answer: name of the head that ``forward`` gives.

    Raises:
        ValueError: for other outputs.
    """

    __constants__ = ("outputs", "answer")  # else TorchScript shares one compiled `forward` among networks of a class

    def __init__(self, outputs: str = PRED, answer: str = SEG) -> None:
        super().__init__()
        if outputs not in (PRED, ALL):
            raise ValueError(f"outputs is {outputs!r}; choose {PRED}, the answer alone, or {ALL}, all maps by name")
        self.outputs = outputs
        self.answer = answer
        if outputs == ALL:  # a branch in `forward` would make TorchScript take both types for that of every answer
            self.forward = self.all_outputs

    def heads(self, image: Tensor) -> Heads:
        """Every map that a method needs, of images (B, in_channels, H, W)."""
        raise NotImplementedError

    def encoder_parameters(self) -> list[nn.Parameter]:
        """Parameters of encoders that can be pretrained, whether they are or not; none of plain encoders."""
        encoders = [part for part in self.modules() if isinstance(part, Encoder) and part.pretrainable]
        return [parameter for encoder in encoders for parameter in encoder.parameters()]

    def other_parameters(self) -> list[nn.Parameter]:
        """All parameters but :meth:`encoder_parameters`: those that always start from random numbers."""
        known = {id(parameter) for parameter in self.encoder_parameters()}
        return [parameter for parameter in self.parameters() if id(parameter) not in known]

    def all_outputs(self, image: Tensor) -> Heads:
        """``pred``, then all heads but the one that it is, of images (B, in_channels, H, W)."""
        heads = self.heads(image)
        named = {"pred": heads[self.answer]}  # TorchScript sees no constants of a module: PRED in full
        for name, head in heads.items():
            if name != self.answer:
                named[name] = head
        return named
