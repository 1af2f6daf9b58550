"""Training log: values computed by hand, warnings, resuming and two processes."""

from __future__ import annotations

import csv
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, multiprocessing
from torch.utils.tensorboard import SummaryWriter

from bundle.handlers import TrainingLog

Steps = Callable[[Engine], dict[str, Tensor]]


def scalar(value: float) -> Tensor:
    """Return a 0-d tensor."""
    return torch.tensor(value)


def train(watch: TrainingLog, step: Steps, epochs: int = 1, length: int = 2, begin: int = 0) -> Any:
    """Run a trainer that only sets ``engine.state.step``, after ``begin`` epochs."""

    def process(engine: Engine, batch: int) -> None:
        engine.state.step = step(engine)  # type: ignore[attr-defined]

    engine: Any = Engine(process)
    engine.optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.25)

    @engine.on(Events.EPOCH_COMPLETED)
    def halve(engine: Any) -> None:
        engine.optimizer.param_groups[0]["lr"] /= 2

    if begin:
        engine.load_state_dict({"epoch": begin, "max_epochs": epochs, "epoch_length": length})
    watch.attach(engine)
    engine.run(range(length), max_epochs=epochs)
    return engine


def table(path: Path) -> list[dict[str, str]]:
    """Read the rows of a table."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_writes_means_and_the_spread_over_images(tmp_path: Path) -> None:
    """Loss 1 and 3; three images in two steps of different size; the learning rate of the last step."""
    gates = {1: [[0.5, 0.3, 0.2], [0.1, 0.3, 0.6]], 2: [[0.6, 0.3, 0.1]]}

    def step(engine: Engine) -> dict[str, Tensor]:
        output = {"loss": scalar(2.0 * engine.state.iteration - 1.0), "labeled/seg": scalar(0.5)}
        if engine.state.iteration == 2:
            output["unlabeled/gate/seg"] = scalar(0.125)
        return output | {"unlabeled/gate_seg": torch.tensor(gates[engine.state.iteration])}

    engine = train(TrainingLog(tmp_path / "new"), step)
    (row,) = table(tmp_path / "new" / "training.csv")
    expected = {
        **{"epoch": 1, "loss": 2.0, "labeled/seg": 0.5, "unlabeled/gate/seg": 0.125, "learning_rate": 0.25},
        # mean of 0.5, 0.1, 0.6 is 0.4; its squared distances 0.01, 0.09, 0.04 have the mean 0.14 / 3
        **{"unlabeled/gate_seg/seg/mean": 0.4, "unlabeled/gate_seg/seg/spread": (0.14 / 3) ** 0.5},
        **{"unlabeled/gate_seg/sdf/mean": 0.3, "unlabeled/gate_seg/sdf/spread": 0.0},
        # mean of 0.2, 0.6, 0.1 is 0.3; 0.01, 0.09, 0.04
        **{"unlabeled/gate_seg/boundary/mean": 0.3, "unlabeled/gate_seg/boundary/spread": (0.14 / 3) ** 0.5},
    }
    assert {name: float(row[name]) for name in expected} == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert set(row) == set(expected) | {"seconds"}
    assert set(engine.state.training_log) == set(row) - {"epoch"}
    assert engine.state.training_log["unlabeled/gate_seg/seg/mean"] == pytest.approx(0.4)


def test_columns_may_come_later_and_each_epoch_stands_alone(tmp_path: Path) -> None:
    """The second epoch has an additional consistency term."""

    def step(engine: Engine) -> dict[str, Tensor]:
        term = {"unlabeled/late/seg": scalar(7.0)} if engine.state.epoch == 2 else {}
        return {"loss": scalar(float(engine.state.epoch))} | term

    train(TrainingLog(tmp_path, name="table.csv"), step, epochs=2)
    first, second = table(tmp_path / "table.csv")
    assert (first["loss"], first["unlabeled/late/seg"], first["learning_rate"]) == ("1", "", "0.25")
    assert (second["loss"], second["unlabeled/late/seg"], second["learning_rate"]) == ("2", "7", "0.125")
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]


def test_resume_keeps_earlier_epochs_and_a_new_run_does_not(tmp_path: Path) -> None:
    """Three epochs, the third repeated after a resume; then a new run in the same folder."""
    train(TrainingLog(tmp_path), lambda engine: {"loss": scalar(1.0), "old": scalar(0.0)}, epochs=3)
    train(TrainingLog(tmp_path), lambda engine: {"loss": scalar(2.0)}, epochs=4, begin=2)
    rows = table(tmp_path / "training.csv")
    assert [(row["epoch"], row["loss"]) for row in rows] == [("1", "1"), ("2", "1"), ("3", "2"), ("4", "2")]
    train(TrainingLog(tmp_path), lambda engine: {"loss": scalar(3.0)})
    assert [row["loss"] for row in table(tmp_path / "training.csv")] == ["3"]


def test_refuses_a_foreign_table_on_resume(tmp_path: Path) -> None:
    """Other files are not overwritten."""
    (tmp_path / "training.csv").write_text("patient,grade\n1,benign\n")
    with pytest.raises(ValueError, match="is not a training log"):
        train(TrainingLog(tmp_path), lambda engine: {"loss": scalar(2.0)}, epochs=4, begin=2)


@pytest.mark.parametrize(
    ("share", "counted", "parts"),
    [
        (0.0, None, ["all empty"]),
        (1.0, 0.5, ["all full"]),
        (0.0, 0.0, ["without weight"]),
        (0.4, 0.9, []),
        (0.001, None, []),
    ],
)
def test_warns_of_void_pseudo_labels(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, share: float, counted: float | None, parts: list[str]
) -> None:
    """Once, not in each epoch, and not for an ordinary share."""

    def step(engine: Engine) -> dict[str, Tensor]:
        extra = {} if counted is None else {"counted/teacher/sdf": scalar(counted)}
        shares = {"foreground/teacher/sdf": scalar(share), "foreground/teacher/seg": scalar(0.5)}
        return {"loss": scalar(1.0)} | shares | extra

    train(TrainingLog(tmp_path), step, epochs=3)
    result = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(result) == len(parts)
    assert all(word in message for word, message in zip(parts, result, strict=True))
    assert all("consistency term 'teacher'" in message and "head 'sdf'" in message for message in result)


def test_one_empty_step_is_no_void_epoch(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Only the mean over the epoch matters."""
    train(TrainingLog(tmp_path), lambda engine: {"foreground/gate/seg": scalar(engine.state.iteration - 1.0)})
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_logs_one_short_line_an_epoch(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Loss, means of its parts, learning rate; a consistency term with the name of a gate is not a gate."""
    caplog.set_level(logging.INFO, logger="bundle.handlers.training_log")
    step = {
        **{"loss": scalar(1.5), "labeled/seg": scalar(0.25), "labeled/sdf": scalar(0.75)},
        **{"unlabeled/gate_x/seg": scalar(0.125), "unlabeled/gate_seg": torch.tensor([[0.2, 0.8]])},
        **{"foreground/gate_x/seg": scalar(0.41), "ramp/gate_x": scalar(2.0), "weight/seg": scalar(0.4)},
    }
    train(TrainingLog(tmp_path, experts=["seg", "sdf"]), lambda engine: step)
    (line,) = [record.getMessage() for record in caplog.records]
    head, _, seconds = line.rpartition(", ")
    assert head == "epoch 1/1: loss 1.500 (labeled 0.500, unlabeled 0.125), learning rate 0.25"
    assert seconds.endswith(" s")
    (row,) = table(tmp_path / "training.csv")
    assert (row["labeled/sdf"], row["unlabeled/gate_seg/sdf/mean"], row["ramp/gate_x"]) == ("0.75", "0.8", "2")


def test_logs_the_learning_rate_of_the_first_group_and_keeps_all(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """That of the network, which comes first in the configs; the objective has a separate column."""
    caplog.set_level(logging.INFO, logger="bundle.handlers.training_log")

    def step(engine: Any) -> dict[str, Tensor]:
        if len(engine.optimizer.param_groups) == 1:
            engine.optimizer.add_param_group({"params": [torch.nn.Parameter(torch.zeros(1))], "lr": 0.5})
        return {"loss": scalar(1.0)}

    train(TrainingLog(tmp_path), step)
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("epoch 1/1: loss 1.000, learning rate 0.25, ")
    (row,) = table(tmp_path / "training.csv")
    assert (row["learning_rate/0"], row["learning_rate/1"]) == ("0.25", "0.5")


@pytest.mark.parametrize("value", [torch.ones(2, 3), torch.ones(4)])
def test_refuses_other_shapes(tmp_path: Path, value: Tensor) -> None:
    """Three weights for two experts, and a vector."""
    with pytest.raises(ValueError, match="unlabeled/gate_seg"):
        train(TrainingLog(tmp_path, experts=["seg", "sdf"]), lambda engine: {"unlabeled/gate_seg": value})


def test_writes_to_a_shared_writer(tmp_path: Path) -> None:
    """All numbers by name and epoch."""

    class Writer:
        def __init__(self) -> None:
            self.found: list[Sequence[Any]] = []

        def add_scalar(self, *arguments: Any) -> None:
            self.found.append(arguments)

    writer = Writer()
    train(TrainingLog(tmp_path, writer=writer), lambda engine: {"loss": scalar(1.0)}, epochs=2)
    assert ("loss", 1.0, 1) in writer.found
    assert ("learning_rate", 0.125, 2) in writer.found


def test_tensorboard_shows_an_epoch_once_that_is_done_again(tmp_path: Path) -> None:
    """Three epochs, the third repeated after a resume."""
    for value, begin, epochs in ((1.0, 0, 3), (2.0, 2, 4)):
        writer = SummaryWriter(tmp_path, filename_suffix=f".{begin}")
        watch = TrainingLog(tmp_path, writer=writer)
        train(watch, lambda engine, value=value: {"loss": scalar(value)}, epochs=epochs, begin=begin)  # type: ignore[misc]
        writer.close()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(1, 1.0), (2, 1.0), (3, 2.0), (4, 2.0)]


def _one_of_two(rank: int, folder: str) -> None:
    """Train in one of two processes; the second has an additional name."""
    os.environ["LOCAL_RANK"] = str(rank)  # or ignite guesses it, and says so
    torch.set_num_threads(1)  # a forked process must not wait for its parent's threads
    torch.distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=2)

    def step(engine: Engine) -> dict[str, Tensor]:
        weights = torch.tensor([[0.25 + 0.5 * rank, 0.75 - 0.5 * rank]])
        return {"loss": scalar(float(rank)), "labeled/gate_seg": weights} | ({"extra": scalar(5.0)} if rank else {})

    engine = train(TrainingLog(f"{folder}/{rank}", experts=["seg", "sdf"]), step)
    assert engine.state.training_log["loss"] == 0.5
    torch.distributed.destroy_process_group()


def test_two_processes_write_once_what_both_saw(tmp_path: Path) -> None:
    """Loss 0 and 1; weights 0.25 and 0.75."""
    multiprocessing.start_processes(_one_of_two, (str(tmp_path),), nprocs=2, start_method="fork")
    (row,) = table(tmp_path / "0" / "training.csv")
    names = ("loss", "extra", "labeled/gate_seg/seg/mean", "labeled/gate_seg/seg/spread")
    assert [float(row[name]) for name in names] == pytest.approx([0.5, 5.0, 0.5, 0.25])
    assert not (tmp_path / "1").exists()


def test_the_row_holds_the_metrics_of_a_validation_in_that_epoch_only(tmp_path: Path) -> None:
    evaluator: Any = Engine(lambda engine, batch: None)
    evaluator.state.epoch, evaluator.state.metrics = 2, {"pooled_dice": 0.75}
    train(TrainingLog(tmp_path, evaluator=evaluator), lambda engine: {"loss": scalar(1.0)}, epochs=2)
    first, second = table(tmp_path / "training.csv")
    assert first["validation/pooled_dice"] == ""
    assert second["validation/pooled_dice"] == "0.75"
