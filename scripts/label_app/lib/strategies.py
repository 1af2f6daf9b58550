"""Strategies that select the next image or region of a slide to label."""

from __future__ import annotations

import functools
import logging
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lib.annotation import read_annotations
from lib.features import TileFeatures
from lib.request_checks import two_integers
from lib.request_errors import BAD, NOT_FOUND, RefusalError, refusing
from lib.scores import DisagreementScoring
from lib.slide_tiles import next_patch
from lib.uploads import LARGEST, OUTLINES, ending_of, is_slide_file, resolution
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag
from monailabel.interfaces.tasks.strategy import Strategy

from bundle.inference import annotation_order, next_diverse

logger = logging.getLogger(__name__)

Order = Callable[[list[str], Datastore], list[tuple[str, dict[str, Any]]]]

REST = 3600
"""Seconds during which a suggested image is not suggested again, while there are others."""
CANDIDATES = 16
"""Number of candidate regions of a slide."""


class NextTile(Strategy):
    """Select the next image without a final label, or the next region of a slide that is open in the viewer.

    Args:
        name: name of the strategy in requests.
        description: description for viewers.
        order: function of names and datastore that returns the names in order, each with facts for the response. The
            names are those of images that were not suggested within the last hour, or all if there are none.
        pixel_size: working resolution, um/px.
        scoring: scores regions of a slide; with ``None`` the region is random.
        mpp: um/px of images without a known value.
    """

    def __init__(
        self,
        name: str,
        description: str,
        order: Order,
        pixel_size: float,
        scoring: DisagreementScoring | None = None,
        mpp: float | None = None,
    ) -> None:
        super().__init__(description)
        self.name, self.order, self.pixel_size, self.scoring, self.mpp = name, order, pixel_size, scoring, mpp

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        """Select an image or region.

        Args:
            request: ``image`` (name of a slide) and ``patch_size`` (px) for a region of it; otherwise empty.
            datastore: images and labels.

        Returns:
            ``id``, and ``bbox`` (x, y, width, height, px of level 0) for a region; ``None`` if all images are labeled.

        Raises:
            RefusalError: if the image does not exist or the size is invalid.
        """
        if request.get("image"):
            return self._region(request, datastore)
        names = datastore.get_unlabeled_images()
        if not names:
            return None
        now = time.time()
        served = {name: self._served(name, datastore) for name in sorted(names)}
        fresh = [name for name, when in served.items() if now - when > REST]
        ordered = self.order(fresh or list(served), datastore)
        name, facts = ordered[0] if fresh else min(ordered, key=lambda item: served[item[0]])
        return {"id": name, **facts}

    def _served(self, name: str, datastore: Datastore) -> float:
        """Return when this strategy last suggested an image, as a timestamp in seconds."""
        return float(datastore.get_image_info(name).get("strategy", {}).get(self.name, {}).get("ts", 0))

    def _region(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        name = str(request["image"])
        path = datastore.get_image_uri(name)
        if not path:
            raise RefusalError(NOT_FOUND, f"there is no image {name[:80]!r} in the folder")
        width, height = two_integers(request.get("patch_size") or (1024, 1024), "patch_size")
        if min(width, height) < 1:
            raise RefusalError(BAD, f"patch_size is {width} x {height} px; it must be at least 1 x 1 px")
        if not is_slide_file(path):
            size = two_integers(request.get("image_size") or (width, height), "image_size")
            return {"id": name, "bbox": [0, 0, size[0] or width, size[1] or height]}
        mpp = resolution(path, datastore.get_image_info(name).get("mpp"), self.mpp)
        if width * height * max(1.0, (mpp or 0) / self.pixel_size) ** 2 > LARGEST:
            raise RefusalError(BAD, f"patch_size is {width} x {height} px, too large to show; give 1024 x 1024")
        seed = 0 if self.name == "first" else secrets.randbelow(2**31)
        with refusing():
            score = None if self.scoring is None else self.scoring.of_pixels()
            labeled = _labeled_boxes(name, datastore)
            box = next_patch(path, (width, height), labeled, score, CANDIDATES, seed, self.pixel_size, mpp=mpp)
        return {"id": name, "bbox": list(box)}


def strategies(
    scoring: DisagreementScoring, features: TileFeatures | None, pixel_size: float, mpp: float | None = None
) -> dict[str, Strategy]:
    """Return all strategies by name; without ``features`` there is no ``diverse``."""

    def by_disagreement(names: list[str], _: Datastore) -> list[tuple[str, dict[str, Any]]]:
        scores = scoring.scores()
        ranked = annotation_order("disagreement", (name for name in names if name in scores), scores)
        ranked += [name for name in names if name not in scores]
        return [(name, {"disagreement": scores.get(name)}) for name in ranked]

    def at_random(names: list[str], _: Datastore) -> list[tuple[str, dict[str, Any]]]:
        return [(name, {}) for name in annotation_order("random", names, seed=secrets.randbelow(2**31))]

    def by_name(names: list[str], _: Datastore) -> list[tuple[str, dict[str, Any]]]:
        return [(name, {}) for name in annotation_order("first", names)]

    descriptions = {
        "disagreement": "Highest disagreement of the experts",
        "diverse": "Image that represents most others; also before the first training",
        "random": "Random image",
        "first": "First image by name",
    }
    orders: dict[str, Order] = {"disagreement": by_disagreement}
    if features is not None:
        orders["diverse"] = functools.partial(_by_diversity, features, scoring)
    orders |= {"random": at_random, "first": by_name}
    return {
        name: NextTile(name, descriptions[name], order, pixel_size, scoring if name == "disagreement" else None, mpp)
        for name, order in orders.items()
    }


def _by_diversity(
    features: TileFeatures, scoring: DisagreementScoring, names: list[str], datastore: Datastore
) -> list[tuple[str, dict[str, Any]]]:
    """Order names by diversity: the image that represents most others first, then the others at random.

    Images that are labeled, or were suggested within the last hour, are represented already. Within the selected
    cluster, the highest disagreement decides after the first training. Images without features come last.
    """
    known = features.known(datastore)
    others = annotation_order("random", names, seed=secrets.randbelow(2**31))
    left = len(set(features.missing(datastore)) & set(names))
    note = f"{left} of {len(names)} images are not compared yet; their features are being computed"
    facts = {"note": note} if left else {}
    ready = set(names) & known.keys()
    if ready:
        patients = {name: datastore.get_image_info(name).get("patient") for name in known}
        groups = {name: patient for name, patient in patients.items() if patient}
        scores = scoring.scores() if scoring.models.trained.is_file() else None
        picked = next_diverse(known, known.keys() - ready, groups, scores or None)
        others = sorted(others, key=lambda name: (name != picked, name not in ready))
    return [(name, facts) for name in others]


def _labeled_boxes(name: str, datastore: Datastore) -> list[tuple[int, int, int, int]]:
    """Return the bounding boxes of the outlines on a slide: x, y, width, height, px."""
    path = datastore.get_label_uri(name, DefaultLabelTag.FINAL)
    if not path or not ending_of(Path(path).name, OUTLINES):
        return []
    boxes = []
    for annotation in read_annotations(path):
        left, top, right, bottom = annotation.shape.bounds
        boxes.append((int(left), int(top), int(right - left) + 1, int(bottom - top) + 1))
    return boxes
