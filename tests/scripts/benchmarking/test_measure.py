"""Measurement of a training."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from ignite.engine import Engine, Events

from scripts.benchmarking.files import read_json, write_json
from scripts.benchmarking.measure import FORMAT, RunMeasure, host_mib


def trainer(path, epoch: int) -> Engine:
    """A trainer that starts after some epochs and does nothing."""
    network = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    best, evaluator = (
        SimpleNamespace(epoch=1, score=0.5),
        SimpleNamespace(state=SimpleNamespace(key_metric_name="dice")),
    )
    engine = Engine(lambda *_: None)
    engine.add_event_handler(Events.STARTED, lambda: setattr(engine.state, "device", "cpu"))
    engine.add_event_handler(Events.STARTED, lambda: setattr(engine.state, "epoch", epoch))
    RunMeasure(str(path), network, optimizer, best, evaluator).attach(engine)
    return engine


def test_a_resumed_training_keeps_its_epochs_and_its_largest_memory(tmp_path):
    path = tmp_path / "measure.json"
    trainer(path, 0).run([1], max_epochs=2)
    result = read_json(path, FORMAT)
    assert len(result["epochs"]) == 2
    assert 1 < result["host_mib"] <= host_mib()
    assert result["parameters"] == {"network": 3, "training": 3}
    write_json(path, result | {"epochs": [50.0, 60.0, 70.0], "host_mib": 1e6})
    trainer(path, 2).run([1], max_epochs=3)
    result = read_json(path, FORMAT)
    assert result["epochs"][:2] == [50.0, 60.0]
    assert len(result["epochs"]) == 3
    assert result["host_mib"] == 1e6


def test_a_training_that_starts_afresh_forgets_the_one_before(tmp_path):
    path = tmp_path / "measure.json"
    write_json(path, {"format": FORMAT, "epochs": [50.0], "device_mib": None, "host_mib": 1e6})
    trainer(path, 0).run([1], max_epochs=1)
    result = read_json(path, FORMAT)
    assert result["epochs"][0] < 50
    assert result["host_mib"] < 1e6
