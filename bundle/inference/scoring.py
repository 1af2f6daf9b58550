"""What a person should outline next: scores of pictures, high where a network doubts most, and orders by strategy."""

from __future__ import annotations

import csv
import hashlib
import math
import os
from collections.abc import Callable, Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from monai.inferers import Inferer
from monai.networks.utils import eval_mode
from torch import Tensor, nn

from bundle.inference.disagreement import OPINIONS, consensus_entropy
from bundle.inference.files import hidden_until_done
from bundle.inference.multi_head import StackedHeads
from bundle.types import IMAGE


class DisagreementScorer:
    """The doubt of a network about a picture: mean over its pixels, at the working resolution.

    With the score ``disagreement`` doubt is the entropy of the mean opinion of experts and gates
    (:func:`consensus_entropy`), as uncertainty sampling by query-by-committee takes it (Settles 2009, Active Learning
    Literature Survey, 2.2). With ``entropy`` it is the entropy of the network's one answer, which every network has.
    Weights are the caller's to load. Scores rank pictures of one network; between networks they mean nothing.

    Args:
        network: the bare network. For ``disagreement`` it has ``heads(image)`` with the heads of ``OPINIONS``.
        preprocessing: transform of the records, from a path to a normalized image (3, W, H).
        inferer: MONAI's; slides a window over the image and blends what overlaps.
        score: ``disagreement`` or ``entropy``.
        device: where the network is, by name or as torch has it.
        amp: whether to answer in mixed precision; on CUDA alone.

    Raises:
        ValueError: for another score.
    """

    def __init__(
        self,
        network: nn.Module,
        preprocessing: Callable[[Mapping[Hashable, Any]], Mapping[Hashable, Any]],
        inferer: Inferer,
        score: str = "disagreement",
        device: torch.device | str = "cpu",
        amp: bool = False,
    ) -> None:
        if score not in DOUBTS:
            raise ValueError(f"score is {score!r}; choose from {', '.join(DOUBTS)}")
        self.network = network
        self.preprocessing = preprocessing
        self.inferer = inferer
        self.score = score
        self.device = torch.device(device)
        self.amp = bool(amp) and self.device.type == "cuda"
        self._asked = DOUBTS[score][0](network)
        self._doubt = DOUBTS[score][1]

    def __call__(self, record: Mapping[Hashable, Any]) -> float:
        """Score one picture.

        Args:
            record: ``image``, the path of a picture, and, where it is known, ``mpp``, um/px; others are not looked at.

        Returns:
            From 0, sure of every pixel, to 1, sure of none.

        Raises:
            ValueError: for a network that lacks the heads, and where its answer holds no numbers.
            RuntimeError: where the picture cannot be read; MONAI's, with the reason as its cause.
        """
        image = self.preprocessing(dict(record))[IMAGE]
        image = torch.as_tensor(image).as_subclass(Tensor)[None].to(self.device)
        with eval_mode(self.network), torch.autocast(self.device.type, enabled=self.amp):
            answer = self.inferer(image, self._asked)
        if not isinstance(answer, Tensor):
            raise ValueError(f"the network answers a {type(answer).__name__}; a score needs one tensor")
        score = float(self._doubt(answer.float()).mean())
        if math.isnan(score):
            raise ValueError(f"the network's answer to {record[IMAGE]} holds no numbers (NaN); train it again")
        return min(max(score, 0.0), 1.0)

    def write(self, records: Iterable[Mapping[Hashable, Any]], path: str | os.PathLike[str]) -> Path:
        """Score pictures and write a table, ``image,score``, the highest score first; gives its path.

        Args:
            records: as :meth:`__call__` takes them.
            path: of the table, CSV; it appears whole or not at all.

        Raises:
            ValueError, RuntimeError: as :meth:`__call__`.
            OSError: where the table cannot be written.
        """
        scores = {str(record[IMAGE]): self(record) for record in records}
        with hidden_until_done(path) as place, place.open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow([IMAGE, "score"])
            table.writerows((name, f"{scores[name]:.6f}") for name in outlining_order("disagreement", scores, scores))
        return Path(path)


class _Opinions(StackedHeads):
    """The heads that say what a pixel is, side by side: all scores, then all distances."""

    def __init__(self, network: nn.Module) -> None:
        scores, distances = zip(*OPINIONS, strict=True)
        super().__init__(network, dict.fromkeys(scores, "logits") | dict.fromkeys(distances, "tanh"))

    def forward(self, image: Tensor) -> Tensor:
        try:
            return super().forward(image)
        except ValueError as error:
            raise ValueError(f"{error}; or score pictures by 'entropy', which every network has") from error


def _disagreement(answer: Tensor) -> Tensor:
    """Consensus entropy (1, 1, W, H) of opinions side by side (1, channels, W, H)."""
    pairs = len(OPINIONS)
    scores, distances = answer[:, :-pairs], answer[:, -pairs:]
    return consensus_entropy(scores.chunk(pairs, dim=1), distances.chunk(pairs, dim=1))


def _entropy(answer: Tensor) -> Tensor:
    """Entropy (1, W, H) of logits (1, C, W, H), in units of a toss among the C classes."""
    toss = torch.distributions.Categorical(logits=answer.movedim(1, -1), validate_args=False)
    return toss.entropy() / math.log(answer.shape[1])


DOUBTS: dict[str, tuple[Callable[[nn.Module], nn.Module], Callable[[Tensor], Tensor]]] = {
    "disagreement": (_Opinions, _disagreement),
    "entropy": (lambda network: network, _entropy),
}
"""By the name of a score: what is asked in the network's place, and the doubt about each pixel of what it answers."""


def outlining_order(
    strategy: str, names: Iterable[str], scores: Mapping[str, float] | None = None, seed: int | str = 0
) -> list[str]:
    """Names of pictures without outlines, those that a person should outline first at the front.

    Args:
        strategy: ``disagreement``, the highest score first, equal ones by name; ``random``, mixed by the seed, each
            name for itself, so that the order depends on nothing else; ``first``, by name.
        names: of the pictures, in any order.
        scores: by name, for ``disagreement``.
        seed: for ``random``.

    Raises:
        ValueError: for another strategy, and for a picture without the score that it needs.
    """
    if strategy not in ORDERS:
        raise ValueError(f"strategy is {strategy!r}; choose from {', '.join(ORDERS)}")
    names, known = list(names), dict(scores or {})
    missing = [name for name in names if name not in known]
    if strategy == "disagreement" and missing:
        raise ValueError(
            f"{len(missing)} of {len(names)} pictures have no score ({missing[0]} is the first); score them first"
        )
    return sorted(names, key=lambda name: (ORDERS[strategy](name, known, seed), name))


ORDERS: dict[str, Callable[[str, Mapping[str, float], int | str], Any]] = {
    "disagreement": lambda name, scores, seed: -scores[name],
    "random": lambda name, scores, seed: hashlib.sha256(f"{seed} {name}".encode()).digest(),
    "first": lambda name, scores, seed: name,
}
"""By strategy: what sorts a picture, of its name, the scores and the seed."""
