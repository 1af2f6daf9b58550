"""Active learning without a trained network: features of an encoder, and the picture that represents most others."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from monai.networks.utils import eval_mode
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2
from scipy.spatial.distance import cdist
from torch import Tensor, nn

from bundle.types import IMAGE

NEIGHBORS = 20
"""Number of nearest pictures whose mean distance defines how typical a picture is."""
SIDE = 512
"""Longest side, in px, of the image that the encoder sees; larger images are reduced by averaging."""


class EncoderFeatures:
    """Features of a picture: mean and standard deviation over the positions of the deepest level of an encoder.

    Features of a pretrained encoder tell stains and tissues apart before any picture is labeled.

    Args:
        encoder: an encoder of `bundle.networks`: a module that returns feature maps of the given ``strides``.
        preprocessing: transform of the records, from a path to a normalized image (3, W, H).
        device: device of the encoder.
    """

    def __init__(
        self,
        encoder: nn.Module,
        preprocessing: Callable[[Mapping[Hashable, Any]], Mapping[Hashable, Any]],
        device: torch.device | str = "cpu",
    ) -> None:
        self.encoder, self.preprocessing, self.device = encoder, preprocessing, torch.device(device)
        self.stride = max(encoder.strides)  # type: ignore[arg-type]

    def __call__(self, record: Mapping[Any, Any]) -> NDArray[np.float32]:
        """Return the features (2 C) of one picture; ``record`` has ``image``, and ``mpp`` if it is known."""
        image = torch.as_tensor(self.preprocessing(dict(record))[IMAGE]).as_subclass(Tensor)[None].to(self.device)
        factor = -(-max(image.shape[2:]) // SIDE)
        if factor > 1:
            image = nn.functional.avg_pool2d(image, factor, ceil_mode=True)
        missing = [-size % self.stride for size in image.shape[2:]]
        image = nn.functional.pad(image, (0, missing[1], 0, missing[0]), mode="replicate")
        with eval_mode(self.encoder):
            deepest = self.encoder(image)[-1].float().flatten(2)[0]
        return torch.cat([deepest.mean(dim=1), deepest.std(dim=1, correction=0)]).cpu().numpy()


def next_diverse(
    features: Mapping[str, NDArray[np.floating]],
    labeled: Iterable[str] = (),
    groups: Mapping[str, Hashable] | None = None,
    scores: Mapping[str, float] | None = None,
    seed: int = 0,
) -> str:
    """Return the unlabeled picture to label next, so that the labeled ones represent all.

    TypiClust (Hacohen et al. 2022, arXiv 2202.02794), one picture at a time: k-means with one cluster more than there
    are labeled pictures, then the largest cluster without a labeled picture, then its most typical picture, which has
    the smallest mean distance to its nearest neighbors in the cluster. Pictures of groups (patients) with the fewest
    labeled pictures come first. With ``scores``, the highest score in the cluster replaces the most typical picture.

    Args:
        features: name -> features of all pictures, also of the labeled ones.
        labeled: names of the labeled pictures.
        groups: name -> group such as the patient; pictures without one are alone.
        scores: name -> uncertainty of unlabeled pictures, once a network is trained.
        seed: of k-means.

    Raises:
        ValueError: if all pictures are labeled.

    Example::

        >>> features = {"a": np.zeros(2), "b": np.full(2, 0.1), "c": np.full(2, 9.0)}
        >>> next_diverse(features, labeled=["a"])
        'c'
    """
    names = sorted(features)
    done = set(labeled)
    waiting = [index for index, name in enumerate(names) if name not in done]
    if not waiting:
        raise ValueError("all pictures are labeled; there is no next one")
    points = np.stack([features[name] for name in names]).astype(np.float64)
    points = (points - points.mean(axis=0)) / np.maximum(points.std(axis=0), 1e-6)
    count = min(len(names) - len(waiting) + 1, len(np.unique(points, axis=0)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # equal pictures leave a cluster empty, which does no harm here
        clusters = kmeans2(points, count, minit="++", rng=np.random.default_rng(seed))[1]

    # The largest cluster without a labeled picture; of it, pictures of patients with the fewest labels.
    known = groups or {}
    labeled_per_group = Counter(known[name] for name in done if name in known)
    covered = Counter(clusters[index] for index, name in enumerate(names) if name in done)
    sizes = Counter(clusters[index] for index in waiting)
    cluster = min(sizes, key=lambda number: (covered[number], -sizes[number], number))
    members = [index for index in waiting if clusters[index] == cluster]
    fewest = min(labeled_per_group[known.get(names[index])] for index in members)
    members = [index for index in members if labeled_per_group[known.get(names[index])] == fewest]
    if scores is not None and all(names[index] in scores for index in members):
        return names[max(members, key=lambda index: (scores[names[index]], -index))]
    distances = np.sort(cdist(points[members], points[clusters == cluster]), axis=1)[:, : NEIGHBORS + 1]
    return names[members[int(distances.mean(axis=1).argmin())]]
