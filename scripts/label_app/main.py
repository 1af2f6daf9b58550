"""Semi-MoE behind MONAI Label: segments tiles and slides, learns from a few outlines and all other tiles.

    python scripts/label_app/start.py --studies FOLDER

docs/monai_label.md tells how to use it from QuPath, DSA, CVAT and by plain requests. MONAI Label's own command takes
this folder too: ``monailabel start_server --app scripts/label_app --studies FOLDER -i 127.0.0.1``.
"""

from __future__ import annotations

import copy
import hashlib
import logging
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
for place in (str(ROOT), str(Path(__file__).resolve().parent)):
    if place not in sys.path:
        sys.path.insert(0, place)

import monailabel
import numpy as np
from lib.batch import BatchAnswers
from lib.datastore import TileDatastore
from lib.infer import SegmentationTask
from lib.models import MODEL, ModelFolder
from lib.refusals import BAD, NOT_FOUND, RefusalError, refusing
from lib.scores import DisagreementScoring
from lib.settings import check_settings
from lib.strategies import strategies
from lib.train import TeachingTask
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
    """The app: one model, three strategies, one scoring method.

    Args:
        app_dir: folder of the app.
        studies: folder of images, or address of a DSA server.
        conf: settings, as in ``lib/settings.py``.

    Raises:
        ValueError: for an unknown setting, or a folder that is no bundle.
    """

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]) -> None:
        check_settings(conf)
        self.bundle = Path(conf.get("bundle") or ROOT).expanduser().absolute()
        self.model_folder = ModelFolder(_model_dir(app_dir, studies, conf), self.bundle / "models" / MODEL)
        self._task = SegmentationTask(self.bundle, conf, self.model_folder)
        self._scoring = DisagreementScoring(self.bundle, self.model_folder, conf)
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
        """The folder of images, or a server of them."""
        if self.studies.startswith(("http://", "https://")):
            return super().init_datastore()
        return TileDatastore(
            self.studies,
            self._task.names,
            auto_reload=settings.MONAI_LABEL_DATASTORE_AUTO_RELOAD,
            read_only=settings.MONAI_LABEL_DATASTORE_READ_ONLY,
        )

    def init_infers(self) -> dict[str, InferTask]:
        """The model."""
        return {NAME: self._task}

    def init_trainers(self) -> dict[str, TrainTask]:
        """Its training."""
        return {NAME: TeachingTask(self.bundle, self.conf, self.model_folder, self._task.names)}

    def init_strategies(self) -> dict[str, Strategy]:
        """Which image is next."""
        return strategies(self._scoring, self.pixel_size, self._default_mpp)

    def init_batch_infer(self) -> Callable[..., Any]:
        """Answers for many images at once."""
        return BatchAnswers()

    def init_scoring_methods(self) -> dict[str, ScoringMethod]:
        """How far the experts disagree."""
        return {"disagreement": self._scoring}

    def _load_sessions(self, load: bool = False) -> None:
        """None: a session would unpack any archive that somebody sends."""

    def infer(self, request: dict[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """Answer for an image of the folder, an uploaded one, or pixels.

        Raises:
            RefusalError: for a model or an image that is not there, or one that cannot be read.
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
            noted = store.get_image_info(name).get("mpp") if name is not None else None
            is_file = isinstance(image, str)
            request["mpp"] = resolution(image, noted, self._default_mpp) if is_file else noted or self._default_mpp
        file, params = self._task(request)
        saves = bool(request.get("save_label")) and name is not None and file is not None
        label = file
        if saves:
            label = store.save_label(name, file, tag, {"model": request["model"]})
        return {"label": label, "tag": tag, "file": file, "params": params}

    def infer_wsi(self, request: dict[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """Answer for a region of a slide, or all of it; a tile is answered whole, as viewers expect."""
        return self.infer({**request, "output": request.get("output") or "json"}, datastore)

    def train(self, request: dict[str, Any]) -> dict[str, Any]:
        """Train, then score what has no label yet.

        Raises:
            RefusalError: where the request cannot be served; in a process of its own, the last line says why.
        """
        try:
            task = self._known(self._trainers, request.get("model"))
            result: dict[str, Any] = task(request, self.datastore())
            if self._auto_update_scoring:
                self.scoring({"method": "disagreement", "device": request.get("device")})
        except RefusalError as error:
            if self._server_mode:
                raise
            raise SystemExit(f"training: {error}") from error
        return result

    def bundle_path(self, model: Any) -> str:
        """The bundle, whatever a request says: MONAI Label lets new processes import code from this place.

        Raises:
            RefusalError: 404 for a model that there is not; no process is started for it.
        """
        if model is not None:
            self._known(self._infers, model)
        return str(self.bundle)

    def scoring(self, request: dict[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """Score images without a label."""
        method = self._known(self._scoring_methods, request.get("method"))
        with refusing():
            scored: dict[str, Any] = method(request, datastore or self.datastore())
        return scored

    def next_sample(self, request: dict[str, Any]) -> dict[str, Any]:
        """The image to outline next.

        Raises:
            RefusalError: 404 for a strategy that there is not.
        """
        strategy = self._known(self._strategies, request.get("strategy") or "random")
        found = strategy(request, self.datastore())
        if not found:
            return {}
        waits = any(task["status"] in ("SUBMITTED", "RUNNING") for task in tasks("scoring"))
        if self._auto_update_scoring and self._server_mode and not waits and self._scoring.missing(self.datastore()):
            self.async_scoring("disagreement")
        return {**found, "path": self.datastore().get_image_uri(found["id"])}

    def model_file(self, model: str, validate: bool = True) -> str | None:
        """The model that serves, in the folder of models: MONAI Label may move it away, and the bundle's own must stay.

        It asks for a place that need not exist before it writes a model there; what is there is kept.
        """
        if model not in self._infers:
            return None
        if not validate:
            self.model_folder.folder.mkdir(parents=True, exist_ok=True)
            self.model_folder.keep()
        elif self.model_folder.current.is_file() and not self.model_folder.place.is_file():
            self.model_folder.take(self.model_folder.shipped)
        return self._task.get_path(validate)

    def take_model(self, model: str, place: Path) -> dict[str, Any]:
        """Let uploaded weights serve, if the network takes them; the model before is kept.

        Raises:
            RefusalError: 404 for another model, 422 for a file that holds no weights of this network.
        """
        self._known(self._infers, model)
        with refusing():
            ModelCheckpointLoader(copy.deepcopy(self._task.network), place).load()
        kept = self.model_folder.take(place)
        return {"checksum": f"SHA256:{self.model_folder.digest()}", "kept": kept}

    def _known(self, there: Mapping[str, Any], name: Any) -> Any:
        """What a request names.

        Raises:
            RefusalError: 404.
        """
        if not isinstance(name, str) or name not in there:
            raise RefusalError(NOT_FOUND, f"there is no {str(name)[:80]!r}; there is {', '.join(there) or 'none'}")
        return there[name]

    def _image(self, request: Mapping[str, Any], store: Datastore) -> tuple[str | None, Any]:
        """Name in the folder, where it has one, and path or pixels of what a request is about."""
        image = request.get("image")
        if isinstance(image, np.ndarray):
            return None, image
        if not isinstance(image, str) or not image:
            raise RefusalError(BAD, "the request names no image; give image=NAME, or send a file")
        place = store.get_image_uri(image)
        if place and os.path.isfile(place):
            return image, place
        if place and isinstance(store, DSADatastore):
            found = store.get_image(image, dict(request))  # a path, or the pixels of a region
            return image, found
        path = Path(image)
        if path.is_absolute() and path.is_file() and _is_open(path, self.studies):
            check_image(path, "the uploaded file" if is_received(path) else path.name)
            return None, str(path)
        raise RefusalError(
            NOT_FOUND, f"there is no image {image[:80]!r} in the folder; GET /datastore/?output=all lists them"
        )

    def on_init_complete(self) -> None:
        """Say that requests are welcome, and go on as MONAI Label does."""
        print(f"start: ready, serving {self.studies}", flush=True)
        super().on_init_complete()

    @property
    def _default_mpp(self) -> float | None:
        return float(self.conf["mpp"]) if self.conf.get("mpp") else None


def _model_dir(app_dir: str, studies: str, conf: Mapping[str, str]) -> Path:
    """Where models of a folder of images lie: in it, unless it is a server."""
    if conf.get("model_dir"):
        return Path(conf["model_dir"]).expanduser().absolute()
    if studies.startswith(("http://", "https://")):
        return Path(app_dir) / "model" / hashlib.sha256(studies.encode()).hexdigest()[:12]
    return Path(studies) / "model"


def _is_open(path: Path, studies: str) -> bool:
    """Whether a request may name a file by its path: one in the folder of images, or one that was just received."""
    real = path.resolve()
    return is_received(path) or real.is_relative_to(Path(studies).resolve())
