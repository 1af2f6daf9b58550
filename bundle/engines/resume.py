"""The resume file: all that a training needs to go on after its last whole epoch."""

from __future__ import annotations

import logging
import math
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ignite import distributed as idist
from ignite.engine import Engine, Events
from ignite.handlers import EarlyStopping
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from bundle.engines.checkpoint import differences, read_saved
from bundle.engines.files import check_writable, remove_partials, save_whole

logger = logging.getLogger(__name__)

ADVICE = "resume with the configs and settings of its start, or give --resume False and another --ckpt_dir"
TRAINER = "trainer"
COUNTS = ("epoch", "epoch_length", "max_epochs")
SETTING = "setting"


class ResumeFile:
    """A file with all that a training needs to go on after its last whole epoch.

    The ``training`` list attaches it to the trainer, last, so that it sees what all other handlers did in the epoch.
    What has been learned comes from the file. Settings come from the config: rates, decay and the schedule are those
    of the new run, at the epoch that is reached, so that a training may go on with more epochs.

    Args:
        path: file to write.
        items: name -> object with ``state_dict`` and ``load_state_dict``: network, optimizer, schedule, objective,
            best model, a teacher.
        resume: whether to go on from the file; without a file the training starts afresh and says so.
        setting: name -> text or number that must be the same after a restart, such as the seed and a digest of the
            images: with others, the best score so far would be of other images, or training images validate.

    Raises:
        OSError: when the file cannot be written there; already when it is attached.
        ValueError: when the file on disk is damaged, or was written by a training of another shape.
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
        """Bring the trainer to where the file left off, if asked to, and keep the file up to date."""
        if self.resume:
            self._restore(engine)
        else:
            before = [path for path in (self.path.parent.parent / "model.pt", self.path) if path.is_file()]
            if before:
                logger.warning(
                    "Training starts afresh and will write over %s; stop it and give another --output_dir to keep what "
                    "is there, or --resume True to go on from it.",
                    " and ".join(map(str, before)),
                )
        if idist.get_rank() == 0:
            check_writable(self.path.parent)
            remove_partials(self.path)
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._save)

    def _save(self, trainer: Engine) -> None:
        content = {name: item.state_dict() for name, item in self.items.items()}
        content[TRAINER] = {name: getattr(trainer.state, name) for name in COUNTS} | {"kinds": self._kinds()}
        content[SETTING] = self.setting
        scaler = getattr(trainer, "scaler", None)
        if scaler is not None:
            content["scaler"] = scaler.state_dict()  # empty without CUDA
        save_whole(content, self.path)

    def _restore(self, trainer: Any) -> None:
        if not self.path.is_file():
            logger.info("Nothing to resume at %s: training starts afresh.", self.path)
            return
        content = read_saved(self.path, "a resume file", "take it away, or start with --resume False")
        self._check(content, trainer)
        for name, item in self.items.items():
            if not isinstance(item, LRScheduler):
                self._load(name, item, content[name])
        for name, item in self.items.items():  # they set the rates of optimizers that are loaded by now
            if isinstance(item, LRScheduler):
                self._load(name, item, content[name])
        trainer.state.epoch = content[TRAINER]["epoch"]
        trainer.state.iteration = trainer.state.epoch * trainer.state.epoch_length
        if trainer.amp and content.get("scaler"):  # MONAI makes the scaler when the run starts
            trainer.add_event_handler(Events.STARTED, lambda: trainer.scaler.load_state_dict(content["scaler"]))
        self._tell(content, trainer)
        if any(isinstance(item, EarlyStopping) and item.counter >= item.patience for item in self.items.values()):
            logger.info("It was stopped early, as scores no longer rose: nothing left to train; or raise --patience.")
            trainer.add_event_handler(Events.STARTED, trainer.terminate)

    def _check(self, content: Any, trainer: Any) -> None:
        """Refuse a file of another training before anything is changed."""
        if not isinstance(content, Mapping) or not isinstance(content.get(TRAINER), Mapping):
            raise ValueError(f"{self.path} is no resume file: it lacks {TRAINER!r}; {ADVICE}")
        missing = sorted(set(self.items) - set(content))
        length = content[TRAINER].get("epoch_length")
        if missing or length != trainer.state.epoch_length:
            raise ValueError(
                f"{self.path} was written by another training: it lacks {missing or 'nothing'} and has {length} steps "
                f"an epoch, this one {trainer.state.epoch_length}; {ADVICE}"
            )
        before = content.get(SETTING, {})
        for name, value in self.setting.items():
            if before.get(name, value) != value:
                raise ValueError(
                    f"{self.path} was written by a training of another {name} ({before[name]}, now {value}); {ADVICE}"
                )
        kinds = content[TRAINER].get("kinds", {})
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
        """Class names of networks and optimizers: two may have a state of one shape, and mean other things."""
        return {
            name: type(item).__name__ for name, item in self.items.items() if isinstance(item, nn.Module | Optimizer)
        }

    def _load(self, name: str, item: Any, state: Any) -> None:
        try:
            if isinstance(item, Optimizer):
                load_moments(item, state)
            elif isinstance(item, LRScheduler):
                advance(item, state)
            else:
                item.load_state_dict(state)
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(f"{self.path} does not fit this training ({name}): {error}; {ADVICE}") from error

    def _tell(self, content: Mapping[str, Any], trainer: Any) -> None:
        """Say where the training stands, and what has changed."""
        logger.info("Resumed from %s: %d epochs are done.", self.path, trainer.state.epoch)
        planned = content[TRAINER].get("max_epochs", trainer.state.max_epochs)
        if planned != trainer.state.max_epochs:
            logger.info("It was planned for %s epochs, now for %s: ramps follow.", planned, trainer.state.max_epochs)
        for name, item in self.items.items():
            if isinstance(item, Optimizer):
                before = [group["lr"] for group in content[name]["param_groups"]]
                now = [group["lr"] for group in item.param_groups]
                if not all(math.isclose(one, other, rel_tol=1e-6) for one, other in zip(before, now, strict=True)):
                    shown = [", ".join(f"{float(rate):.3g}" for rate in rates) for rates in (now, before)]
                    groups = " (one for each group of parameters, the network's first)" if len(now) > 1 else ""
                    logger.info(
                        "The learning rate follows this run's schedule: %s, and not %s as saved%s.", *shown, groups
                    )


def load_moments(optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """Load what an optimizer has learned (momentum, second moments, steps); its settings stay those of the config."""
    settings = [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
    optimizer.load_state_dict(dict(state))
    for group, own in zip(optimizer.param_groups, settings, strict=True):
        group.update(own)


def advance(schedule: LRScheduler, state: Mapping[str, Any]) -> None:
    """Bring a new schedule, and the rates of its optimizer, to where a saved one was.

    A saved state holds settings too, the length of the training among them. So it is not loaded; the new schedule makes
    as many steps. ``ReduceLROnPlateau`` depends on scores and not on steps: it is loaded, with its rates.
    """
    if isinstance(schedule, ReduceLROnPlateau):
        schedule.load_state_dict(dict(state))
        for group, rate in zip(schedule.optimizer.param_groups, state["_last_lr"], strict=True):
            group["lr"] = rate
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step", UserWarning)  # before the optimizer's
        while schedule.last_epoch < state["last_epoch"]:
            schedule.step()
