"""Training from the labels in the folder and all images without one; a model is replaced by a better one alone."""

from __future__ import annotations

import logging
import math
import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from lib.collect import Collected, collect
from lib.judge import dice
from lib.models import MODEL, ModelFolder
from lib.refusals import BAD, RefusalError, refusing
from lib.split import TRAINING, VALIDATION, divided
from monailabel.interfaces.datastore import Datastore
from monailabel.tasks.train.bundle import BundleTrainTask
from monailabel.utils.async_tasks.utils import tasks
from monailabel.utils.others.generic import device_list, name_to_device

from bundle.engines.error_summary import sentence

logger = logging.getLogger(__name__)

STATE, SPLIT, HISTORY = "training", "split", "trainings"
"""Notes in the folder of models: the training that goes on or was last, who judges, and all trainings."""
PROGRESS = "progress.json"


@dataclass(frozen=True)
class Verdict:
    """What became of a training.

    Attributes:
        taken: whether its model serves now.
        before: pooled Dice of the model that served; ``None`` without one, or without images that judge.
        after: of the trained one.
        kept: name of the model that was replaced.
        reason: the decision in one sentence.
    """

    taken: bool
    before: float | None
    after: float | None
    kept: str | None
    reason: str


class TeachingTask(BundleTrainTask):
    """The bundle's ``train.json`` behind a request: learns from labeled and unlabeled images of the folder.

    It trains in a folder of its own. Only when it is over, and its model is at least as good as the one that serves on
    the images that judge, the model is put in its place in one step; the one before is kept.

    Args:
        bundle: folder of the bundle.
        conf: settings of the app.
        models: where the model that serves lies.
        names: of the classes above 0.

    Raises:
        ValueError: where the bundle has no train.json.
    """

    def __init__(self, bundle: Path, conf: dict[str, str], models: ModelFolder, names: Sequence[str]) -> None:
        super().__init__(str(bundle), conf)
        if not self.valid:
            raise ValueError(f"{bundle} cannot train: it lacks configs/train.json")
        self.models, self.names = models, list(names)
        self._collected = Collected({}, [])
        self._folder = Path()
        self._settings: dict[str, Any] = {}
        self._records: dict[str, list[dict[str, Any]]] = {}

    def config(self) -> dict[str, Any]:
        """What a viewer may set."""
        return {"device": device_list(), "pretrained": True, "max_epochs": 50, "val_split": 0.2}

    def stats(self) -> dict[str, Any]:
        """The training that goes on, with its progress, or the last one with its verdict."""
        state = dict(self.models.read(STATE))
        waiting = [task for task in tasks("train") if task["status"] in ("SUBMITTED", "RUNNING")]
        if waiting and _since(waiting[-1]) > state.get("started", 0):
            return {"state": "starting"}
        if state.get("state") == "running":
            if not self.models.is_training():
                return state | {"state": "stopped", "reason": "it was stopped; the model is as it was"}
            progress = ModelFolder(Path(state["folder"]), MODEL).read(Path(PROGRESS).stem)
            return state | {"progress": progress}
        return state

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Train, judge, and put the model in its place or not.

        Args:
            request: ``max_epochs``, ``val_split`` (share of labeled images that judge; 0 lets all teach),
                ``pretrained`` (go on from the model that serves), ``device``.
            datastore: images and labels.

        Returns:
            ``taken``, ``before``, ``after`` (pooled Dice), ``kept``, ``reason``, and how many images taught and judged.

        Raises:
            RefusalError: where there is no label, a setting is out of range, or another training goes on.
        """
        self._settings = settings = _settings(request)
        lock = self.models.training()
        started = time.time()
        state: dict[str, Any] = {"state": "running", "process": os.getpid(), "started": round(started), **settings}
        try:
            runs = self.models.folder / "trainings"
            shutil.rmtree(runs, ignore_errors=True)  # of trainings that were killed
            runs.mkdir(parents=True)
            self._folder = Path(tempfile.mkdtemp(dir=runs))
            state["folder"] = str(self._folder)
            self.models.write(STATE, state)
            with refusing():
                verdict = self._trained(settings, datastore)
            state |= {"state": "done", **asdict(verdict), **self._counts()}
        except BaseException as error:
            state |= {"state": "failed", "reason": _reason(error)}
            raise
        finally:
            state |= {"seconds": round(time.time() - started, 1)}
            state.pop("folder", None)
            self.models.write(STATE, state)
            self.models.note(HISTORY, state)
            shutil.rmtree(self.models.folder / "trainings", ignore_errors=True)
            lock.release()
        logger.info("Training: %s", verdict.reason)
        return {key: value for key, value in state.items() if key != "process"}

    def _trained(self, settings: dict[str, Any], datastore: Datastore) -> Verdict:
        parser = self.bundle_config
        self._collected = collect(
            datastore,
            self.models.folder / "tiles",
            pixel_size=float(parser.get_parsed_content("pixel_size")),
            side=max(parser.get_parsed_content("crop_size")),
            numbers={name: number for number, name in enumerate(self.names, 1)},
            mpp=float(self.conf["mpp"]) if self.conf.get("mpp") else None,
            unlabeled_per_slide=int(self.conf.get("unlabeled_per_slide", 20)),
        )
        if not self._collected.labeled:
            raise RefusalError(BAD, "no image has a final label yet; outline glands on one, submit it, and train again")
        parts = divided(self._collected.labeled, settings["val_split"], self.models.read(SPLIT))
        self._records = {
            part: [record for name, at in parts.items() if at == part for record in self._collected.labeled[name]]
            for part in (TRAINING, VALIDATION)
        }
        device = name_to_device(settings["device"])
        judging = self._records[VALIDATION]
        before = None
        if self.models.current.is_file():
            before = dice(Path(self.bundle_path), self.models.current, judging, device, self._folder)
        super().__call__(settings | {"model": Path(self.bundle_path).name, "multi_gpu": False}, datastore)
        trained = self._folder / MODEL
        if not trained.is_file():
            raise RuntimeError("the training wrote no model; the log says why")
        after = dice(Path(self.bundle_path), trained, judging, device, self._folder)
        _check_finite(trained)
        verdict = self._decided(before, after, trained, bool(judging))
        noted = {name: part for name, part in parts.items() if verdict.taken or part == VALIDATION}
        self.models.write(SPLIT, self.models.read(SPLIT) | noted)  # who taught the model that serves judges no more
        return verdict

    def _decided(self, before: float | None, after: float | None, trained: Path, judged: bool) -> Verdict:
        """Put the model in its place if it is at least as good."""
        if before is not None and (after is None or after < before):
            said = "none" if after is None else f"{after:.4f}"
            reason = f"the new model is worse (Dice {said} after, {before:.4f} before); the old one goes on serving"
            return Verdict(False, before, after, None, reason)
        kept = self.models.take(trained)
        stays = f"; the one before is kept as {kept}" if kept else ""
        if before is not None and after is not None:
            reason = f"the new model serves: Dice {after:.4f} after, {before:.4f} before{stays}"
        elif judged:
            reason = f"the new model serves; the images that judge gave no Dice to compare{stays}"
        else:
            reason = f"the new model serves, not compared: no labeled image was left to judge{stays}"
        return Verdict(True, before, after, kept, reason)

    def _counts(self) -> dict[str, int]:
        return {
            "labeled": len(self._records[TRAINING]),
            "validation": len(self._records[VALIDATION]),
            "unlabeled": len(self._collected.unlabeled),
        }

    def _fetch_datalist(self, request: Any, datastore: Datastore) -> list[dict[str, Any]]:
        """What was collected already, in place of MONAI Label's list."""
        return self._records[TRAINING]

    def _partition_datalist(self, datalist: Any, request: Any, shuffle: bool = False) -> tuple[Any, Any]:
        """What was divided already."""
        return datalist, self._records[VALIDATION]

    def _load_checkpoint(self, model_pytorch: str, pretrained: bool, train_handlers: list[Any]) -> None:
        """Nothing: the loader comes with the other changes."""

    def _update_overrides(self, overrides: dict[str, Any]) -> dict[str, Any]:
        """Set what MONAI Label does not: the unlabeled images, the place, and where to start from."""
        handlers = list(overrides["train#handlers"])
        if self._settings["pretrained"] and self.models.current.is_file():
            loader = {"_target_": "bundle.engines.ModelCheckpointLoader", "network": "@network"}
            handlers.insert(0, loader | {"path": str(self.models.current)})
        handlers.append(
            {
                "_target_": "bundle.handlers.ProgressFile",
                "path": str(self._folder / PROGRESS),
                "evaluator": "@validate#evaluator",
            }
        )
        overrides |= {
            "train#handlers": handlers,
            "max_epochs": overrides["train#trainer#max_epochs"],
            "train#unlabeled_dataset#data": self._collected.unlabeled,
            "unlabeled": self._collected.unlabeled,
            "datalist": {
                "training": self._records[TRAINING],
                "unlabeled": self._collected.unlabeled,
                "validation": self._records[VALIDATION],
                "test": [],
            },
            "ckpt_dir": str(self._folder),
            "output_dir": str(self._folder),
            "device": torch.device(overrides["device"]),
        }
        return overrides


