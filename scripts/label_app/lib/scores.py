"""Disagreement of the experts on each unlabeled image, computed once per model and stored."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from lib.config_lock import PARSING
from lib.models import ModelFolder
from lib.request_checks import integer
from lib.request_errors import RefusalError
from lib.uploads import is_slide_file
from monai.bundle import ConfigParser
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.scoring import ScoringMethod
from monailabel.utils.others.generic import name_to_device
from numpy.typing import NDArray
from PIL import Image

from bundle.engines import ModelCheckpointLoader
from bundle.engines.error_summary import sentence

logger = logging.getLogger(__name__)

SCORES = "scores"
"""Record in the model folder: digest of the model, and the score of each image."""
MOST_IMAGES = 10**9
OVERLAY = "inference/scoring.yaml"


class DisagreementScoring(ScoringMethod):
    """Mean consensus entropy of experts and gates over a tile, in [0, 1], for all tiles without a final label.

    Scores are stored in ``scores.json`` of the model folder, not in MONAI Label's index, which another process writes.
    They are recomputed for each new model. Slides have no score; strategies select regions of them instead.

    Args:
        bundle: folder of the bundle.
        models: folder of models.
        conf: settings of the app.
    """

    def __init__(self, bundle: Path, models: ModelFolder, conf: Mapping[str, str]) -> None:
        super().__init__("Disagreement of the experts on a tile; label tiles with high scores first")
        self.bundle, self.models, self.conf = bundle, models, conf

    def info(self) -> dict[str, Any]:
        """Return the content of /info with the scores of the current model, highest first."""
        ranked = sorted(self.scores().items(), key=lambda item: -item[1])
        return super().info() | {"scores": dict(ranked)}

    def scores(self) -> dict[str, float]:
        """Return the scores of the current model by image name; empty if it has not scored any image."""
        record = self.models.read(SCORES)
        return dict(record.get("scores", {})) if record.get("model") == self.models.digest() else {}

    def _failed(self) -> dict[str, str]:
        """Return the images that the current model could not score, with the reason; a new model tries them again."""
        record = self.models.read(SCORES)
        return dict(record.get("failed", {})) if record.get("model") == self.models.digest() else {}

    def missing(self, datastore: Datastore) -> list[str]:
        """Return the names of unlabeled tiles without a score."""
        known = {**self.scores(), **self._failed()}
        names = (name for name in sorted(datastore.get_unlabeled_images()) if name not in known)
        return [name for name in names if is_tile(datastore.get_image_uri(name))]

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Score the tiles without a score.

        Args:
            request: ``device``; ``max_samples``, the maximum number of images, 0 for all.
            datastore: images and labels.

        Returns:
            Number of images ``scored`` and ``left``, and ``failed``, name -> reason.
        """
        self.models.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.models.folder / ".scoring.lock"):  # waits for an earlier scoring
            return self._score(request, datastore)

    def _score(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Score the tiles while holding the lock."""
        started = time.time()
        names, digest, scores = self.missing(datastore), self.models.digest(), self.scores()
        selected = names[: integer(request, "max_samples", 0, 0, MOST_IMAGES) or len(names)]
        failed = self._failed()
        before = len(failed)
        scorer: Callable[[dict[str, Any]], float] | None = None
        done = 0
        for name in selected:
            scorer = scorer or self.scorer(request.get("device"))
            try:
                scores[name] = round(float(scorer(tile_record(name, datastore, self.conf))), 6)
            except (OSError, RuntimeError, ValueError) as error:
                failed[name] = sentence(error)
                logger.warning("no score for %s: %s", name, failed[name])
            if self.models.digest() != digest:
                logger.info("Scoring stopped: there is a new model, and its scores are computed next.")
                break
            self.models.write(SCORES, {"model": digest, "scores": scores, "failed": failed})
            done += 1
        new = len(failed) - before
        result = {"scored": done - new, "left": len(names) - done, "failed": failed}
        logger.info("Scoring: %s in %.1f s", result, time.time() - started)
        return result

    def scorer(self, device: str | None = None) -> Any:
        """Return a function that scores a record ``{"image": path}`` with the current model."""
        with PARSING:
            return self._scorer(device)

    def _scorer(self, device: str | None) -> Any:
        """Build the function while holding the lock of the parser."""
        configs = self.bundle / "configs"
        parser = ConfigParser()
        parser.read_config([str(configs / "inference.json"), str(configs / OVERLAY)])
        parser.update({"bundle_root": str(self.bundle), "device": torch.device(name_to_device(device or "cuda"))})
        if self.conf.get("score"):
            parser.update({"score": self.conf["score"]})
        ModelCheckpointLoader(parser.get_parsed_content("network"), self.models.current).load()
        return parser.get_parsed_content("scorer")

    def of_pixels(self) -> Callable[[NDArray[np.uint8]], float]:
        """Return a function that scores RGB pixels (H, W, 3) at the working resolution."""
        scorer = self.scorer()

        def score(pixels: NDArray[np.uint8]) -> float:
            with tempfile.TemporaryDirectory(prefix="region_") as folder:
                path = Path(folder) / "region.png"
                Image.fromarray(pixels).save(path)
                return float(scorer({"image": str(path)}))

        return score


def tile_record(name: str, datastore: Datastore, conf: Mapping[str, str]) -> dict[str, Any]:
    """Return the record of a tile: ``image``, and ``mpp`` if it is known, from the metadata or the settings."""
    mpp = datastore.get_image_info(name).get("mpp") or conf.get("mpp")
    record: dict[str, Any] = {"image": datastore.get_image_uri(name)}
    return record | ({"mpp": float(mpp)} if mpp else {})


def is_tile(path: str) -> bool:
    """Return whether an image is a tile, not a slide; a damaged one counts as a tile, and its error is recorded."""
    try:
        return not is_slide_file(path)
    except RefusalError:
        return True
