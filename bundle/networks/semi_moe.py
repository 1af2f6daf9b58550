"""Semi-MoE: three experts for different tasks, and a gate for each task."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bundle.networks.encoders import Encoder, create_encoders, initialize_convolutions
from bundle.networks.gate import GatedTask
from bundle.networks.outputs import PRED, NamedOutputs
from bundle.networks.unet import UNetDecoder
from bundle.types import BOUNDARY, EXPERTS, FUSED, SDF, SEG, Heads


class SemiMoE(NamedOutputs):
    """Mixture of a segmentation, a signed-distance and a boundary expert (Semi-MoE, BMVC 2025).

    Each expert is a U-Net. Each task has a gate that weights the last feature maps of the experts, and a head on the
    weighted sum. ``forward`` returns ``fused_seg``. With widths 64..1024, an expert with a head of two channels has
    34,527,106 parameters (``sdf``, with one channel, 65 less).

    Differs from the paper: encoders are separate by default, as in the authors' code (the paper says "shared").

    Args:
        in_channels: channels of the image.
        out_channels: number of classes, including the background.
        widths: channels of the five levels of each U-Net.
        experts: any of ``seg``, ``sdf`` and ``boundary``, including ``seg``.
        tasks: experts whose task has a gate; all by default.
        shared_encoder: whether all experts share one encoder.
        gate: ``paper``, ``as_released`` or ``equal``.
        gate_dropout: probability of dropout in the gates.
        dropout: probability of dropout in the U-Nets.
        outputs: as for :class:`NamedOutputs`.
        encoder: as for :class:`UNet`; separate encoders are copies of it.
        output_stride: as for :class:`UNet`; gates use the features of that stride.

    Raises:
        ValueError: if an expert is unknown or missing, or a task has no expert.

    Example::

        >>> heads = SemiMoE(widths=(4, 8, 8, 8, 8)).eval().heads(torch.zeros(1, 3, 64, 64))
        >>> [name for name in heads if name.startswith("fused")]
        ['fused_seg', 'fused_sdf', 'fused_boundary']
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 2,
        widths: Sequence[int] = (16, 32, 64, 128, 256),
        experts: Sequence[str] = EXPERTS,
        tasks: Sequence[str] | None = None,
        shared_encoder: bool = False,
        gate: str = "paper",
        gate_dropout: float = 0.1,
        dropout: float = 0.0,
        outputs: str = PRED,
        encoder: Encoder | None = None,
        output_stride: int = 1,
    ) -> None:
        super().__init__(outputs, main_head=FUSED + SEG)
        tasks = experts if tasks is None else tasks
        self._check(experts, tasks)
        channels = {SEG: out_channels, SDF: 1, BOUNDARY: 2}
        encoders = create_encoders(1 if shared_encoder else len(experts), encoder, in_channels, widths, dropout)
        decoders = [UNetDecoder(widths, dropout, encoders[0], output_stride) for _ in experts]
        width = decoders[0].channels
        self.encoders = nn.ModuleList(encoders)
        self.decoders = nn.ModuleList(decoders)
        self.expert_heads = nn.ModuleDict({name: nn.Conv2d(width, channels[name], 1) for name in experts})
        self.tasks = nn.ModuleDict(
            {name: GatedTask(width, len(experts), channels[name], gate, gate_dropout) for name in tasks}
        )
        initialize_convolutions(self)

    @staticmethod
    def _check(experts: Sequence[str], tasks: Sequence[str]) -> None:
        unknown = [name for name in experts if name not in EXPERTS]
        if unknown or SEG not in experts or len(set(experts)) != len(experts):
            raise ValueError(f"experts are {list(experts)}; choose from {list(EXPERTS)}, each once, including {SEG!r}")
        if SEG not in tasks or any(name not in experts for name in tasks):
            raise ValueError(f"tasks are {list(tasks)}; choose from the experts {list(experts)}, including {SEG!r}")

    def _features(self, image: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return the last feature map of each expert, (B, C, H, W), and their means over space, (B, K C)."""
        encoded = [encoder(image) for encoder in self.encoders]
        features: list[Tensor] = []
        for index, decoder in enumerate(self.decoders):
            features.append(decoder(encoded[min(index, len(encoded) - 1)]))
        pooled = torch.cat([feature.mean(dim=[2, 3]) for feature in features], dim=1)
        return features, pooled

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits of the gated segmentation (B, out_channels, H, W).

        Args:
            image: (B, in_channels, H, W), H and W at least 16 px.
        """
        features, pooled = self._features(image)
        return self._full_size(self.tasks["seg"](features, pooled)[0], image)

    @torch.jit.export
    def heads(self, image: Tensor) -> Heads:
        """Return all heads.

        Returns:
            ``seg``, ``sdf``, ``boundary`` (experts) and ``fused_*`` (gated tasks), (B, C, H, W); ``gate_*``, weights
            (B, K) in the order of the experts.
        """
        features, pooled = self._features(image)
        return self._outputs(features, pooled, image)

    def _full_size(self, output: Tensor, image: Tensor) -> Tensor:
        """Resize the output of a head to the size of the image; all decoders are of the same kind."""
        return self.decoders[0].full_size(output, image)  # type: ignore[operator]

    def _outputs(self, features: list[Tensor], pooled: Tensor, image: Tensor) -> Heads:
        """Return the heads, see :meth:`heads`, for the features of the experts."""
        outputs: dict[str, Tensor] = {}
        for index, (name, head) in enumerate(self.expert_heads.items()):
            outputs[name] = self._full_size(head(features[index]), image)
        for name, task in self.tasks.items():
            output, weights = task(features, pooled)
            # the values of FUSED and GATE: TorchScript cannot read module constants
            outputs["fused_" + name] = self._full_size(output, image)
            outputs["gate_" + name] = weights
        return outputs
