"""Training on the labeled and unlabeled images; a new model replaces the current one unless it is worse."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from lib.models import MODEL, ModelFolder
from lib.request_checks import check_device, integer, positive
from lib.request_errors import BAD, RefusalError, refusing
from lib.split import TRAINING, VALIDATION, divided
from lib.training_data import Collected, collect
from lib.validation import dice
from monailabel.interfaces.datastore import Datastore
from monailabel.tasks.train.bundle import BundleTrainTask
from monailabel.utils.async_tasks.utils import tasks
from monailabel.utils.others.generic import device_list, name_to_device

from bundle.engines.error_summary import sentence

logger = logging.getLogger(__name__)

STATE, SPLIT, HISTORY = "training", "split", "trainings"
"""Records in the model folder: the current or last training, the parts of labeled images, and all trainings."""
PROGRESS = "progress.json"
OPTIONAL = ("batch_size", "learning_rate", "minutes")
"""Settings of a training that have no default."""
MOST_EPOCHS, MOST_IMAGES, MOST_MINUTES, HIGHEST_RATE = 100_000, 1024, 7 * 24 * 60, 10
STOPPED = "it was stopped; the model is unchanged"


@dataclass(frozen=True)
class Verdict:
    """Result of a training.

    Attributes:
        taken: whether the new model replaced the current one.
        before: pooled Dice of the previous model; ``None`` without such a model or without validation images.
        after: pooled Dice of the new model.
        kept: name of the copy of the replaced model.
        reason: the decision in one sentence.
    """

    taken: bool
    before: float | None
    after: float | None
    kept: str | None
    reason: str


class TrainingTask(BundleTrainTask):
    """Training task with the bundle's ``train.json`` on the labeled and unlabeled images of the folder.

    It trains in a temporary folder. After the training, the new model atomically replaces the current one if its Dice
    on the validation images is at least as high; the previous model is kept.

    Args:
        bundle: folder of the bundle.
        conf: settings of the app.
        models: folder of models.
        names: names of the classes above 0.

    Raises:
        ValueError: if the bundle has no train.json.
    """

    def __init__(self, bundle: Path, conf: dict[str, str], models: ModelFolder, names: Sequence[str]) -> None:
        super().__init__(str(bundle), conf)
        if not self.valid:
            raise ValueError(f"{bundle} cannot train: configs/train.json is missing")
        self.models, self.names = models, list(names)
        self._collected = Collected({}, [])
        self._folder = Path()
        self._settings: dict[str, Any] = {}
        self._records: dict[str, list[dict[str, Any]]] = {}

    def config(self) -> dict[str, Any]:
        """Return the settings that a viewer may change."""
        return {"device": device_list(), "pretrained": True, "max_epochs": 50, "val_split": 0.2}

    def stats(self) -> dict[str, Any]:
        """Return the state of the running training with its progress, or of the last one with its result."""
        state = dict(self.models.read(STATE))
        waiting = [task for task in tasks("train") if task["status"] in ("SUBMITTED", "RUNNING")]
        if waiting and _since(waiting[-1]) > state.get("started", 0):
            return {"state": "starting"}
        if state.get("state") == "running":
            if not self.models.is_training():
                return state | {"state": "stopped", "reason": STOPPED}
            progress = ModelFolder(Path(state["folder"]), MODEL).read(Path(PROGRESS).stem)
            return state | {"progress": progress}
        return state

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Train, validate, and replace the current model if the new one is not worse.

        Args:
            request: ``max_epochs``, ``val_split`` (share of validation images; with 0 all labeled images are for
                training), ``pretrained`` (start from the current model), ``device``, ``batch_size``,
                ``learning_rate``, ``minutes`` (longest training time).
            datastore: images and labels.

        Returns:
            ``taken``, ``before``, ``after`` (pooled Dice), ``kept``, ``reason``, and the numbers of images.

        Raises:
            RefusalError: if there is no label, a setting is out of range, or another training is running.
        """
        self._settings = settings = training_settings(request)
        lock = self.models.training()
        started = time.time()
        state: dict[str, Any] = {"state": "running", "process": os.getpid(), "started": round(started), **settings}
        try:
            runs = self.models.folder / "trainings"
            shutil.rmtree(runs, ignore_errors=True)  # from killed trainings
            runs.mkdir(parents=True)
            self._folder = Path(tempfile.mkdtemp(dir=runs))
            state["folder"] = str(self._folder)
            self.models.write(STATE, state)
            with refusing():
                verdict = self._train(settings, datastore)
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

    def _train(self, settings: dict[str, Any], datastore: Datastore) -> Verdict:
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
            raise RefusalError(BAD, "no image has a final label yet; label an image, submit it, and train again")
        parts = divided(self._collected.labeled, settings["val_split"], self.models.read(SPLIT))
        self._records = {
            part: [record for name in parts if parts[name] == part for record in self._collected.labeled[name]]
            for part in (TRAINING, VALIDATION)
        }
        device = name_to_device(settings["device"])
        validation = self._records[VALIDATION]
        before = None
        if self.models.current.is_file():
            before = dice(Path(self.bundle_path), self.models.current, validation, device, self._folder)
        super().__call__(settings | {"model": Path(self.bundle_path).name, "multi_gpu": False}, datastore)
        trained = self._folder / MODEL
        if not trained.is_file():
            raise RuntimeError("the training wrote no model; see the log")
        after = dice(Path(self.bundle_path), trained, validation, device, self._folder)
        _check_finite(trained)
        verdict = self._decide(before, after, trained, bool(validation))
        new_parts = {name: part for name, part in parts.items() if verdict.taken or part == VALIDATION}
        self.models.write(SPLIT, self.models.read(SPLIT) | new_parts)  # training images are never used for validation
        return verdict

    def _decide(self, before: float | None, after: float | None, trained: Path, validated: bool) -> Verdict:
        """Replace the current model unless the new one is worse."""
        if before is not None and (after is None or after < before):
            score = "undefined" if after is None else f"{after:.4f}"
            reason = f"the new model is worse (Dice {score} after, {before:.4f} before); the current model is kept"
            return Verdict(False, before, after, None, reason)
        kept = self.models.take(trained)
        copy = f"; the previous model is kept as {kept}" if kept else ""
        if before is not None and after is not None:
            reason = f"the new model is used: Dice {after:.4f} after, {before:.4f} before{copy}"
        elif validated:
            reason = f"the new model is used; the validation images gave no Dice to compare{copy}"
        else:
            reason = f"the new model is used, but not compared: there are no validation images{copy}"
        return Verdict(True, before, after, kept, reason)

    def _counts(self) -> dict[str, int]:
        return {
            "labeled": len(self._records[TRAINING]),
            "validation": len(self._records[VALIDATION]),
            "unlabeled": len(self._collected.unlabeled),
        }

    def _fetch_datalist(self, request: Any, datastore: Datastore) -> list[dict[str, Any]]:
        """Return the collected training images instead of MONAI Label's list."""
        return self._records[TRAINING]

    def _partition_datalist(self, datalist: Any, request: Any, shuffle: bool = False) -> tuple[Any, Any]:
        """Return the parts of the split instead of MONAI Label's."""
        return datalist, self._records[VALIDATION]

    def _load_checkpoint(self, model_pytorch: str, pretrained: bool, train_handlers: list[Any]) -> None:
        """Do nothing: ``_update_overrides`` adds the loader."""

    def _update_overrides(self, overrides: dict[str, Any]) -> dict[str, Any]:
        """Set what MONAI Label does not: unlabeled images, folders, and initial weights.

        Paths are ``Path`` objects: in texts, MONAI's parser would replace ``#`` by ``::``.
        """
        handlers = list(overrides["train#handlers"])
        if self._settings["pretrained"] and self.models.current.is_file():
            loader = {"_target_": "bundle.engines.ModelCheckpointLoader", "network": "@network"}
            handlers.insert(0, loader | {"path": self.models.current})
        seconds = 60 * self._settings["minutes"] if "minutes" in self._settings else None
        handlers.append(
            {
                "_target_": "bundle.handlers.ProgressFile",
                "path": self._folder / PROGRESS,
                "evaluator": "@validate#evaluator",
                "limit": seconds,
            }
        )
        if seconds is not None:
            handlers.append({"_target_": "bundle.handlers.TimeLimit", "seconds": seconds})
        overrides |= {key: self._settings[key] for key in ("batch_size", "learning_rate") if key in self._settings}
        overrides |= {
            "train#handlers": handlers,
            "max_epochs": overrides["train#trainer#max_epochs"],
            "train#unlabeled_dataset#data": self._collected.unlabeled,
            "data#datalist": {
                "training": self._records[TRAINING],
                "unlabeled": self._collected.unlabeled,
                "validation": self._records[VALIDATION],
                "test": [],
            },
            "ckpt_dir": self._folder,
            "output_dir": self._folder,
            "device": torch.device(overrides["device"]),
        }
        return overrides


