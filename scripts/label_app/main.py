"""MONAI Label app of Semi-MoE: segments tiles and slides, and trains on a few labeled and all unlabeled tiles.

    python scripts/label_app/start.py --studies FOLDER

docs/monai_label.md describes the use with QuPath, DSA, CVAT and plain HTTP requests. MONAI Label's own command also
works: ``monailabel start_server --app scripts/label_app --studies FOLDER -i 127.0.0.1``.
"""

from __future__ import annotations

import copy
import logging
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
for folder in (str(ROOT), str(Path(__file__).resolve().parent)):
    if folder not in sys.path:
        sys.path.insert(0, folder)

import monailabel
import numpy as np
from lib.batch import BatchAnswers
from lib.config_lock import PARSING
from lib.datastore import TileDatastore
from lib.features import TileFeatures, encoder_of
from lib.infer import SegmentationTask
from lib.label_versions import label_version
from lib.models import MODEL, ModelFolder, is_url, model_dir
from lib.request_errors import BAD, NOT_FOUND, RefusalError, refusing
from lib.scores import DisagreementScoring
from lib.settings import check_settings
from lib.strategies import strategies
from lib.train import TrainingTask
from lib.uploads import check_image, check_tag, clearing, is_received, resolution
from monailabel.config import settings
from monailabel.datastore.dsa import DSADatastore
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag
from monailabel.interfaces.tasks.infer_v2 import InferTask
from monailabel.interfaces.tasks.scoring import ScoringMethod
from monailabel.interfaces.tasks.strategy import Strategy
from monailabel.interfaces.tasks.train import TrainTask
from monailabel.utils.async_tasks.utils import tasks

from bundle.engines import ModelCheckpointLoader

logger = logging.getLogger(__name__)

NAME = "semi_moe"
"""Name of the model in requests."""


