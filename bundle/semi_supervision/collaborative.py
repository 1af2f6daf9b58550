"""Pseudo-labels of CGS, Collaborative Generalist and Specialists."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bundle.types import OTHER, OWN, SEG, SPECIALIST, Batch, HeadNetwork, Heads, PseudoLabel, Ramp, as_specialist


def combined_class(specialists: Tensor) -> Tensor:
    """Combine the specialists into one class map.

    It is the argmax over (mean_k p_k(background), p_1(own), ..., p_K(own)).

    Args:
        specialists: probabilities (K, B, 3, H, W) of background, own and other class.

    Returns:
        Class indices (B, 1, H, W), 0..K.
    """
    background = specialists[:, :, 0].mean(dim=0, keepdim=True)
    return torch.cat([background, specialists[:, :, OWN]]).argmax(dim=0).unsqueeze(1)


def consistent(specialists: Tensor) -> Tensor:
    """Find the pixels where the specialists agree: inter-head error detection (IHED).

    With m_k the most probable class of specialist k, a pixel is consistent if all m_k are background, or if exactly one
    specialist predicts its own class and all others predict "other".

    Args:
        specialists: probabilities or logits (K, B, 3, H, W) of background, own and other class.

    Returns:
        (B, 1, H, W), bool.
    """
    classes = specialists.argmax(dim=2)
    own, other = (classes == OWN).sum(dim=0), (classes == OTHER).sum(dim=0)
    claimed_once = (own == 1) & (other == len(classes) - 1)
    return ((classes == 0).all(dim=0) | claimed_once).unsqueeze(1)


class CollaborativePseudoLabeler(nn.Module):
    """Make three hard pseudo-labels for the generalist and for each specialist from one pass of a teacher.

    Collaborative Generalist and Specialists (Wang et al. 2025, arXiv 2504.00862). g is the class map of the generalist,
    c that of the combined specialists, s_k that of specialist k; r_k converts a class map to the classes of
    specialist k.

    ======================  ================================  ==========================================
    name                    for the generalist                for specialist k
    ======================  ================================  ==========================================
    ``own/HEAD``            g, where it is confident          s_k, where it is confident
    ``combined/HEAD``       c, where specialists are          r_k(g), where g is confident
                            consistent (IHED)
    ``agreed/HEAD``         g, where g = c                    s_k, where s_k = r_k(g)
    ======================  ================================  ==========================================

    Confident means a largest probability of at least ``confidence``. The heads are those of the teacher, so the same
    pseudo-labeler works for any number of classes. All other pixels have weight 0, in cross-entropy and in Dice.

    Differs from the paper: the public code applies the mask to the cross-entropy only.

    Args:
        teacher: network with named heads, for example a moving average of the student; held by reference.
        confidence: smallest probability of a confident pixel, or a ramp of it.
        generalist: name of the generalist's head.
    """

    needs_heads = False

    def __init__(self, teacher: HeadNetwork, confidence: float | Ramp = 0.95, generalist: str = SEG) -> None:
        super().__init__()
        # A tuple hides the teacher from `nn.Module`: neither DDP nor the student's train() may touch it.
        self._teacher = (teacher,)
        self.confidence = confidence
        self.generalist = generalist

    @torch.no_grad()
    def forward(self, batch: Batch, heads: Heads, progress: float) -> dict[str, PseudoLabel]:
        """Run the teacher on ``batch["image"]``; the student's heads are not used.

        Raises:
            ValueError: if the teacher has no specialists.
        """
        teacher = self._teacher[0]
        if isinstance(teacher, nn.Module):
            teacher.eval()
        outputs = teacher.heads(batch["image"])
        names = [name for name in outputs if name.startswith(SPECIALIST)]
        if not names:
            raise ValueError(f"the teacher has no specialists, only {sorted(outputs)}; see bundle.networks.generalist")
        threshold = self.confidence(progress) if callable(self.confidence) else self.confidence
        confidence, general = outputs[self.generalist].float().softmax(dim=1).max(dim=1, keepdim=True)
        specialists = torch.stack([outputs[name].float().softmax(dim=1) for name in names])
        combined = combined_class(specialists)
        labels = {
            f"own/{self.generalist}": PseudoLabel(general, (confidence >= threshold).float()),
            f"combined/{self.generalist}": PseudoLabel(combined, consistent(specialists).float()),
            f"agreed/{self.generalist}": PseudoLabel(general, (general == combined).float()),
        }
        for name, probabilities in zip(names, specialists, strict=True):
            own_confidence, own = probabilities.max(dim=1, keepdim=True)
            converted = as_specialist(general, int(name.removeprefix(SPECIALIST)))
            labels[f"own/{name}"] = PseudoLabel(own, (own_confidence >= threshold).float())
            labels[f"combined/{name}"] = PseudoLabel(converted, (confidence >= threshold).float())
            labels[f"agreed/{name}"] = PseudoLabel(own, (own == converted).float())
        return labels
