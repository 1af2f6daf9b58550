"""How far the experts disagree about each image without a label; asked for once a model, and kept."""

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
from lib.models import ModelFolder
from monai.bundle import ConfigParser
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.scoring import ScoringMethod
from monailabel.utils.others.generic import name_to_device
from numpy.typing import NDArray
from PIL import Image

from bundle.engines import ModelCheckpointLoader
from bundle.engines.error_summary import sentence
from bundle.inference.slides import is_slide

logger = logging.getLogger(__name__)

SCORES = "scores"
"""Note in the folder of models: digest of the model, and the score of each image."""
OVERLAY = "inference/scoring.yaml"


class DisagreementScoring(ScoringMethod):
    """The mean entropy between experts and gates over a tile, in [0, 1], for all tiles without a final label.

    Scores lie in ``scores.json`` of the folder of models, and not in MONAI Label's index, which another process writes.
    A new model makes all scores anew. Slides have none: of them the next region is asked for.

    Args:
        bundle: folder of the bundle.
        models: where the model that serves lies.
        conf: settings of the app.
    """

    def __init__(self, bundle: Path, models: ModelFolder, conf: Mapping[str, str]) -> None:
        super().__init__("Disagreement of the experts over a tile: outline first where it is high")
        self.bundle, self.models, self.conf = bundle, models, conf

    def info(self) -> dict[str, Any]:
        """What /info says: the scores of the model that serves, highest first."""
        ranked = sorted(self.scores().items(), key=lambda item: -item[1])
        return super().info() | {"scores": dict(ranked)}

    def scores(self) -> dict[str, float]:
        """Scores of the model that serves by name of the image; none where it has not been asked yet."""
        note = self.models.read(SCORES)
        return dict(note.get("scores", {})) if note.get("model") == self.models.digest() else {}

    def _failed(self) -> dict[str, str]:
        """Images that the model that serves could not be asked about, with the reason; asked again after a training."""
        note = self.models.read(SCORES)
        return dict(note.get("failed", {})) if note.get("model") == self.models.digest() else {}

    def missing(self, datastore: Datastore) -> list[str]:
        """Tiles without a label whose score is not known, by name."""
        known = {**self.scores(), **self._failed()}
        names = (name for name in sorted(datastore.get_unlabeled_images()) if name not in known)
        return [name for name in names if not is_slide(datastore.get_image_uri(name))]

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Score what has no score yet.

        Args:
            request: ``device``; ``max_samples``, how many images at most, 0 for all.
            datastore: images and labels.

        Returns:
            How many images were ``scored``, ``left`` unscored, and ``failed`` with the reason by name.
        """
        self.models.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.models.folder / ".scoring.lock"):  # one that began before this holds it until it is done
            return self._scored(request, datastore)

    def _scored(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Score as one of its kind."""
        started = time.time()
        names, digest, scores = self.missing(datastore), self.models.digest(), self.scores()
        wanted = names[: int(request.get("max_samples") or 0) or len(names)]
        failed = self._failed()
        before = len(failed)
        scorer: Callable[[dict[str, Any]], float] | None = None
        done = 0
        for name in wanted:
            scorer = scorer or self.scorer(request.get("device"))
            try:
                scores[name] = round(float(scorer(self._record(name, datastore))), 6)
            except (OSError, RuntimeError, ValueError) as error:
                failed[name] = sentence(error)
                logger.warning("no score for %s: %s", name, failed[name])
            if self.models.digest() != digest:
                logger.info("Scoring ends: another model serves; the next scoring is its own.")
                break
            self.models.write(SCORES, {"model": digest, "scores": scores, "failed": failed})
            done += 1
        new = len(failed) - before
        result = {"scored": done - new, "left": len(names) - done, "failed": failed}
        logger.info("Scoring: %s in %.1f s", result, time.time() - started)
        return result

    def scorer(self, device: str | None = None) -> Any:
        """What gives a record ``{"image": path}`` its score, with the model that serves."""
        configs = self.bundle / "configs"
        parser = ConfigParser()
        parser.read_config([str(configs / "inference.json"), str(configs / OVERLAY)])
        place = torch.device(name_to_device(device or "cuda"))
        parser.update({"bundle_root": str(self.bundle), "device": place})
        if self.conf.get("score"):
            parser.update({"score": self.conf["score"]})
        ModelCheckpointLoader(parser.get_parsed_content("network"), self.models.current).load()
        return parser.get_parsed_content("scorer")

    def of_pixels(self) -> Callable[[NDArray[np.uint8]], float]:
        """What gives RGB pixels (H, W, 3) at the working resolution their score."""
        scorer = self.scorer()

        def score(pixels: NDArray[np.uint8]) -> float:
            with tempfile.TemporaryDirectory(prefix="region_") as folder:
                place = Path(folder) / "region.png"
                Image.fromarray(pixels).save(place)
                return float(scorer({"image": str(place)}))

        return score

    def _record(self, name: str, datastore: Datastore) -> dict[str, Any]:
        known = datastore.get_image_info(name).get("mpp") or self.conf.get("mpp")  # tiles alone have scores
        record: dict[str, Any] = {"image": datastore.get_image_uri(name)}
        return record | ({"mpp": float(known)} if known else {})
