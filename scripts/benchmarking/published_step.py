"""The training step of Semi-MoE in the order of the published code, written plainly, to compare speeds with."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from monai.losses import DiceLoss
from torch import Tensor, nn

from bundle.networks import UNet
from bundle.networks.gate import Gate
from bundle.networks.unet import UpsampledConvolution
from bundle.types import BOUNDARY, EXPERTS, IMAGE, SDF, SEG, Batch

CHANNELS = {SEG: 2, SDF: 1, BOUNDARY: 2}
FACTORS = {SEG: 1.0, SDF: 0.5, BOUNDARY: 1.0}
GAMMA = 0.4
UNLABELED_WEIGHT = 0.5


class PublishedStep(nn.Module):
    """Three separate U-Nets with gates, a pass and a backward for each stream, and an optimizer for each expert.

    The unlabeled images come first, and the fused maps have gradient there too, although no loss uses it. Everything is
    float32 in the default memory format. The cache of a GPU is emptied after each pass. Features are upsampled before
    they are convolved, as the networks define it.

    Args:
        widths: channels of the five levels of each U-Net.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.experts = nn.ModuleDict({name: UNet(3, CHANNELS[name], widths) for name in EXPERTS})
        self.gates = nn.ModuleDict({name: Gate(3 * widths[0], 3, "as_released") for name in EXPERTS})
        self.fused_heads = nn.ModuleDict({name: nn.Conv2d(widths[0], CHANNELS[name], 1) for name in EXPERTS})
        self.task_weights = nn.Parameter(torch.ones(len(EXPERTS)))
        self.seg_loss = DiceLoss(softmax=True, to_onehot_y=True, squared_pred=True, smooth_nr=1.0, smooth_dr=1.0)
        self.boundary_loss = DiceLoss(softmax=True, to_onehot_y=True, smooth_nr=1e-8, smooth_dr=1e-8)
        self.optimizers: list[torch.optim.Optimizer] = []
        for part in self.modules():
            if isinstance(part, UpsampledConvolution):
                part.transposed = False

    def make_optimizers(self) -> None:
        """Create the optimizers; call it after the network has been moved to its device."""
        groups = [list(expert.parameters()) for expert in self.experts.values()]
        groups.append([*self.gates.parameters(), *self.fused_heads.parameters()])
        self.optimizers = [torch.optim.SGD(group, lr=0.01, momentum=0.9, weight_decay=5e-5) for group in groups]
        self.optimizers.append(torch.optim.Adam([self.task_weights], lr=0.05, weight_decay=5e-5))

    def run(self, labeled: Batch, unlabeled: Batch, done: Callable[[str], None]) -> float:
        """Make one training step and return its loss.

        Args:
            labeled: batch with ``image``, and the targets ``label``, ``sdf`` and ``boundary``.
            unlabeled: batch with ``image``.
            done: called with ``forward``, ``backward`` or ``optimizer`` after each part.
        """
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        outputs, fused = self._outputs(unlabeled[IMAGE])
        pseudo_labels = {
            SEG: fused[SEG].argmax(dim=1, keepdim=True),
            SDF: fused[SDF].detach().tanh(),
            BOUNDARY: fused[BOUNDARY].argmax(dim=1, keepdim=True),
        }
        unlabeled_loss = UNLABELED_WEIGHT * self._objective([self._losses(outputs, pseudo_labels)])
        done("forward")
        self._backward(unlabeled_loss)
        done("backward")
        outputs, fused = self._outputs(labeled[IMAGE])
        targets = {SEG: labeled["label"], SDF: labeled["sdf"], BOUNDARY: labeled["boundary"]}
        labeled_loss = self._objective([self._losses(outputs, targets), self._losses(fused, targets)])
        done("forward")
        self._backward(labeled_loss)
        done("backward")
        for optimizer in self.optimizers:
            optimizer.step()
        done("optimizer")
        return unlabeled_loss.item() + labeled_loss.item()

    def _outputs(self, image: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the outputs of the experts and of the gated tasks."""
        features, outputs = {}, {}
        for name, expert in self.experts.items():
            features[name] = expert.decoder(expert.encoder(image))  # type: ignore[operator]
            outputs[name] = expert.head(features[name])  # type: ignore[operator]
        stacked = torch.stack(list(features.values()), dim=1)
        pooled = stacked.mean(dim=[3, 4]).flatten(1)
        fused = {}
        for name, gate in self.gates.items():
            weights = gate(pooled)[:, :, None, None, None]
            fused[name] = self.fused_heads[name]((weights * stacked).sum(dim=1))
        return outputs, fused

    def _losses(self, outputs: dict[str, Tensor], targets: dict[str, Tensor]) -> Tensor:
        """Return the losses of the three tasks."""
        sdf = nn.functional.mse_loss(outputs[SDF].tanh(), targets[SDF])
        seg = self.seg_loss(outputs[SEG], targets[SEG])
        return torch.stack([seg, sdf, self.boundary_loss(outputs[BOUNDARY], targets[BOUNDARY])])

    def _objective(self, losses: list[Tensor]) -> Tensor:
        """Return sum_j exp(-s_j) c_j l_j + gamma sum_j exp(s_j)."""
        factors = losses[0].new_tensor([FACTORS[name] for name in EXPERTS])
        total = torch.stack(losses).sum(dim=0)
        return ((-self.task_weights).exp() * factors * total).sum() + GAMMA * self.task_weights.exp().sum()

    @staticmethod
    def _backward(loss: Tensor) -> None:
        loss.backward()
        if loss.is_cuda:
            torch.cuda.empty_cache()
