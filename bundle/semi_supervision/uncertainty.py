"""Pseudo-labels of a teacher with an estimate of its uncertainty."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from bundle.types import IMAGE, Batch, HeadNetwork, Heads, PseudoLabel, Ramp, View


class UncertaintyPseudoLabeler(nn.Module):
    """Average a teacher over noisy copies of an image and keep the pixels of low entropy.

    Uncertainty-aware Mean Teacher (Yu et al. 2019, arXiv 1907.07034): p = 1/T sum_t softmax(teacher(noise_t(image))),
    a pixel's weight is 1 where -sum_c p_c log p_c < threshold(progress) ln C, else 0.

    Differs from the paper: the mean is also the target (there the target is one more pass), and the passes differ by
    image noise only (there by dropout too).

    Args:
        teacher: network with named heads, for example a moving average of the student. It is held by reference, stays
            in evaluation mode and gets no gradient.
        sources: student head -> head of the teacher, logits (B, C, H, W). The pseudo-label is soft.
        view: makes the copies. It changes colors, never positions, and is random at each call.
        threshold: ramp of the largest entropy of a pixel that counts, as a share of ln C, the entropy of a uniform
            prediction.
        passes: T, the number of copies. The teacher sees them one after the other, to save memory.

    Raises:
        ValueError: if ``passes`` is less than 1.
    """

    needs_heads = False

    def __init__(
        self, teacher: HeadNetwork, sources: Mapping[str, str], view: View, threshold: Ramp, passes: int = 8
    ) -> None:
        super().__init__()
        if passes < 1:
            raise ValueError(f"passes is the number of teacher passes, 1 or more, got {passes}")
        # A tuple hides the teacher from `nn.Module`: neither DDP nor the student's train() may touch it.
        self._teacher = (teacher,)
        self.sources = dict(sources)
        self.view = view
        self.threshold = threshold
        self.passes = passes

    @torch.no_grad()
    def forward(self, batch: Batch, heads: Heads, progress: float) -> dict[str, PseudoLabel]:
        """Run the teacher ``passes`` times on ``batch``; the student's heads are not used."""
        means = self._means(batch)
        threshold = self.threshold(progress)
        return {head: weight_by_entropy(means[source], threshold) for head, source in self.sources.items()}

    def _means(self, batch: Batch) -> Heads:
        """Return the mean probabilities (B, C, H, W), in float32, of each source head."""
        teacher = self._teacher[0]
        if isinstance(teacher, nn.Module):
            teacher.eval()
        means: Heads = {}
        for _ in range(self.passes):
            outputs = teacher.heads(self.view(batch).batch[IMAGE])
            for source in set(self.sources.values()):
                share = outputs[source].float().softmax(dim=1) / self.passes
                means[source] = means[source].add_(share) if source in means else share
        return means


def weight_by_entropy(probabilities: Tensor, threshold: float) -> PseudoLabel:
    """Make a soft pseudo-label with weight 1 at pixels of low entropy and 0 elsewhere.

    Args:
        probabilities: (B, C, H, W), with sum 1 over C.
        threshold: largest entropy of a pixel that counts, as a share of ln C, the entropy of a uniform prediction.
    """
    entropy = torch.special.entr(probabilities).sum(dim=1, keepdim=True)
    return PseudoLabel(probabilities, (entropy < threshold * math.log(probabilities.shape[1])).float())
