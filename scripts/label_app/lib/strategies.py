"""Which image to outline next, and which region of a slide."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lib.refusals import BAD, NOT_FOUND, RefusalError, refusing
from lib.scores import DisagreementScoring
from lib.slide_tiles import next_patch
from lib.uploads import OUTLINES, ending_of, resolution
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag
from monailabel.interfaces.tasks.strategy import Strategy

from bundle.annotation import read_annotations
from bundle.inference.scoring import outlining_order
from bundle.inference.slides import is_slide

logger = logging.getLogger(__name__)

REST = 3600
"""Seconds for which an image that was served is not served again, while there are others."""
CANDIDATES = 16
"""Regions of a slide among which to choose."""


class NextTile(Strategy):
    """The next image of those without a final label; for a slide that is open in the viewer, its next region.

    Args:
        name: of the strategy, as it is asked for.
        description: of it, for viewers.
        order: gives names and a store the names in the order in which to serve them, and what to say of each.
        pixel_size: working resolution, um/px.
        scoring: scores a region of a slide; ``None`` takes one at random.
        mpp: um/px of images of which nothing else is known.
    """

    def __init__(
        self,
        name: str,
        description: str,
        order: Callable[[list[str], Datastore], list[tuple[str, dict[str, Any]]]],
        pixel_size: float,
        scoring: DisagreementScoring | None = None,
        mpp: float | None = None,
    ) -> None:
        super().__init__(description)
        self.name, self.order, self.pixel_size, self.scoring, self.mpp = name, order, pixel_size, scoring, mpp

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        """Choose.

        Args:
            request: ``image`` (name of a slide) and ``patch_size`` (px) for a region of it, else nothing.
            datastore: images and labels.

        Returns:
            ``id``, and ``bbox`` (x, y, width, height, px of the full slide) for a region; ``None`` when all is labeled.

        Raises:
            RefusalError: for an image that is not there or a size that is none.
        """
        if request.get("image"):
            return self._region(request, datastore)
        names = datastore.get_unlabeled_images()
        if not names:
            return None
        now = time.time()
        ordered = self.order(sorted(names), datastore)
        served = {name: self._served(name, datastore) for name, _ in ordered}
        fresh = [item for item in ordered if now - served[item[0]] > REST]
        name, told = (fresh or sorted(ordered, key=lambda item: served[item[0]]))[0]
        return {"id": name, **told}

    def _served(self, name: str, datastore: Datastore) -> float:
        """When an image was served last by this strategy, seconds."""
        return float(datastore.get_image_info(name).get("strategy", {}).get(self.name, {}).get("ts", 0))

    def _region(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        name = str(request["image"])
        path = datastore.get_image_uri(name)
        if not path:
            raise RefusalError(NOT_FOUND, f"there is no image {name[:80]!r} in the folder")
        try:
            width, height = (int(value) for value in request.get("patch_size") or (1024, 1024))
        except (TypeError, ValueError) as error:
            raise RefusalError(BAD, "patch_size must be two whole numbers, px") from error
        if min(width, height) < 1:
            raise RefusalError(BAD, f"patch_size is {width} x {height} px; it must be 1 x 1 or more")
        if not is_slide(path):
            asked = request.get("image_size") or (width, height)
            return {"id": name, "bbox": [0, 0, int(asked[0]) or width, int(asked[1]) or height]}
        mpp = resolution(path, datastore.get_image_info(name).get("mpp"), self.mpp)
        seed = 0 if self.name == "first" else secrets.randbelow(2**31)
        with refusing():
            score = None if self.scoring is None else self.scoring.of_pixels()
            taken = _outlined(name, datastore)
            box = next_patch(path, (width, height), taken, score, CANDIDATES, seed, self.pixel_size, mpp=mpp)
        return {"id": name, "bbox": list(box)}


def strategies(scoring: DisagreementScoring, pixel_size: float, mpp: float | None = None) -> dict[str, Strategy]:
    """All strategies by name."""

    def by_disagreement(names: list[str], _: Datastore) -> list[tuple[str, dict[str, Any]]]:
        scores = scoring.scores()
        ranked = outlining_order("disagreement", (name for name in names if name in scores), scores)
        ranked += [name for name in names if name not in scores]
        return [(name, {"disagreement": scores.get(name)}) for name in ranked]

    def at_random(names: list[str], _: Datastore) -> list[tuple[str, dict[str, Any]]]:
        return [(name, {}) for name in outlining_order("random", names, seed=secrets.randbelow(2**31))]

    def by_name(names: list[str], _: Datastore) -> list[tuple[str, dict[str, Any]]]:
        return [(name, {}) for name in outlining_order("first", names)]

    told = {
        "disagreement": "Where the experts disagree most",
        "random": "Any, by chance",
        "first": "The first by name",
    }
    orders = {"disagreement": by_disagreement, "random": at_random, "first": by_name}
    return {
        name: NextTile(name, told[name], order, pixel_size, scoring if name == "disagreement" else None, mpp)
        for name, order in orders.items()
    }


def _outlined(name: str, datastore: Datastore) -> list[tuple[int, int, int, int]]:
    """Bounds of what is outlined on a slide: x, y, width, height, px."""
    place = datastore.get_label_uri(name, DefaultLabelTag.FINAL)
    if not place or not ending_of(Path(place).name, OUTLINES):
        return []
    boxes = []
    for annotation in read_annotations(place):
        left, top, right, bottom = annotation.shape.bounds
        boxes.append((int(left), int(top), int(right - left) + 1, int(bottom - top) + 1))
    return boxes