def _since(task: Mapping[str, Any]) -> float:
    """Return the start time of a server task, a timestamp in seconds."""
    return time.mktime(time.strptime(task["start_ts"], "%Y-%m-%d %H:%M:%S"))


def _reason(error: BaseException) -> str:
    """Return why a training ended, in one sentence."""
    if isinstance(error, RefusalError):
        return str(error)
    if isinstance(error, Exception):
        return sentence(error)
    return STOPPED


def training_settings(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the checked settings of a training.

    Raises:
        RefusalError: 400 if a setting is invalid.
    """
    epochs = integer(request, "max_epochs", 50, 1, MOST_EPOCHS)
    share = request.get("val_split", 0.2)
    try:
        share = float(share)
    except (TypeError, ValueError, OverflowError) as error:
        raise RefusalError(BAD, f"val_split is {str(share)[:40]}; it must be a number") from error
    if not 0 <= share < 1:  # false for NaN too
        raise RefusalError(BAD, f"val_split is {share}; the share of validation images must be at least 0 and below 1")
    check_device(request.get("device"))
    device = request.get("device") or ("cuda" if torch.cuda.is_available() else "cpu")
    device = device if isinstance(device, str) else device[0]
    pretrained = request.get("pretrained", True)
    if not isinstance(pretrained, bool):
        raise RefusalError(BAD, f"pretrained is {repr(pretrained)[:40]}; it must be true or false")
    settings = {"max_epochs": epochs, "val_split": share, "pretrained": pretrained, "device": device}
    if request.get("batch_size") is not None:
        settings["batch_size"] = integer(request, "batch_size", 2, 1, MOST_IMAGES)
    numbers = {"learning_rate": HIGHEST_RATE, "minutes": MOST_MINUTES}
    given = {name: positive(request, name, most) for name, most in numbers.items()}
    return settings | {name: value for name, value in given.items() if value is not None}


def _check_finite(path: Path) -> None:
    """Check that all weights are finite.

    Raises:
        ValueError: if they are not.
    """
    weights = torch.load(path, map_location="cpu", weights_only=True)
    if not all(bool(torch.isfinite(value).all()) for value in weights.values() if value.is_floating_point()):
        raise ValueError("the training diverged: its weights are not finite; lower the learning rate")
