"""The model file: written by a training, whole or not at all, and read for evaluation and inference."""

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
from torch import Tensor, nn

from bundle.engines.files import remove_partials, save_whole
from bundle.engines.model_description import ModelDescription
from bundle.engines.model_file import NAME as DESCRIPTION
from bundle.engines.model_file import describes_others

logger = logging.getLogger(__name__)

SHOWN = 3
"""How many names an error shows."""


def weights_of(network: nn.Module) -> dict[str, Any]:
    """The state dict of a network with all tensors on the CPU, so that a file written on a GPU loads anywhere."""
    return {name: value.detach().cpu() for name, value in network.state_dict().items()}


def save_model(
    network: nn.Module,
    path: Path,
    description: ModelDescription | None,
    epoch: int,
    scores: Mapping[str, float] | None = None,
) -> None:
    """Write the weights of a network and, beside them, what the model is.

    Args:
        network: the bare network.
        path: file of the weights.
        description: writes ``model.json``; ``None`` leaves that out.
        epoch: the epoch that the weights are from.
        scores: metrics of the validation in that epoch.
    """
    if description is not None:
        description.remove_other()
    save_whole(weights_of(network), path)
    if description is not None:
        description.write(path, epoch, scores)


class BestModel:
    """Keeps the network of the best validation as a plain state dict, ``model.pt``; stands in ``validate#handlers``.

    MONAI's ``CheckpointSaver`` removes the old file before it writes the new one, and forgets the best score over a
    restart; this does neither.

    Args:
        network: the bare network.
        path: file to write.
        metric: name of the metric that decides, larger is better; default is the evaluator's key metric.
        description: writes what the model is beside it; ``None`` leaves that out.
    """

    def __init__(
        self,
        network: nn.Module,
        path: str | os.PathLike[str],
        metric: str | None = None,
        description: ModelDescription | None = None,
    ) -> None:
        self.network = network
        self.path = Path(path)
        self.metric = metric
        self.description = description
        self.name = metric
        self.score: float | None = None
        self.epoch: int | None = None
        self._engine: Any = None

    def attach(self, engine: Engine) -> None:
        """Look at the score after each validation."""
        self._engine = engine
        engine.add_event_handler(Events.STARTED, self._clear)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._compare)

    def state_dict(self) -> dict[str, Any]:
        """Best score so far and its epoch, ``None`` before the first validation."""
        return {"score": self.score, "epoch": self.epoch}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what an earlier run reached; MONAI's log of the best score does so too."""
        self.score, self.epoch = state["score"], state["epoch"]
        if self._engine is not None and self.metric is None and self.score is not None:
            self._engine.state.best_metric, self._engine.state.best_metric_epoch = self.score, self.epoch

    def _clear(self) -> None:
        if idist.get_rank() == 0:
            remove_partials(self.path)

    def _compare(self, engine: Any) -> None:
        self.name = self.metric or engine.state.key_metric_name
        score = float(engine.state.metrics[self.name])
        if self.score is not None and not (score > self.score or math.isnan(self.score)):  # NaN beats nothing
            return
        self.score, self.epoch = score, engine.state.epoch
        if idist.get_rank() == 0:
            save_model(self.network, self.path, self.description, engine.state.epoch, engine.state.metrics)


class LastModel:
    """Keeps the network of the last epoch of a training without validation, ``model.pt``; in ``train#handlers``.

    It writes after each epoch, before the resume file calls that epoch done: a run may be killed in between.

    Args:
        network: the bare network.
        path: file to write.
        description: writes what the model is beside it; ``None`` leaves that out.
    """

    def __init__(
        self, network: nn.Module, path: str | os.PathLike[str], description: ModelDescription | None = None
    ) -> None:
        self.network = network
        self.path = Path(path)
        self.description = description

    def attach(self, engine: Engine) -> None:
        """Save after each epoch."""
        engine.add_event_handler(Events.STARTED, self._clear)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._save)

    def _clear(self) -> None:
        if idist.get_rank() == 0:
            remove_partials(self.path)

    def _save(self, engine: Engine) -> None:
        if idist.get_rank() == 0:
            save_model(self.network, self.path, self.description, engine.state.epoch)


