"""Topological consistency loss: match the components of a prediction with those of a teacher."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from bundle.losses.persistent_homology import Components, Indices, components_of
from bundle.losses.pixel_weights import as_probabilities, pixel_weights


class TopologicalConsistency(nn.Module):
    """Noise-aware topological consistency of TopoSemiSeg (Xu et al. 2024, arXiv 2311.16447), for components.

    f is the probability of foreground, 1 - p(background) for any number of classes. A component of {f >= level} is
    born at its peak b and dies at the saddle d where it merges with an older one; the oldest of a patch dies at level
    0. Its persistence is f(b) - f(d): above ``signal`` it is signal, otherwise noise. In each patch the signal points
    (f(b), f(d)) of student s and teacher t are matched with the smallest Wasserstein-2 distance of the two diagrams; a
    point may also be matched with the diagonal. Then

        loss = 1/B [ sum_matched (f_s(b) - f_t(b'))^2 + noise_weight sum_others (f_s(b) - f_s(d))^2 ]

    over all patches of a batch of B images; others are the student's noise and its unmatched signal. The pixels b and d
    are found on the CPU, without gradient; f_s at these pixels has a gradient. The first sum is 0 if student and
    teacher are equal; the second is 0 if the student has no noise.

    Differs from the paper: only births, not deaths, are matched with the teacher. Differs from the authors' code: there
    a birth is compared with 1 - f of the teacher, so equal maps have a loss, and the distance is of order 1 with the
    maximum norm. Noise has the same gradient in both.

    Args:
        patch_size: side of a patch, in px; patches at the right and lower edge may be smaller.
        signal: persistence above which a component is signal, in [0, 1].
        noise_weight: weight of the second sum; 0 uses only the matching.
    """

    def __init__(self, patch_size: int = 128, signal: float = 0.7, noise_weight: float = 1.0) -> None:
        super().__init__()
        if patch_size < 1:
            raise ValueError(f"patch_size must be at least 1 px, got {patch_size}")
        self.patch_size = patch_size
        self.signal = signal
        self.noise_weight = noise_weight

    def forward(self, prediction: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Compute the loss, in float32 also under autocast.

        Args:
            prediction: logits (B, C, H, W), C >= 2, of the student.
            target: class probabilities (B, C, H, W) of the teacher, or class indices (B, 1, H, W). Components with
                their peak on ``IGNORE`` are ignored.
            weight: weight of a component at its peak, (B, 1, H, W), 0 or more; ``None`` weights all equally.

        Returns:
            The sum over components, mean over images, a 0-d tensor, 0 or more.

        Raises:
            ValueError: if the shapes do not match.
        """
        weights = pixel_weights(prediction, target, weight)
        student = prediction.float().softmax(dim=1)[:, 1:].sum(dim=1)
        teacher = as_probabilities(target, prediction.shape[1])[:, 1:].sum(dim=1).detach()
        peaks, goals, matched = self._pairs(torch.cat([student.detach(), teacher.detach()]).cpu().numpy())
        pixels = torch.from_numpy(np.stack([peaks, goals])).to(student.device)

        values = torch.cat([student.flatten(), teacher.flatten(), student.new_zeros(1)])  # the last is level 0: NEVER
        squared = (values[pixels[0]] - values[pixels[1]]).square() * weights.flatten()[pixels[0]]
        return (squared[:matched].sum() + self.noise_weight * squared[matched:].sum()) / len(student)

    def _pairs(self, maps: NDArray[np.float32]) -> tuple[Indices, Indices, int]:
        """Return the pairs of pixels whose values are compared.

        Args:
            maps: probabilities (2 B, H, W), those of the student, then those of the teacher.

        Returns:
            Indices into the flattened maps of the student's peaks, and of the pixels that they are compared with
            (``NEVER`` for level 0); and the number of pairs, from the first, that are matched with the teacher.
        """
        images = len(maps) // 2
        student = components_of(maps[:images], self.patch_size)
        teacher = components_of(maps[images:], self.patch_size)
        own, partners = self._matching(student, teacher)
        rest = np.setdiff1d(np.arange(len(student.peak)), own)
        peaks = student.peak[np.concatenate([own, rest])]
        goals = np.concatenate([teacher.peak[partners] + maps[:images].size, student.saddle[rest]])
        return peaks, goals, len(own)

    def _matching(self, student: Components, teacher: Components) -> tuple[Indices, Indices]:
        """Return the indices of matched signal components of the student and of the teacher."""
        student_signal = np.flatnonzero(student.persistence > self.signal)
        teacher_signal = np.flatnonzero(teacher.persistence > self.signal)
        own: list[Indices] = [np.empty(0, np.int64)]
        partners: list[Indices] = [np.empty(0, np.int64)]
        for patch in np.intersect1d(student.patch[student_signal], teacher.patch[teacher_signal]):
            mine = student_signal[student.patch[student_signal] == patch]
            theirs = teacher_signal[teacher.patch[teacher_signal] == patch]
            # squared distance to the diagonal minus that of the pair; only a pair with a gain is matched
            gain = (student.persistence[mine, None] ** 2 + teacher.persistence[theirs] ** 2) / 2.0
            gain -= (student.birth[mine, None] - teacher.birth[theirs]) ** 2
            gain -= (student.death[mine, None] - teacher.death[theirs]) ** 2
            rows, columns = linear_sum_assignment(gain.clip(min=0.0), maximize=True)
            gains = gain[rows, columns] > 0.0
            own.append(mine[rows[gains]])
            partners.append(theirs[columns[gains]])
        return np.concatenate(own), np.concatenate(partners)
