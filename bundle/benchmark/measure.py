"""What a training took: time, memory of the device, parameters, the checkpoint that was chosen; kept over restarts."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from ignite import distributed as idist
from ignite.engine import Engine, Events
from torch import nn

from bundle.benchmark.files import read_json, write_json
from bundle.benchmark.processes import UNIT

FORMAT = "semi_moe.measure/1"
MEBIBYTE = 2**20


class RunMeasure:
    """Writes what a training took to a JSON file after every epoch; the last of ``train#handlers``.

    Seconds of an epoch run from the end of the one before it, so they hold steps, validation and the writing of the
    resume file. A resumed training keeps the epochs before the one that it starts with, and the largest memory.

    The file holds ``epochs`` (seconds of each), ``device`` and its ``device_mib`` (largest memory that torch held on
    CUDA; ``None`` elsewhere), ``host_mib`` (largest resident memory of the process), ``threads``, ``parameters``
    (``network``: all of the network that is evaluated; ``training``: all that the optimizer moves) and ``selected``
    (epoch, metric and value of the best model).

    Args:
        path: file to write.
        network: the bare network.
        optimizer: of the training.
        best_model: has ``epoch`` and ``score`` of the checkpoint that validation chose, ``None`` before the first.
        evaluator: whose key metric chose it.
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
        self._mark = 0.0

    def attach(self, engine: Engine) -> None:
        """Watch a trainer."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._add)

    def _start(self, engine: Engine) -> None:
        """Begin a run; one that goes on takes over the epochs that are done."""
        if engine.state.epoch > 0 and self.path.is_file():
            before = read_json(self.path, FORMAT)
            self._epochs = before["epochs"][: engine.state.epoch]
            self._device_mib = before["device_mib"] or 0.0
            self._host_mib = before.get("host_mib") or 0.0
        self._mark = time.monotonic()

    def _add(self, engine: Engine) -> None:
        """Note one epoch."""
        mark = time.monotonic()
        self._epochs.append(mark - self._mark)
        self._mark = mark
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
    """Largest resident memory that this process had so far, MiB."""
    import resource  # here, because Windows has none and the bundle is imported there too

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / UNIT


def _count(parameters: list[Any]) -> int:
    return sum(parameter.numel() for parameter in {id(one): one for one in parameters}.values())