class ModelCheckpointLoader:
    """Loads ``model.pt`` into the network when an evaluation or inference starts; the first of its handlers.

    Each weight must have its place and shape. MONAI's ``CheckpointLoader`` does not say which file is wrong and what
    to do. Its name is part of this one, because federated clients switch off all handlers whose name has it.

    Args:
        network: the bare network.
        path: a plain state dict, as ``BestModel`` writes it.

    Raises:
        FileNotFoundError: where there is no file.
        ValueError: where the file is damaged, no plain state dict, or that of another network.
    """

    def __init__(self, network: nn.Module, path: str | os.PathLike[str]) -> None:
        self.network = network
        self.path = Path(path)

    def attach(self, engine: Engine) -> None:
        """Load once, when the engine starts."""
        engine.add_event_handler(Events.STARTED, self.load)

    def load(self) -> None:
        """Load now."""
        if not self.path.is_file():
            raise FileNotFoundError(
                f"no model at {self.path}; train first, or give --ckpt_dir, the folder that holds {self.path.name}"
            )
        weights = read_saved(self.path, "weights", "copy it again, or train again")
        if isinstance(weights, Mapping) and {"network", "trainer"} <= set(weights):
            raise ValueError(f"{self.path} is a resume file and no model; give the model.pt that lies one folder above")
        if not isinstance(weights, Mapping) or not all(isinstance(value, Tensor) for value in weights.values()):
            raise ValueError(f"{self.path} holds no plain weights; give the model.pt that a training wrote")
        faults = differences(self.network.state_dict(), weights)
        if faults:
            described = self.path.with_name(DESCRIPTION).is_file()
            raise ValueError(
                f"{self.path} is of another network than this {type(self.network).__name__}: {faults}; "
                + (
                    f"{DESCRIPTION} beside it describes the network: leave out the settings that change it, such as an "
                    f"overlay of another method, or take the {DESCRIPTION} that belongs to these weights"
                    if described
                    else "give the overlays and sizes (such as --network_def#widths) that it was trained with"
                )
            )
        self.network.load_state_dict(weights)
        logger.info("Model: %s", self.path)
        if describes_others(self.path):
            logger.warning(
                "%s was written for other weights than this %s: network, pixel size and normalization may be wrong; "
                "take the %s that belongs to these weights, or remove it and give the configs of the training",
                self.path.with_name(DESCRIPTION),
                self.path.name,
                DESCRIPTION,
            )


def read_saved(path: Path, content: str, advice: str) -> Any:
    """What ``torch.save`` wrote to a file, on the CPU; nothing but tensors and plain values.

    Args:
        path: a file that exists.
        content: what it should hold, for the error.
        advice: what to do where it does not.

    Raises:
        OSError: where it cannot be opened.
        ValueError: where the file cannot be read so.
    """
    path.open("rb").close()
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch, pickle and zip raise a dozen kinds over a damaged file
        reason = "it is TorchScript" if "TorchScript" in str(error) else "it is damaged, or was written otherwise"
        raise ValueError(f"{path} cannot be read as {content}: {reason}; {advice}") from error


def differences(expected: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """In what a state dict differs from the one that is expected: first names and shapes; empty where it fits."""
    missing = [name for name in expected if name not in found]
    extra = [name for name in found if name not in expected]
    both = [(name, _shape(found[name]), _shape(value)) for name, value in expected.items() if name in found]
    shapes = [f"{name} is {there} there and {here} here" for name, there, here in both if there != here]
    faults = [("it lacks ", missing), ("it also has ", extra), ("", shapes)]
    return ", ".join(f"{words}{_some(names)}" for words, names in faults if names)


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(getattr(value, "shape", ()))


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if names[SHOWN:] else "")
