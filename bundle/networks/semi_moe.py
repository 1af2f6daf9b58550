"""Semi-MoE: three unlike experts and a gate for each task."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bundle.networks.encoders import Encoder, encoders_for, kaiming_initialized
from bundle.networks.gate import GatedTask
from bundle.networks.outputs import PRED, NamedOutputs
from bundle.networks.unet import UNetDecoder
from bundle.types import BOUNDARY, EXPERTS, FUSED, SDF, SEG, Heads


class SemiMoE(NamedOutputs):
    """Mixture of a segmentation, a signed-distance and a boundary expert (Semi-MoE, BMVC 2025).

    Each expert is a U-Net; each task has a gate that weighs the experts' last feature maps, and a head on the
    weighted sum. ``forward`` answers with ``fused_seg``. With widths 64..1024 an expert with a head of two
    channels has 34,527,106 parameters (``sdf``, with one, 65 less).

    Differs from the paper: encoders are separate unless asked, as in the code of its authors (the paper says
    "shared"); gates as in the paper unless asked.

    Args:
        in_channels: channels of the image.
        out_channels: number of classes, background counted.
        widths: channels of the five levels of each U-Net.
        experts: any of ``seg``, ``sdf``, ``boundary``, ``seg`` among them.
        tasks: experts whose task has a gate; default all of them.
        shared_encoder: one encoder for all experts.
        gate: ``paper``, ``as_released`` or ``equal``.
        gate_dropout: probability of dropout in the gates.
        dropout: probability of dropout in the U-Nets.
        outputs: as for :class:`NamedOutputs`.
        encoder: as for :class:`UNet`; separate ones are copies of it.
        output_stride: as for :class:`UNet`; gates see the features of that stride.

    Raises:
        ValueError: for an unknown or missing expert, or a task without expert.
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
        super().__init__(outputs, answer=FUSED + SEG)
        tasks = experts if tasks is None else tasks
        self._check(experts, tasks)
        channels = {SEG: out_channels, SDF: 1, BOUNDARY: 2}
        encoders = encoders_for(1 if shared_encoder else len(experts), encoder, in_channels, widths, dropout)
        decoders = [UNetDecoder(widths, dropout, encoders[0], output_stride) for _ in experts]
        width = decoders[0].channels
        self.encoders = nn.ModuleList(encoders)
        self.decoders = nn.ModuleList(decoders)
        self.expert_heads = nn.ModuleDict({name: nn.Conv2d(width, channels[name], 1) for name in experts})
        self.tasks = nn.ModuleDict(
            {name: GatedTask(width, len(experts), channels[name], gate, gate_dropout) for name in tasks}
        )
        kaiming_initialized(self)

    @staticmethod
    def _check(experts: Sequence[str], tasks: Sequence[str]) -> None:
        unknown = [name for name in experts if name not in EXPERTS]
        if unknown or SEG not in experts or len(set(experts)) != len(experts):
            raise ValueError(f"experts are {list(experts)}; choose from {list(EXPERTS)}, each once, {SEG!r} among them")
        if SEG not in tasks or any(name not in experts for name in tasks):
            raise ValueError(f"tasks are {list(tasks)}; choose from the experts {list(experts)}, {SEG!r} among them")

    def _features(self, image: Tensor) -> tuple[list[Tensor], Tensor]:
        """Last feature map of each expert, (B, C, H, W) each, and their averages over space side by side, (B, K C)."""
        encoded = [encoder(image) for encoder in self.encoders]
        features: list[Tensor] = []
        for index, decoder in enumerate(self.decoders):
            features.append(decoder(encoded[min(index, len(encoded) - 1)]))
        pooled = torch.cat([feature.mean(dim=[2, 3]) for feature in features], dim=1)
        return features, pooled

    def forward(self, image: Tensor) -> Tensor:
        """Logits of the gated segmentation (B, out_channels, H, W) of images (B, in_channels, H, W), sides >= 16 px."""
        features, pooled = self._features(image)
        return self._full_size(self.tasks["seg"](features, pooled)[0], image)

    @torch.jit.export
    def heads(self, image: Tensor) -> Heads:
        """Every map by name.

        Returns:
            ``seg``, ``sdf``, ``boundary`` (the experts), ``fused_*`` (the gated tasks), (B, C, H, W) each, and
            ``gate_*``, the weights (B, K), in the order of the experts.
        """
        features, pooled = self._features(image)
        return self._answers(features, pooled, image)

    def _full_size(self, answer: Tensor, image: Tensor) -> Tensor:
        """A head's answer at the size of the image; all decoders are of one kind."""
        return self.decoders[0].full_size(answer, image)  # type: ignore[operator]

    def _answers(self, features: list[Tensor], pooled: Tensor, image: Tensor) -> Heads:
        """What experts and gates make of the experts' features, as :meth:`heads` gives it."""
        answers: dict[str, Tensor] = {}
        for index, (name, head) in enumerate(self.expert_heads.items()):
            answers[name] = self._full_size(head(features[index]), image)
        for name, task in self.tasks.items():
            answer, weights = task(features, pooled)
            # TorchScript sees no constants of a module: FUSED and GATE in full
            answers["fused_" + name] = self._full_size(answer, image)
            answers["gate_" + name] = weights
        return answers
