"""Resume file: everything that a training needs to continue after its last complete epoch."""

from __future__ import annotations

import logging
import math
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ignite import distributed as idist
from ignite.engine import Engine, Events
from ignite.handlers import EarlyStopping
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from bundle.engines.file_writers import check_writable, save_whole
from bundle.engines.model_file import differences, is_count, is_number, read_saved
from bundle.utils import remove_partials

logger = logging.getLogger(__name__)

ADVICE = "resume with the same configs and settings as before, or give --resume False and another --ckpt_dir"
TRAINER = "trainer"
COUNTS = ("epoch", "epoch_length", "max_epochs")
MOST_EPOCHS = 1_000_000
"""Largest number of epochs, as in the schema of settings."""
WORKERS = "num_workers"
MOMENTS = {"exp_avg", "exp_avg_sq", "momentum_buffer"}
"""Parts of the states of torch's optimizers that have the shape of their weights."""
SETTING = "setting"
PATIENCE = "--train#early_stop#patience"


class ResumeFile:
    """Handler that saves the state of a training after each epoch and restores it.

    The ``training`` list attaches it to the trainer last, so that it saves what all other handlers did in the epoch.
    Learned values come from the file. Settings come from the config: learning rates, decay and the schedule are those
    of the new run at the current epoch, so that a training may continue with more epochs.

    Args:
        path: file to write.
        items: name -> object with ``state_dict`` and ``load_state_dict``: network, optimizer, schedule, objective,
            best model, a teacher.
        resume: whether to restore the file; if there is none, the training starts from the beginning and logs this.
        setting: name -> string or number that must be the same after a restart, such as the seed and a digest of the
            images. Otherwise the best score could belong to other images, or training images be used for validation.

    Raises:
        OSError: if the file cannot be written; checked when the handler is attached.
        ValueError: if the existing file is damaged, or was written by a training that does not match.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        items: Mapping[str, Any],
        resume: bool = False,
        setting: Mapping[str, str | int | float | None] | None = None,
    ) -> None:
        self.path = Path(path)
        self.items = dict(items)
        self.resume = resume
        self.setting = dict(setting or {})

    def attach(self, engine: Engine) -> None:
        """Restore the file if ``resume`` is set, and save after each epoch."""
        if self.resume:
            self._restore(engine)
        else:
            existing = [path for path in (self.path.parent.parent / "model.pt", self.path) if path.is_file()]
            if existing:
                logger.warning(
                    "Training starts from the beginning and will overwrite %s; stop it and give another --output_dir "
                    "to keep the files, or --resume True to continue.",
                    " and ".join(map(str, existing)),
                )
        if idist.get_rank() == 0:
            check_writable(self.path.parent)
            remove_partials(self.path)
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._save)

    def _save(self, trainer: Engine) -> None:
        content = {name: item.state_dict() for name, item in self.items.items()}
        content[TRAINER] = {name: getattr(trainer.state, name) for name in COUNTS} | {"kinds": self._kinds()}
        content[TRAINER][WORKERS] = _workers(trainer)
        content[SETTING] = self.setting
        scaler = getattr(trainer, "scaler", None)
        if scaler is not None:
            content["scaler"] = scaler.state_dict()  # empty without CUDA
        save_whole(content, self.path)

    def _restore(self, trainer: Any) -> None:
        if not self.path.is_file():
            logger.info("There is no resume file %s: training starts from the beginning.", self.path)
            return
        content = read_saved(self.path, "a resume file", "remove it, or start with --resume False")
        self._check(content, trainer)
        for name, item in self.items.items():
            if not isinstance(item, LRScheduler):
                self._load(name, item, content[name])
        for name, item in self.items.items():  # after the optimizers, whose learning rates they set
            if isinstance(item, LRScheduler):
                self._load(name, item, content[name], content[TRAINER]["epoch"] * trainer.state.epoch_length)
        trainer.state.epoch = content[TRAINER]["epoch"]
        trainer.state.iteration = trainer.state.epoch * trainer.state.epoch_length
        if trainer.amp and content.get("scaler"):  # MONAI creates the scaler when the run starts
            trainer.add_event_handler(Events.STARTED, lambda: self._load("scaler", trainer.scaler, content["scaler"]))
        self._log_summary(content, trainer)
        if any(isinstance(item, EarlyStopping) and item.counter >= item.patience for item in self.items.values()):
            logger.info("Early stopping ended this training, no epoch is left; raise %s to continue.", PATIENCE)
            trainer.add_event_handler(Events.STARTED, trainer.terminate)

    def _check(self, content: Any, trainer: Any) -> None:
        """Raise an error for the file of another training, before anything is changed."""
        if not isinstance(content, Mapping) or not isinstance(content.get(TRAINER), Mapping):
            raise ValueError(f"{self.path} is not a resume file: it lacks {TRAINER!r}; {ADVICE}")
        for name, default in (("epoch", None), ("max_epochs", MOST_EPOCHS)):
            count = content[TRAINER].get(name, default)
            if not is_count(count, 1, MOST_EPOCHS):
                raise ValueError(f"{self.path} is damaged: {name} is {count!r}, which no training writes; {ADVICE}")
        missing = sorted(set(self.items) - set(content))
        length = content[TRAINER].get("epoch_length")
        if missing or length != trainer.state.epoch_length:
            raise ValueError(
                f"{self.path} was written by another training: it lacks {missing or 'nothing'} and has {length} steps "
                f"per epoch, this training has {trainer.state.epoch_length}; {ADVICE}"
            )
        saved, kinds = content.get(SETTING, {}), content[TRAINER].get("kinds", {})
        parts = {name: content[name] for name in self.items} | {SETTING: saved, "kinds": kinds}
        wrong = [f"{name} is {type(part).__name__}" for name, part in parts.items() if not isinstance(part, Mapping)]
        wrong += [] if wrong else [f"{name} is a tensor" for name, value in saved.items() if torch.is_tensor(value)]
        if wrong:
            raise ValueError(f"{self.path} is damaged: {', '.join(wrong)}; {ADVICE}")
        for name, value in self.setting.items():
            if saved.get(name, value) != value:
                raise ValueError(
                    f"{self.path} was written by a training with another {name} ({saved[name]}, now {value}); {ADVICE}"
                )
        for name, kind in self._kinds().items():
            if kinds.get(name, kind) != kind:
                raise ValueError(
                    f"{self.path} does not fit this training: {name} is {kinds[name]}, not {kind}; {ADVICE}"
                )
        for name, item in self.items.items():
            faults = differences(item.state_dict(), content[name]) if isinstance(item, nn.Module) else ""
            if faults:
                raise ValueError(f"{self.path} does not fit this training ({name}): {faults}; {ADVICE}")

    def _kinds(self) -> dict[str, str]:
        """Return the class names of networks and optimizers; states of two classes may have equal shapes."""
        return {
            name: type(item).__name__ for name, item in self.items.items() if isinstance(item, nn.Module | Optimizer)
        }

    def _load(self, name: str, item: Any, state: Any, limit: int = 0) -> None:
        try:
            if isinstance(item, Optimizer):
                load_moments(item, state)
            elif isinstance(item, LRScheduler):
                advance(item, state, limit)
            elif isinstance(item, EarlyStopping) and not (
                is_count(state["counter"]) and (state["best_score"] is None or is_number(state["best_score"]))
            ):
                raise ValueError(f"counter is {state['counter']!r} and best_score {state['best_score']!r}")
            else:
                item.load_state_dict(state)
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(f"{self.path} does not fit this training ({name}): {error}; {ADVICE}") from error

    def _log_summary(self, content: Mapping[str, Any], trainer: Any) -> None:
        """Log the epoch of the training and what has changed."""
        logger.info("Resumed from %s: %d epochs are done.", self.path, trainer.state.epoch)
        planned = content[TRAINER].get("max_epochs", trainer.state.max_epochs)
        if planned != trainer.state.max_epochs:
            logger.info("It was planned for %s epochs, now for %s; ramps follow.", planned, trainer.state.max_epochs)
        workers = content[TRAINER].get(WORKERS)
        if workers is not None and workers != _workers(trainer):
            logger.warning(
                "num_workers was %s and is now %s: crops and flips differ from here on, so the result is "
                "not that of an uninterrupted training.",
                *(workers, _workers(trainer)),
            )
        for name, item in self.items.items():
            if isinstance(item, Optimizer):
                saved = [group["lr"] for group in content[name]["param_groups"]]
                current = [group["lr"] for group in item.param_groups]
                if not all(math.isclose(old, new, rel_tol=1e-6) for old, new in zip(saved, current, strict=True)):
                    rates = [", ".join(f"{float(rate):.3g}" for rate in group) for group in (current, saved)]
                    groups = " (one per parameter group, the network first)" if len(current) > 1 else ""
                    logger.info(
                        "The learning rate follows the schedule of this run: %s, not %s as saved%s.", *rates, groups
                    )


def _workers(trainer: Any) -> int | None:
    """Return the number of loader processes, on which the random numbers of a training depend."""
    return getattr(getattr(trainer, "data_loader", None), WORKERS, None)


def load_moments(optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """Load the learned state of an optimizer (momentum, second moments, steps); settings of the config stay.

    Raises:
        ValueError: if a value is no number, or has not the shape of its parameter.
    """
    settings = [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
    if not all(is_number(group["lr"]) for group in state["param_groups"]):
        raise ValueError("a learning rate is no number")
    optimizer.load_state_dict(dict(state))
    for group, own in zip(optimizer.param_groups, settings, strict=True):
        group.update(own)
    for parameter, moments in optimizer.state.items():
        for name, value in moments.items():
            if not (torch.is_tensor(value) or is_number(value) or (name == "momentum_buffer" and value is None)):
                raise ValueError(f"{name} is {type(value).__name__}, expected numbers")
            if name == "step" and not (torch.as_tensor(value).numel() == 1 and value >= 1):
                raise ValueError(f"step is {value}, expected the number of steps")
            if name in MOMENTS and value is not None and getattr(value, "shape", ()) != parameter.shape:
                raise ValueError(f"{name} has not the shape {tuple(parameter.shape)} of its weights")


def advance(schedule: LRScheduler, state: Mapping[str, Any], limit: int) -> None:
    """Advance a new schedule, and the learning rates of its optimizer, to the epoch of a saved one.

    The saved state is not loaded, because it also holds settings such as the length of the training. The new schedule
    makes as many steps instead. ``ReduceLROnPlateau`` depends on scores, not on steps; its state and rates are loaded.

    Args:
        schedule: the new schedule.
        state: state of the saved one.
        limit: largest plausible number of its steps, those of the trainer.

    Raises:
        ValueError: if the saved number of steps or a rate is not plausible.
    """
    last_epoch = state["last_epoch"]
    if not is_count(last_epoch, 0, limit):
        raise ValueError(f"last_epoch is {last_epoch!r}, expected a number of steps up to {limit}")
    if isinstance(schedule, ReduceLROnPlateau):
        if not all(is_number(rate) and rate >= 0 for rate in state["_last_lr"]):
            raise ValueError(f"_last_lr is {state['_last_lr']!r}, expected numbers")
        schedule.load_state_dict(dict(state))
        for group, rate in zip(schedule.optimizer.param_groups, state["_last_lr"], strict=True):
            group["lr"] = rate
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step", UserWarning)  # no optimizer step yet
        while schedule.last_epoch < last_epoch:
            schedule.step()
