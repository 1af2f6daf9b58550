"""Measurement of a training: time, memory, parameters and the selected checkpoint; kept over restarts."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from ignite import distributed as idist
from ignite.engine import Engine, Events
from torch import nn

from scripts.benchmarking.files import read_json, write_json
from scripts.benchmarking.processes import UNIT
from scripts.benchmarking.provenance import processor

FORMAT = "semi_moe.measure/1"
MEBIBYTE = 2**20


class RunMeasure:
    """Handler that writes time and memory of a training to a JSON file after each epoch; the last ``train#handlers``.

    The seconds of an epoch start at the end of the previous one, so that they include steps, validation and the writing
    of the resume file. A resumed training keeps earlier epochs and the peak memory.

    The file holds ``cpu`` (name), ``epochs`` (seconds of each), ``device`` and its ``device_mib`` (peak memory of torch
    on CUDA; otherwise ``None``), ``host_mib`` (peak resident memory of the process), ``threads``, ``parameters``
    (``network``: of the evaluated network; ``training``: of the optimizer) and ``selected`` (epoch, metric and value of
    the best model).

    Args:
        path: file to write.
        network: the bare network.
        optimizer: optimizer of the training.
        best_model: handler with ``epoch`` and ``score`` of the best checkpoint, ``None`` before the first validation.
        evaluator: evaluator whose key metric selects the checkpoint.
    """

    def __init__(
        self, path: str, network: nn.Module, optimizer: torch.optim.Optimizer, best_model: Any, evaluator: Engine
    ) -> None:
        self.path = Path(path)
        self.network = network
        self.optimizer = optimizer
        self.best_model = best_model
        self.evaluator = evaluator
        self._epochs: list[float] = []
        self._device_mib = 0.0
        self._host_mib = 0.0
        self._epoch_started = 0.0

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._add)

    def _start(self, engine: Engine) -> None:
        """Start a run; a resumed run restores the finished epochs."""
        if engine.state.epoch > 0 and self.path.is_file():
            previous = read_json(self.path, FORMAT)
            self._epochs = previous["epochs"][: engine.state.epoch]
            self._device_mib = previous["device_mib"] or 0.0
            self._host_mib = previous.get("host_mib") or 0.0
        self._epoch_started = time.monotonic()

    def _add(self, engine: Engine) -> None:
        """Record one epoch."""
        now = time.monotonic()
        self._epochs.append(now - self._epoch_started)
        self._epoch_started = now
        if idist.get_rank() == 0:
            write_json(self.path, self._content(engine))

    def _content(self, engine: Any) -> dict[str, Any]:
        device = torch.device(engine.state.device)
        cuda = device.type == "cuda"
        if cuda:
            self._device_mib = max(self._device_mib, torch.cuda.max_memory_allocated(device) / MEBIBYTE)
        self._host_mib = max(self._host_mib, host_mib())
        learned = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        evaluated: Any = self.evaluator.state
        return {
            "format": FORMAT,
            "cpu": processor(),
            "epochs": self._epochs,
            "device": torch.cuda.get_device_name(device) if cuda else device.type,
            "device_mib": self._device_mib if cuda else None,
            "host_mib": self._host_mib,
            "threads": torch.get_num_threads(),
            "parameters": {"network": _count(list(self.network.parameters())), "training": _count(learned)},
            "selected": {
                "epoch": self.best_model.epoch,
                "metric": evaluated.key_metric_name,
                "value": self.best_model.score,
            },
        }


def host_mib() -> float:
    """Return the peak resident memory of this process, MiB."""
    import resource  # missing on Windows, where the bundle can be imported too

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / UNIT


def _count(parameters: list[Any]) -> int:
    return sum(parameter.numel() for parameter in {id(parameter): parameter for parameter in parameters}.values())
