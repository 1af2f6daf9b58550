"""Loss of topological consistency: the components of a prediction, held to those of a teacher."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from bundle.losses.persistence import Components, Indices, components_of
from bundle.losses.pixel_weights import as_probabilities, counts


class TopologicalConsistency(nn.Module):
    """Noise-aware topological consistency of TopoSemiSeg (Xu et al. 2024, arXiv 2311.16447), for components.

    f is the probability of foreground, 1 - p(background) for any number of classes. A component of {f >= level} is
    born at its peak b and dies at the saddle d where it joins an older one; the oldest of a patch dies at level 0.
    Its persistence is f(b) - f(d): above ``signal`` it is signal, else noise. In each patch the signal points
    (f(b), f(d)) of student s and teacher t are matched so that the Wasserstein-2 distance of the two diagrams is
    least; a point may also be matched with the diagonal. Then

        loss = 1/B [ sum_matched (f_s(b) - f_t(b'))^2 + noise_weight sum_others (f_s(b) - f_s(d))^2 ]

    over all patches of a batch of B images; others are the student's noise and what no point of the teacher is
    matched with. Which pixels these are is found on the CPU and has no gradient; f_s at these pixels has. The first
    sum is 0 where student and teacher are equal; the second is 0 where the student has no noise.

    Differs from the paper: births alone are pulled to those of the teacher, deaths are not. Of its code: there a
    birth is held to 1 - f of the teacher, so that equal maps have a loss; the distance is of order 1, of the larger
    coordinate. Noise has the same gradient as there.

    Args:
        patch_size: side of a patch, in px. Those at the right and lower edge may be smaller.
        signal: persistence above which a component is signal, in [0, 1].
        noise_weight: weight of the second sum; with 0, student and teacher are matched and no more.
    """

    def __init__(self, patch_size: int = 128, signal: float = 0.7, noise_weight: float = 1.0) -> None:
        super().__init__()
        if patch_size < 1:
            raise ValueError(f"a patch has a side of 1 px or more, got {patch_size}")
        self.patch_size = patch_size
        self.signal = signal
        self.noise_weight = noise_weight

    def forward(self, prediction: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Compare the components of prediction and target, in float32 also under autocast.

        Args:
            prediction: logits (B, C, H, W), C >= 2, of the student.
            target: class probabilities (B, C, H, W) of the teacher; or class indices (B, 1, H, W), where a component
                counts nothing whose peak lies on ``IGNORE``.
            weight: how much a component counts, read at its peak, (B, 1, H, W), 0 or more; ``None`` counts all alike.

        Returns:
            The sum over components, for an image, a tensor without dimensions, 0 or more.

        Raises:
            ValueError: where shapes do not fit.
        """
        counted = counts(prediction, target, weight)
        student = prediction.float().softmax(dim=1)[:, 1:].sum(dim=1)
        teacher = as_probabilities(target, prediction.shape[1])[:, 1:].sum(dim=1).detach()
        held, to, matched = self._pairs(torch.cat([student.detach(), teacher.detach()]).cpu().numpy())
        places = torch.from_numpy(np.stack([held, to])).to(student.device)

        values = torch.cat([student.flatten(), teacher.flatten(), student.new_zeros(1)])  # at the end: level 0
        squared = (values[places[0]] - values[places[1]]).square() * counted.flatten()[places[0]]
        return (squared[:matched].sum() + self.noise_weight * squared[matched:].sum()) / len(student)

    def _pairs(self, maps: NDArray[np.float32]) -> tuple[Indices, Indices, int]:
        """Which pixels of the student are held to which pixels of both.

        Args:
            maps: probabilities (2 B, H, W), first those of the student, then those of the teacher.

        Returns:
            Indices into the flattened maps: of the student's peaks, and of the pixels whose value each is held to
            (``NEVER``: level 0); and how many pairs, from the first, are matched with the teacher.
        """
        images = len(maps) // 2
        student = components_of(maps[:images], self.patch_size)
        teacher = components_of(maps[images:], self.patch_size)
        own, others = self._matching(student, teacher)
        rest = np.setdiff1d(np.arange(len(student.peak)), own)
        held = student.peak[np.concatenate([own, rest])]
        to = np.concatenate([teacher.peak[others] + maps[:images].size, student.saddle[rest]])
        return held, to, len(own)

    def _matching(self, student: Components, teacher: Components) -> tuple[Indices, Indices]:
        """Signal of the student and the signal of the teacher that it is matched with, as entries of each."""
        signal = np.flatnonzero(student.persistence > self.signal)
        wanted = np.flatnonzero(teacher.persistence > self.signal)
        own: list[Indices] = [np.empty(0, np.int64)]
        others: list[Indices] = [np.empty(0, np.int64)]
        for patch in np.intersect1d(student.patch[signal], teacher.patch[wanted]):
            mine = signal[student.patch[signal] == patch]
            theirs = wanted[teacher.patch[wanted] == patch]
            # how much nearer a pair is to each other than to the diagonal, squared; a pair that is not, is none
            gain = (student.persistence[mine, None] ** 2 + teacher.persistence[theirs] ** 2) / 2.0
            gain -= (student.birth[mine, None] - teacher.birth[theirs]) ** 2
            gain -= (student.death[mine, None] - teacher.death[theirs]) ** 2
            rows, columns = linear_sum_assignment(gain.clip(min=0.0), maximize=True)
            gains = gain[rows, columns] > 0.0
            own.append(mine[rows[gains]])
            others.append(theirs[columns[gains]])
        return np.concatenate(own), np.concatenate(others)