class SemiMoELabel(MONAILabelApp):
    """The app: one model, strategies that select the next image, and what they need of all tiles.

    Args:
        app_dir: folder of the app.
        studies: folder of images, or URL of a DSA server.
        conf: settings, see ``lib/settings.py``.

    Raises:
        ValueError: for an unknown setting, or a folder that is not a bundle.
    """

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]) -> None:
        check_settings(conf)
        self.bundle = Path(conf.get("bundle") or ROOT).expanduser().absolute()
        self.model_folder = ModelFolder(model_dir(app_dir, studies, conf), self.bundle / "models" / MODEL)
        self._task = SegmentationTask(self.bundle, conf, self.model_folder)
        self._scoring = DisagreementScoring(self.bundle, self.model_folder, conf)
        has_features = not is_url(studies) and encoder_of(self._task.network) is not None
        self._features = TileFeatures(self.bundle, self.model_folder, conf) if has_features else None
        self.pixel_size = float(self._task.bundle_config.get_parsed_content("pixel_size"))
        super().__init__(
            app_dir=app_dir,
            studies=studies,
            conf=conf,
            name=f"Semi-MoE ({monailabel.__version__})",
            description=self._task.description,
            version=str(self._task.version),
            labels=self._task.names,
        )

    def init_datastore(self) -> Datastore:
        """Return the datastore: a local folder or a DSA server."""
        if is_url(self.studies):
            return super().init_datastore()
        return TileDatastore(
            self.studies,
            self._task.names,
            auto_reload=settings.MONAI_LABEL_DATASTORE_AUTO_RELOAD,
            read_only=settings.MONAI_LABEL_DATASTORE_READ_ONLY,
        )

    def init_infers(self) -> dict[str, InferTask]:
        """Return the model."""
        return {NAME: self._task}

    def init_trainers(self) -> dict[str, TrainTask]:
        """Return the training task of the model."""
        return {NAME: TrainingTask(self.bundle, self.conf, self.model_folder, self._task.names)}

    def init_strategies(self) -> dict[str, Strategy]:
        """Return the strategies that select the next image."""
        return strategies(self._scoring, self._features, self.pixel_size, self.default_mpp)

    def init_batch_infer(self) -> Callable[..., Any]:
        """Return the batch inference task."""
        return BatchAnswers()

    def init_scoring_methods(self) -> dict[str, ScoringMethod]:
        """Return what is computed of all tiles in the background: features, and disagreement of the experts."""
        features = {} if self._features is None else {"features": self._features}
        return {**features, "disagreement": self._scoring}

    def _load_sessions(self, load: bool = False) -> None:
        """Disable sessions, which unpack any uploaded archive."""

    def infer(self, request: dict[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """Segment an image of the folder, an uploaded image, or pixels.

        Raises:
            RefusalError: if the model or the image does not exist, or the image cannot be read.
        """
        with clearing(request.get("image")):
            return self._infer(request, datastore or self.datastore())

    def _infer(self, request: dict[str, Any], store: Datastore) -> dict[str, Any]:
        self._known(self._infers, request.get("model"))
        tag = request.get("label_tag") or DefaultLabelTag.ORIGINAL
        check_tag(str(getattr(tag, "value", tag)))
        name, image = self._image(request, store)
        request = {**request, "image": image, "description": self._task.description}
        if request.get("mpp") is None:
            stored = store.get_image_info(name).get("mpp") if name is not None else None
            is_file = isinstance(image, str)
            request["mpp"] = resolution(image, stored, self.default_mpp) if is_file else stored or self.default_mpp
        file, params = self._task(request)
        saves = bool(request.get("save_label")) and name is not None and file is not None
        label = file
        if saves:
            label = store.save_label(name, file, tag, {"model": request["model"]})
        return {"label": label, "tag": tag, "file": file, "params": params}

    def infer_wsi(self, request: dict[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """Segment a region of a slide, a whole slide, or a whole tile, as viewers expect."""
        return self.infer({**request, "output": request.get("output") or "json"}, datastore)

    def train(self, request: dict[str, Any]) -> dict[str, Any]:
        """Train, then score the unlabeled images.

        Raises:
            RefusalError: if the request is invalid, in server mode.
            SystemExit: if the request is invalid, in a separate process.
        """
        try:
            task = self._known(self._trainers, request.get("model"))
            with PARSING:  # a training in the server's own process parses configs too
                result: dict[str, Any] = task(request, self.datastore())
            if self._auto_update_scoring:
                self.scoring({"method": "disagreement", "device": request.get("device")})
        except RefusalError as error:
            if self._server_mode:
                raise
            raise SystemExit(f"training: {error}") from error
        return result

    def bundle_path(self, model: Any) -> str:
        """Return the folder of the bundle for any request: MONAI Label imports code from it in new processes.

        Raises:
            RefusalError: 404 if the model does not exist; no process is started.
        """
        if model is not None:
            self._known(self._infers, model)
        return str(self.bundle)

    def scoring(self, request: dict[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """Score the unlabeled images, or compute the features of all."""
        method = self._known(self._scoring_methods, request.get("method"))
        with refusing():
            scored: dict[str, Any] = method(request, datastore or self.datastore())
        return scored

    def next_sample(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the image to label next.

        Raises:
            RefusalError: 404 if the strategy does not exist.
        """
        strategy = self._known(self._strategies, request.get("strategy") or "random")
        sample = strategy(request, self.datastore())
        if not sample:
            return {}
        is_scoring = any(task["status"] in ("SUBMITTED", "RUNNING") for task in tasks("scoring"))
        if self._auto_update_scoring and self._server_mode and not is_scoring:
            for name, method in self._scoring_methods.items():
                if method.missing(self.datastore()):
                    self.async_scoring(name)
        return {**sample, "path": self.datastore().get_image_uri(sample["id"])}

    def model_file(self, model: str, validate: bool = True) -> str | None:
        """Return the path of the current model in the model folder, which MONAI Label may move, unlike the bundle's.

        With ``validate=False`` MONAI Label will write a model to this path; an existing model is kept.
        """
        if model not in self._infers:
            return None
        if not validate:
            self.model_folder.folder.mkdir(parents=True, exist_ok=True)
            self.model_folder.keep()
        elif self.model_folder.current.is_file() and not self.model_folder.trained.is_file():
            self.model_folder.take(self.model_folder.shipped)
        return self._task.get_path(validate)

    def take_model(self, model: str, path: Path) -> dict[str, Any]:
        """Replace the current model by uploaded weights, if they fit the network; the previous model is kept.

        Raises:
            RefusalError: 404 for another model, 422 if the weights do not fit the network.
        """
        self._known(self._infers, model)
        with refusing():
            ModelCheckpointLoader(copy.deepcopy(self._task.network), path).load()
        kept = self.model_folder.take(path)
        return {"checksum": f"SHA256:{self.model_folder.digest()}", "kept": kept}

    def _known(self, available: Mapping[str, Any], name: Any) -> Any:
        """Return the item that a request names.

        Raises:
            RefusalError: 404.
        """
        if not isinstance(name, str) or name not in available:
            raise RefusalError(
                NOT_FOUND, f"there is no {str(name)[:80]!r}; available: {', '.join(available) or 'none'}"
            )
        return available[name]

    def _image(self, request: Mapping[str, Any], store: Datastore) -> tuple[str | None, Any]:
        """Return the image of a request: its name in the folder, if it has one, and its path or pixels."""
        image = request.get("image")
        if isinstance(image, np.ndarray):
            return None, image
        if not isinstance(image, str) or not image:
            raise RefusalError(BAD, "the request names no image; give image=NAME, or upload a file")
        uri = store.get_image_uri(image)
        if uri and os.path.isfile(uri):
            return image, uri
        if uri and isinstance(store, DSADatastore):
            return image, store.get_image(image, dict(request))  # a path, or the pixels of a region
        path = Path(image)
        if path.is_absolute() and path.is_file() and _is_open(path, self.studies):
            check_image(path, "the uploaded file" if is_received(path) else path.name)
            return None, str(path)
        raise RefusalError(
            NOT_FOUND, f"there is no image {image[:80]!r} in the folder; GET /datastore/?output=all lists all images"
        )

    def on_init_complete(self) -> None:
        """Print that the server is ready, and continue as MONAI Label does."""
        print(f"start: ready, serving {self.studies}", flush=True)
        super().on_init_complete()

    def on_save_label(self, image_id: str, label_id: str) -> dict[str, str]:
        """Return the version of a new label, for the response."""
        return {"version": label_version(self.datastore().get_label_uri(label_id, DefaultLabelTag.FINAL))}

    @property
    def colors(self) -> dict[str, list[int]]:
        """Colors of the classes, RGB in [0, 255]."""
        return dict(self._task.colors)

    @property
    def default_mpp(self) -> float | None:
        """Pixel size of images without a known one, um/px."""
        return float(self.conf["mpp"]) if self.conf.get("mpp") else None


def _is_open(path: Path, studies: str) -> bool:
    """Return whether a request may name this path: a file in the folder of images, or an uploaded file."""
    real = path.resolve()
    return is_received(path) or real.is_relative_to(Path(studies).resolve())
