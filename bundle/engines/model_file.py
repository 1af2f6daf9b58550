"""Model file ``model.pt``: written atomically during training, loaded for evaluation and inference."""

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
from monai.networks.utils import eval_mode
from torch import Tensor, nn

from bundle.engines.file_writers import save_whole
from bundle.engines.model_json_reader import NAME as DESCRIPTION
from bundle.engines.model_json_reader import describes_others
from bundle.engines.model_json_writer import ModelDescription
from bundle.engines.output_check import OutputCheck
from bundle.types import IMAGE
from bundle.utils import check_output, check_weights, remove_partials

logger = logging.getLogger(__name__)

WRAPPED = "module."
"""Prefix of all names in the state dict of a network inside of DataParallel or DistributedDataParallel."""
SHOWN = 3
"""Maximal number of names in an error message."""


def weights_of(network: nn.Module) -> dict[str, Any]:
    """Return the state dict of a network with all tensors on the CPU, so that it also loads without a GPU."""
    return {name: value.detach().cpu() for name, value in network.state_dict().items()}


def save_model(
    network: nn.Module,
    path: Path,
    description: ModelDescription | None,
    epoch: int,
    scores: Mapping[str, float] | None = None,
) -> None:
    """Write the weights of a network and the ``model.json`` beside them.

    Args:
        network: the bare network.
        path: file of the weights.
        description: writes ``model.json``; ``None`` writes the weights only.
        epoch: epoch of the weights.
        scores: validation metrics of this epoch.
    """
    if description is not None:
        description.remove_other()
    save_whole(weights_of(network), path)
    if description is not None:
        description.write(path, epoch, scores)


class BestModel:
    """Handler that saves the network with the best validation score as a state dict; part of ``validate#handlers``.

    A network whose outputs are no plausible numbers is never saved; the training stops. Unlike MONAI's
    ``CheckpointSaver``, it replaces the old file only after the new one is complete, and it keeps the
    best score over a restart.

    Args:
        network: the bare network.
        path: file to write, ``model.pt``.
        metric: name of the metric to compare, larger is better; default is the evaluator's key metric.
        description: writes ``model.json`` beside it; ``None`` writes the weights only.
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
        """Compare the score after each validation, and stop the training if the network has diverged."""
        self._engine = engine
        OutputCheck().attach(engine)
        engine.add_event_handler(Events.STARTED, self._clear)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._compare)

    def state_dict(self) -> dict[str, Any]:
        """Return the best score so far and its epoch; both are ``None`` before the first validation."""
        return {"score": self.score, "epoch": self.epoch}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the best score of an earlier run, also in the evaluator's state, which MONAI logs.

        Raises:
            ValueError: if score and epoch are neither numbers nor both ``None``.
        """
        score, epoch = state["score"], state["epoch"]
        if not (score is None and epoch is None) and not (is_number(score) and is_count(epoch)):
            raise ValueError(f"score is {score!r} and epoch {epoch!r}; expected two numbers")
        self.score, self.epoch = score, epoch
        if self._engine is not None and self.metric is None and self.score is not None:
            self._engine.state.best_metric, self._engine.state.best_metric_epoch = self.score, self.epoch

    def _clear(self) -> None:
        if idist.get_rank() == 0:
            remove_partials(self.path)

    def _compare(self, engine: Any) -> None:
        self.name = self.metric or engine.state.key_metric_name
        score = float(engine.state.metrics[self.name])
        if self.score is not None and not (score > self.score or math.isnan(self.score)):  # NaN is never better
            return
        check_weights(self.network.state_dict(), self.path)
        self.score, self.epoch = score, engine.state.epoch
        if idist.get_rank() == 0:
            save_model(self.network, self.path, self.description, engine.state.epoch, engine.state.metrics)


