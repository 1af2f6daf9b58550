"""Active learning: scores of unlabeled pictures, high where a network is uncertain, and orders for labeling."""

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
from bundle.inference.multi_head import StackedHeads
from bundle.types import IMAGE, to_bool
from bundle.utils import atomic_path, check_output

COLUMNS = (IMAGE, "score")
"""Header of a table of scores."""


class DisagreementScorer:
    """Score of a picture for active learning: the mean uncertainty over its pixels, at working resolution.

    A picture smaller than a window is padded by the preprocessing; the pixels of its mirror image count too.
    With ``disagreement``, the uncertainty is the entropy of the mean prediction of experts and gates
    (:func:`consensus_entropy`), as in query by committee (Settles 2009, Active Learning Literature Survey, 2.2). With
    ``entropy`` it is the entropy of the network's output, for any network. The caller loads the weights. Scores are
    comparable between pictures of one network only.

    Args:
        network: the bare network. For ``disagreement`` it needs ``heads(image)`` with the heads of ``OPINIONS``.
        preprocessing: transform of the records, from a path to a normalized image (3, W, H).
        inferer: MONAI inferer; slides a window over the image and blends overlapping windows.
        score: ``disagreement`` or ``entropy``.
        device: device of the network.
        amp: whether to use mixed precision; on CUDA only.

    Raises:
        ValueError: if ``score`` is unknown.
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
        if score not in SCORES:
            raise ValueError(f"score is {score!r}; choose from {', '.join(SCORES)}")
        self.network = network
        self.preprocessing = preprocessing
        self.inferer = inferer
        self.score = score
        self.device = torch.device(device)
        self.amp = bool(amp) and self.device.type == "cuda"
        self._scored_network = SCORES[score][0](network)
        self._score_map = SCORES[score][1]

    def __call__(self, record: Mapping[Hashable, Any]) -> float:
        """Return the score of one picture.

        Args:
            record: ``image``, the path of a picture, and ``mpp``, um/px, if it is known; other keys are ignored.

        Returns:
            Score from 0 (certain of every pixel) to 1 (maximum entropy at every pixel).

        Raises:
            ValueError: if the network lacks the heads, or its output holds no plausible numbers.
            RuntimeError: if the picture cannot be read; raised by MONAI, with the reason as its cause.
        """
        image = self.preprocessing(dict(record))[IMAGE]
        image = torch.as_tensor(image).as_subclass(Tensor)[None].to(self.device)
        with eval_mode(self.network), torch.autocast(self.device.type, enabled=self.amp):
            output = self.inferer(image, self._scored_network)
        if not isinstance(output, Tensor):
            raise ValueError(f"the network returns a {type(output).__name__}; a score needs one tensor")
        check_output(output, str(record[IMAGE]))
        score = float(self._score_map(output.float()).mean())
        return min(max(score, 0.0), 1.0)

    def write(
        self, records: Iterable[Mapping[Hashable, Any]], path: str | os.PathLike[str], overwrite: bool | str = False
    ) -> Path:
        """Score pictures and write a table with the columns ``image,score``, highest score first; return its path.

        Args:
            records: as for :meth:`__call__`.
            path: path of the CSV file, which is written atomically; an earlier table of scores is replaced.
            overwrite: whether to replace any other file too: a bool or a string such as ``true``.

        Raises:
            ValueError, RuntimeError: as for :meth:`__call__`.
            ValueError: if the file exists and is not a table of scores, and ``overwrite`` is false.
            OSError: if the table cannot be written.
        """
        if not to_bool(overwrite, "overwrite") and not _is_free(Path(path)):
            raise ValueError(
                f"{path} would be replaced, but it is not a table of scores; "
                "give another --output_dir, or --overwrite True to replace it"
            )
        scores = {str(record[IMAGE]): self(record) for record in records}
        with (
            atomic_path(path, clean=True) as temporary,
            temporary.open("w", newline="", encoding="utf-8") as file,
        ):
            table = csv.writer(file)
            table.writerow(COLUMNS)
            table.writerows((name, f"{scores[name]:.6f}") for name in annotation_order("disagreement", scores, scores))
        return Path(path)


def _is_free(path: Path) -> bool:
    """Return whether a file is missing or a table that this program wrote."""
    if not path.exists():
        return True
    with path.open("rb") as file:
        return file.readline().decode("utf-8", "replace").strip() == ",".join(COLUMNS)


class _StackedClassifiers(StackedHeads):
    """The heads that classify a pixel, stacked: all scores, then all distances."""

    def __init__(self, network: nn.Module) -> None:
        scores, distances = zip(*OPINIONS, strict=True)
        super().__init__(network, dict.fromkeys(scores, "logits") | dict.fromkeys(distances, "tanh"))

    def forward(self, image: Tensor) -> Tensor:
        try:
            return super().forward(image)
        except ValueError as error:
            raise ValueError(f"{error}; or score pictures by 'entropy', which every network has") from error


def _disagreement(output: Tensor) -> Tensor:
    """Return the consensus entropy (1, 1, W, H) of stacked heads (1, channels, W, H)."""
    pairs = len(OPINIONS)
    scores, distances = output[:, :-pairs], output[:, -pairs:]
    return consensus_entropy(scores.chunk(pairs, dim=1), distances.chunk(pairs, dim=1))


def _entropy(output: Tensor) -> Tensor:
    """Return the entropy (1, W, H) of logits (1, C, W, H), divided by log C."""
    distribution = torch.distributions.Categorical(logits=output.movedim(1, -1), validate_args=False)
    return distribution.entropy() / math.log(output.shape[1])


SCORES: dict[str, tuple[Callable[[nn.Module], nn.Module], Callable[[Tensor], Tensor]]] = {
    "disagreement": (_StackedClassifiers, _disagreement),
    "entropy": (lambda network: network, _entropy),
}
"""Score -> function that wraps the network, and function from its output to the uncertainty of each pixel."""


def annotation_order(
    strategy: str, names: Iterable[str], scores: Mapping[str, float] | None = None, seed: int | str = 0
) -> list[str]:
    """Sort the names of unlabeled pictures, those to label first at the front.

    Args:
        strategy: ``disagreement``: highest score first, ties by name; ``random``: by a hash of seed and name, so that
            the order of two pictures does not depend on the others; ``first``: by name.
        names: names of the pictures, in any order.
        scores: name -> score, for ``disagreement``.
        seed: for ``random``.

    Raises:
        ValueError: if the strategy is unknown, or a picture lacks the score that it needs.
    """
    if strategy not in SORT_KEYS:
        raise ValueError(f"strategy is {strategy!r}; choose from {', '.join(SORT_KEYS)}")
    names, scores_by_name = list(names), dict(scores or {})
    missing = [name for name in names if name not in scores_by_name]
    if strategy == "disagreement" and missing:
        raise ValueError(
            f"{len(missing)} of {len(names)} pictures have no score ({missing[0]} is the first); score them first"
        )
    return sorted(names, key=lambda name: (SORT_KEYS[strategy](name, scores_by_name, seed), name))


SORT_KEYS: dict[str, Callable[[str, Mapping[str, float], int | str], Any]] = {
    "disagreement": lambda name, scores, seed: -scores[name],
    "random": lambda name, scores, seed: hashlib.sha256(f"{seed} {name}".encode()).digest(),
    "first": lambda name, scores, seed: name,
}
"""Strategy -> sort key of a picture: a function of its name, the scores and the seed."""