def _since(task: Mapping[str, Any]) -> float:
    """When a task of the server was asked for, seconds."""
    return time.mktime(time.strptime(task["start_ts"], "%Y-%m-%d %H:%M:%S"))


def _reason(error: BaseException) -> str:
    """Why a training ended, in one sentence."""
    if isinstance(error, RefusalError):
        return str(error)
    if isinstance(error, Exception):
        return sentence(error)
    return "it was stopped; the model is as it was"


def _settings(request: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a training, each in its range.

    Raises:
        RefusalError: 400 for one that is not.
    """
    try:
        epochs, share = int(request.get("max_epochs", 50)), float(request.get("val_split", 0.2))
    except (TypeError, ValueError) as error:
        raise RefusalError(BAD, "max_epochs must be a whole number and val_split a number") from error
    if epochs < 1:
        raise RefusalError(BAD, f"max_epochs is {epochs}; it must be 1 or more")
    if not 0 <= share < 1 or math.isnan(share):
        raise RefusalError(
            BAD, f"val_split is {share}; it is the share of labeled images that judge: 0 (none) to below 1"
        )
    device = request.get("device") or ("cuda" if torch.cuda.is_available() else "cpu")
    device = device if isinstance(device, str) else device[0]
    pretrained = request.get("pretrained", True)
    if not isinstance(pretrained, bool):
        raise RefusalError(BAD, f"pretrained is {pretrained!r}; it must be true or false")
    return {"max_epochs": epochs, "val_split": share, "pretrained": pretrained, "device": device}


def _check_finite(path: Path) -> None:
    """Refuse weights that are not finite.

    Raises:
        ValueError: where one is not.
    """
    weights = torch.load(path, map_location="cpu", weights_only=True)
    if not all(bool(torch.isfinite(value).all()) for value in weights.values() if value.is_floating_point()):
        raise ValueError("the training ran away: its weights are not finite; lower the learning rate")