class LastModel:
    """Handler that saves the network after each epoch of a training without validation; part of ``train#handlers``.

    It writes before the resume file marks the epoch as done, because a run may be killed in between. A network that has
    diverged, by its weights or its output for a training image, is not saved; the training stops.

    Args:
        network: the bare network.
        path: file to write, ``model.pt``.
        description: writes ``model.json`` beside it; ``None`` writes the weights only.
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
        check_weights(self.network.state_dict(), self.path)
        output = engine.state.output
        if isinstance(output, Mapping) and IMAGE in output:
            with eval_mode(self.network), torch.no_grad():
                check_output(self.network(output[IMAGE][:1]), f"a training image of epoch {engine.state.epoch}")
        if idist.get_rank() == 0:
            save_model(self.network, self.path, self.description, engine.state.epoch)


class ModelCheckpointLoader:
    """Handler that loads ``model.pt`` into the network when an evaluation or inference starts; it must come first.

    All names and shapes must match. Unlike MONAI's ``CheckpointLoader``, errors name the file and what to do. The
    class name contains ``CheckpointLoader``, because federated clients disable all handlers with this name.

    Args:
        network: the bare network.
        path: a state dict, as ``BestModel`` writes it.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if the file is damaged, holds no state dict, belongs to another network, or its weights are NaN.
    """

    def __init__(self, network: nn.Module, path: str | os.PathLike[str]) -> None:
        self.network = network
        self.path = Path(path)

    def attach(self, engine: Engine) -> None:
        """Load the weights when the engine starts."""
        engine.add_event_handler(Events.STARTED, self.load)

    def load(self) -> None:
        """Load the weights."""
        if not self.path.is_file():
            raise FileNotFoundError(
                f"no model at {self.path}; train first, or give --ckpt_dir, the folder that holds {self.path.name}"
            )
        weights = read_saved(self.path, "weights", "copy it again, or train again")
        if isinstance(weights, Mapping) and {"network", "trainer"} <= set(weights):
            raise ValueError(f"{self.path} is a resume file, not a model; give the model.pt in the folder above it")
        names = weights if isinstance(weights, Mapping) else [0]
        if not all(isinstance(name, str) and isinstance(weights[name], Tensor) for name in names):
            raise ValueError(f"{self.path} is not a state dict; give the model.pt that a training wrote")
        weights = self._without_prefix(weights)
        faults = differences(self.network.state_dict(), weights)
        if faults:
            described = self.path.with_name(DESCRIPTION).is_file()
            raise ValueError(
                f"{self.path} does not fit this {type(self.network).__name__}: {faults}; "
                + (
                    f"{DESCRIPTION} beside it describes the network: leave out settings that change the network, such "
                    f"as the overlay of another method, or use the {DESCRIPTION} that belongs to these weights"
                    if described
                    else "give the overlays and sizes (such as --network_def#widths) that it was trained with"
                )
            )
        check_weights(weights, self.path)
        self.network.load_state_dict(weights)
        logger.info("Model: %s", self.path)
        if describes_others(self.path):
            logger.warning(
                "%s was written for other weights than this %s: network, pixel size and normalization may be wrong; "
                "use the %s that belongs to these weights, or remove it and give the configs of the training",
                self.path.with_name(DESCRIPTION),
                self.path.name,
                DESCRIPTION,
            )

    def _without_prefix(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Remove the prefix that DataParallel and DistributedDataParallel add to the names of all weights."""
        if not weights or not all(name.startswith(WRAPPED) for name in weights):
            return weights
        if all(name.startswith(WRAPPED) for name in self.network.state_dict()):
            return weights
        logger.info("%s: removed the prefix %s of all names, which DataParallel adds", self.path, WRAPPED)
        return {name.removeprefix(WRAPPED): value for name, value in weights.items()}


def read_saved(path: Path, content: str, advice: str) -> Any:
    """Read a file of ``torch.save`` to the CPU; only tensors and plain values are accepted.

    Args:
        path: an existing file.
        content: expected content, for the error message.
        advice: what to do if it cannot be read, for the error message.

    Raises:
        OSError: if the file cannot be opened.
        ValueError: if the file cannot be read.
    """
    path.open("rb").close()
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch, pickle and zip raise many types for a damaged file
        reason = "it is TorchScript" if "TorchScript" in str(error) else "it is damaged or has another format"
        raise ValueError(f"{path} cannot be read as {content}: {reason}; {advice}") from error


def is_count(value: Any, least: int = 0, most: float = math.inf) -> bool:
    """Return whether a value of a saved state is an integer from ``least`` to ``most``."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def is_number(value: Any) -> bool:
    """Return whether a value of a saved state is a number, possibly NaN."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def differences(expected: Mapping[str, Any], loaded: Mapping[str, Any]) -> str:
    """Describe how a state dict differs from the expected one: first names, shapes and types; empty if it fits."""
    missing = [name for name in expected if name not in loaded]
    extra = [str(name) for name in loaded if name not in expected]
    pairs = [(name, loaded[name], value) for name, value in expected.items() if name in loaded]
    wrong = [f"{name} {fault}" for name, actual, value in pairs if (fault := _difference(actual, value))]
    faults = [("it lacks ", missing), ("it also has ", extra), ("", wrong)]
    return ", ".join(f"{prefix}{_first_names(names)}" for prefix, names in faults if names)


def _difference(actual: Any, expected: Any) -> str:
    """Describe how a value of a state dict differs in kind or shape; empty if it can be loaded."""
    if not isinstance(expected, Tensor):
        return "" if isinstance(actual, type(expected)) else f"is {type(actual).__name__}"
    if not isinstance(actual, Tensor):
        return f"is {type(actual).__name__}, expected a tensor"
    if actual.is_meta or actual.is_nested or actual.layout != torch.strided:
        return "is a tensor without plain values (sparse, nested or meta)"
    if actual.is_floating_point() != expected.is_floating_point():
        return f"holds {actual.dtype}, expected {expected.dtype}"
    if actual.shape != expected.shape:
        return f"has shape {tuple(actual.shape)}, expected {tuple(expected.shape)}"
    return ""


def _first_names(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if names[SHOWN:] else "")
