"""A generalist and its specialists teach one another: CGS, Collaborative Generalist and Specialists."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bundle.types import OTHER, OWN, SEG, SPECIALIST, Batch, HeadNetwork, Heads, PseudoLabel, Ramp, as_specialist


def combined_class(specialists: Tensor) -> Tensor:
    """The class map that all specialists make together.

    argmax over (mean_k p_k(background), p_1(own), ..., p_K(own)): each specialist speaks for its own class, all of them
    for the background.

    Args:
        specialists: probabilities (K, B, 3, H, W) of background, own and other class.

    Returns:
        Class indices (B, 1, H, W), 0..K.
    """
    background = specialists[:, :, 0].mean(dim=0, keepdim=True)
    return torch.cat([background, specialists[:, :, OWN]]).argmax(dim=0).unsqueeze(1)


def consistent(specialists: Tensor) -> Tensor:
    """Where the specialists do not contradict one another: inter-head error detection (IHED).

    With m_k the class that specialist k finds most probable, a pixel is valid if all m_k are background, or if one is
    the specialist's own and every other says "other".

    Args:
        specialists: probabilities or logits (K, B, 3, H, W) of background, own and other class.

    Returns:
        (B, 1, H, W), bool.
    """
    said = specialists.argmax(dim=2)
    owners, others = (said == OWN).sum(dim=0), (said == OTHER).sum(dim=0)
    claimed_once = (owners == 1) & (others == len(said) - 1)
    return ((said == 0).all(dim=0) | claimed_once).unsqueeze(1)


class CollaborativeLabeler(nn.Module):
    """A teacher's generalist and specialists write three hard labels for each of these heads; it is asked once.

    Collaborative Generalist and Specialists (Wang et al. 2025, arXiv 2504.00862). g is the generalist's class map, c
    that of the specialists combined, s_k that of specialist k; r_k turns a class map into the terms of specialist k.

    ======================  ================================  ==========================================
    name                    for the generalist                for specialist k
    ======================  ================================  ==========================================
    ``own/HEAD``            g, where it is sure               s_k, where it is sure
    ``combined/HEAD``       c, where specialists are          r_k(g), where the generalist is sure
                            consistent (IHED)
    ``agreed/HEAD``         g, where g = c                    s_k, where s_k = r_k(g)
    ======================  ================================  ==========================================

    Sure is a largest probability of ``confidence`` or more. The heads are those that the teacher has, so the same
    labeler serves any number of classes. What does not count has weight 0, which reaches cross-entropy and Dice alike.

    Differs from the paper: the public code gives the mask to the cross-entropy alone.

    Args:
        teacher: a network with named heads, for instance a moving average of the student; held by reference.
        confidence: least probability of a label that its own head, or the generalist for a specialist, writes; may
            change over training.
        generalist: name of the generalist's head.
    """

    needs_heads = False

    def __init__(self, teacher: HeadNetwork, confidence: float | Ramp = 0.95, generalist: str = SEG) -> None:
        super().__init__()
        # in a tuple, so that the teacher is no part of the step: neither DDP nor the student's train() may touch it
        self._teacher = (teacher,)
        self.confidence = confidence
        self.generalist = generalist

    @torch.no_grad()
    def forward(self, batch: Batch, heads: Heads, progress: float) -> dict[str, PseudoLabel]:
        """Ask the teacher about ``batch["image"]``; the student's heads are not read.

        Raises:
            ValueError: for a teacher without specialists.
        """
        teacher = self._teacher[0]
        if isinstance(teacher, nn.Module):
            teacher.eval()
        answers = teacher.heads(batch["image"])
        names = [name for name in answers if name.startswith(SPECIALIST)]
        if not names:
            raise ValueError(f"the teacher has no specialists, only {sorted(answers)}; see bundle.networks.generalist")
        least = self.confidence(progress) if callable(self.confidence) else self.confidence
        sure, general = answers[self.generalist].float().softmax(dim=1).max(dim=1, keepdim=True)
        specialists = torch.stack([answers[name].float().softmax(dim=1) for name in names])
        together = combined_class(specialists)
        labels = {
            f"own/{self.generalist}": PseudoLabel(general, (sure >= least).float()),
            f"combined/{self.generalist}": PseudoLabel(together, consistent(specialists).float()),
            f"agreed/{self.generalist}": PseudoLabel(general, (general == together).float()),
        }
        for name, probabilities in zip(names, specialists, strict=True):
            own_sure, own = probabilities.max(dim=1, keepdim=True)
            told = as_specialist(general, int(name.removeprefix(SPECIALIST)))
            labels[f"own/{name}"] = PseudoLabel(own, (own_sure >= least).float())
            labels[f"combined/{name}"] = PseudoLabel(told, (sure >= least).float())
            labels[f"agreed/{name}"] = PseudoLabel(own, (own == told).float())
        return labels
