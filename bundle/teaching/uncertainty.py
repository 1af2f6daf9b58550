"""A teacher that knows where it is unsure."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from bundle.types import IMAGE, Batch, HeadNetwork, Heads, PseudoLabel, Ramp, View


class UncertaintyLabeler(nn.Module):
    """A teacher looks at noisy copies of an image; its mean is the label, and counts where its entropy is low.

    Uncertainty-aware Mean Teacher (Yu et al. 2019, arXiv 1907.07034): p = 1/T sum_t softmax(teacher(noise_t(image))),
    a pixel's weight is 1 where -sum_c p_c log p_c < threshold(progress) ln C, else 0.

    Differs from the paper: the mean is also the target, where there it is one more pass; the passes differ by the
    noise on the image alone, not by dropout too.

    Args:
        teacher: a network with named heads, for instance a moving average of the student. It is held by reference,
            stays in evaluation mode and gets no gradient.
        sources: taught head -> head of the teacher, logits (B, C, H, W), that writes its label, always soft.
        view: what makes the copies; it changes colours and never places, and draws anew at each call.
        threshold: ramp of the largest entropy that counts, as a share of that of a uniform answer, ln C.
        passes: T, the number of copies. They go through the teacher one after the other, so that it needs no more
            memory than for one.

    Raises:
        ValueError: for less than one pass.
    """

    needs_heads = False

    def __init__(
        self, teacher: HeadNetwork, sources: Mapping[str, str], view: View, threshold: Ramp, passes: int = 8
    ) -> None:
        super().__init__()
        if passes < 1:
            raise ValueError(f"the mean of a teacher's answers is that of one pass or more, got {passes}")
        # in a tuple, so that the teacher is no part of the step: neither DDP nor the student's train() may touch it
        self._teacher = (teacher,)
        self.sources = dict(sources)
        self.view = view
        self.threshold = threshold
        self.passes = passes

    @torch.no_grad()
    def forward(self, batch: Batch, heads: Heads, progress: float) -> dict[str, PseudoLabel]:
        """Ask the teacher ``passes`` times about ``batch``; the student's heads are not read."""
        means = self._means(batch)
        threshold = self.threshold(progress)
        return {taught: certain(means[source], threshold) for taught, source in self.sources.items()}

    def _means(self, batch: Batch) -> Heads:
        """Mean probabilities (B, C, H, W), in float32, of each head that is a source."""
        teacher = self._teacher[0]
        if isinstance(teacher, nn.Module):
            teacher.eval()
        means: Heads = {}
        for _ in range(self.passes):
            answers = teacher.heads(self.view(batch).batch[IMAGE])
            for source in set(self.sources.values()):
                share = answers[source].float().softmax(dim=1) / self.passes
                means[source] = means[source].add_(share) if source in means else share
        return means


def certain(probabilities: Tensor, threshold: float) -> PseudoLabel:
    """Probabilities as a soft label that counts where their entropy is low.

    Args:
        probabilities: (B, C, H, W), sums over C are 1.
        threshold: share of ln C, the entropy of a uniform answer, below which a pixel counts.
    """
    entropy = torch.special.entr(probabilities).sum(dim=1, keepdim=True)
    return PseudoLabel(probabilities, (entropy < threshold * math.log(probabilities.shape[1])).float())
