"""What outlives a training: the best model, and all that a later run needs to go on."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ignite import distributed as idist
from ignite.engine import Engine, Events
from torch import nn

logger = logging.getLogger(__name__)


def save_whole(content: Any, path: str | os.PathLike[str]) -> None:
    """Write a file with ``torch.save`` whole or not at all: beside its place first, then renamed into it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def weights_of(network: nn.Module) -> dict[str, Any]:
    """The state dict of a network with all tensors on the CPU, so that a file written on a GPU loads anywhere."""
    return {name: value.detach().cpu() for name, value in network.state_dict().items()}


class BestModel:
    """Keeps the network of the best validation as a plain state dict, ``model.pt``; stands in ``validate#handlers``.

    MONAI's ``CheckpointSaver`` removes the old file before it writes the new one, and forgets the best score over a
    restart; this does neither.

    Args:
        network: the bare network.
        path: file to write.
        metric: name of the metric that decides, larger is better; default is the evaluator's key metric.
    """

    def __init__(self, network: nn.Module, path: str | os.PathLike[str], metric: str | None = None) -> None:
        self.network = network
        self.path = Path(path)
        self.metric = metric
        self.score: float | None = None
        self.epoch: int | None = None

    def attach(self, engine: Engine) -> None:
        """Look at the score after each validation."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._compare)

    def state_dict(self) -> dict[str, Any]:
        """Best score so far and its epoch, ``None`` before the first validation."""
        return {"score": self.score, "epoch": self.epoch}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what an earlier run reached."""
        self.score, self.epoch = state["score"], state["epoch"]

    def _compare(self, engine: Any) -> None:
        score = float(engine.state.metrics[self.metric or engine.state.key_metric_name])
        if self.score is not None and not (score > self.score or math.isnan(self.score)):  # NaN beats nothing
            return
        self.score, self.epoch = score, engine.state.epoch
        if idist.get_rank() == 0:
            save_whole(weights_of(self.network), self.path)


class LastModel:
    """Keeps the network of the end of a training without validation, ``model.pt``; stands in ``train#handlers``.

    Args:
        network: the bare network.
        path: file to write.
    """

    def __init__(self, network: nn.Module, path: str | os.PathLike[str]) -> None:
        self.network = network
        self.path = Path(path)

    def attach(self, engine: Engine) -> None:
        """Save once, when the training is over."""
        engine.add_event_handler(Events.COMPLETED, self._save)

    def _save(self) -> None:
        if idist.get_rank() == 0:
            save_whole(weights_of(self.network), self.path)


class ResumeFile:
    """A file with all that a training needs to go on after its last whole epoch.

    The ``training`` list attaches it to the trainer, last, so that it sees what all other handlers did in the epoch.

    Args:
        path: file to write.
        items: name -> object with ``state_dict`` and ``load_state_dict``: network, optimizer, schedule, objective,
            best model, a teacher.
        resume: whether to go on from the file; without a file the training starts afresh and says so.

    Raises:
        ValueError: when the file on disk was written by a training of another shape.
    """

    def __init__(self, path: str | os.PathLike[str], items: Mapping[str, Any], resume: bool = False) -> None:
        self.path = Path(path)
        self.items = dict(items)
        self.resume = resume

    def attach(self, engine: Engine) -> None:
        """Bring the trainer to where the file left off, if asked to, and keep the file up to date."""
        if self.resume:
            self._restore(engine)
        if idist.get_rank() == 0:
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._save)

    def _save(self, trainer: Engine) -> None:
        content = {name: item.state_dict() for name, item in self.items.items()}
        content["trainer"] = {name: getattr(trainer.state, name) for name in ("epoch", "epoch_length", "max_epochs")}
        scaler = getattr(trainer, "scaler", None)
        if scaler is not None:
            content["scaler"] = scaler.state_dict()  # empty without CUDA
        save_whole(content, self.path)

    def _restore(self, trainer: Any) -> None:
        if not self.path.is_file():
            logger.info("Nothing to resume at %s: training starts afresh.", self.path)
            return
        content = torch.load(self.path, map_location="cpu", weights_only=True)
        missing = sorted(set(self.items) - set(content))
        length = content["trainer"]["epoch_length"]
        if missing or length != trainer.state.epoch_length:
            raise ValueError(
                f"{self.path} was written by another training: it lacks {missing or 'nothing'} and has {length} steps "
                f"an epoch, this one {trainer.state.epoch_length}; start with --resume False or another --ckpt_dir"
            )
        for name, item in self.items.items():
            try:
                item.load_state_dict(content[name])
            except (RuntimeError, KeyError, ValueError) as error:
                raise ValueError(f"{self.path} does not fit this training ({name}): {error}") from error
        trainer.state.epoch = content["trainer"]["epoch"]
        trainer.state.iteration = trainer.state.epoch * length
        planned = content["trainer"].get("max_epochs", trainer.state.max_epochs)
        if planned != trainer.state.max_epochs:
            logger.warning(
                "%s is of a training of %s epochs, this one has %s: ramps follow the new number, the learning rate "
                "goes on as its schedule was saved, and is 0 where that schedule has ended.",
                *(self.path, planned, trainer.state.max_epochs),
            )
        if trainer.amp and content.get("scaler"):  # MONAI makes the scaler when the run starts
            trainer.add_event_handler(Events.STARTED, lambda: trainer.scaler.load_state_dict(content["scaler"]))
        logger.info("Resumed from %s: %d epochs are done.", self.path, trainer.state.epoch)
