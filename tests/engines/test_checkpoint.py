"""What outlives a training: files written whole, the best model, and going on as if nothing had happened."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator
from monai.handlers import EarlyStopHandler, LrScheduleHandler, ValidationHandler
from monai.losses import DiceLoss
from monai.transforms import Compose, RandFlipd
from torch import Tensor, nn

from bundle.engines import BestModel, LastModel, ResumeFile, SemiSupervisedTrainer, save_whole
from bundle.engines.checkpoint import weights_of
from bundle.networks import UNet
from bundle.teaching import AdaptiveObjective, HeadLabeler, Lesson, LinearRamp, Step

WIDTHS = (3, 3, 4, 4, 4)


class KilledError(Exception):
    """Stands for a job that ends in the middle of an epoch."""


@dataclass
class Scores:
    """A validation handler that gives the epochs their scores."""

    scores: tuple[float, ...]

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Any) -> None:
        engine.state.key_metric_name = "score"
        engine.state.metrics["score"] = self.scores[engine.state.epoch - 1]


@dataclass
class Training:
    """A whole training as configs/train.json joins it: trainer, validation, schedule, best model, resume file."""

    trainer: SemiSupervisedTrainer
    network: UNet
    objective: AdaptiveObjective
    optimizer: torch.optim.Optimizer
    best_model: BestModel
    rates: list[float]

    def weights(self) -> dict[str, Tensor]:
        return {**self.network.state_dict(), **self.objective.state_dict()}


def pictures(count: int) -> list[dict[str, Any]]:
    """Random images and labels, the same whenever asked."""
    generator = torch.Generator().manual_seed(count)
    return [
        {
            "image": torch.randn(3, 32, 32, generator=generator),
            "label": torch.randint(0, 2, (1, 32, 32), generator=generator),
        }
        for _ in range(count)
    ]


def training(
    folder: Path,
    resume: bool = False,
    epochs: int = 4,
    scores: tuple[float, ...] = (0.5, 0.8, 0.6, 0.7, 0.7, 0.7, 0.7, 0.7),
    widths: tuple[int, ...] = WIDTHS,
    patience: int = 10,
    labeled: int = 4,
    without: tuple[str, ...] = (),
) -> Training:
    """Make all parts afresh, from random numbers that differ each time, as a new process would."""
    network = UNet(widths=widths, dropout=0.1)
    loss = DiceLoss(softmax=True, to_onehot_y=True)
    lesson = Lesson(HeadLabeler({"seg": "seg"}, {"seg": "hard"}), {"seg": loss})
    objective = AdaptiveObjective({"seg": ["seg"]}, LinearRamp(2.0))
    step = Step(network, {"seg": "label"}, {"seg": loss}, objective, {"own": lesson})
    groups = [{"params": network.parameters()}, {"params": objective.parameters(), "lr": 0.05, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.01, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=epochs, power=0.9)
    best_model = BestModel(network, folder / "model.pt")
    early_stop = EarlyStopHandler(patience, lambda engine: engine.state.metrics["score"])
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(pictures(1), batch_size=1),
        network=network,
        val_handlers=[Scores(scores), early_stop, best_model],
    )
    flips = Compose([RandFlipd(["image", "label"], prob=0.5, spatial_axis=0, allow_missing_keys=True)])
    trainer = SemiSupervisedTrainer(
        device="cpu",
        max_epochs=epochs,
        train_data_loader=DataLoader(Dataset(pictures(labeled), flips), batch_size=2, shuffle=True),
        unlabeled_data_loader=DataLoader(Dataset(pictures(6), flips), batch_size=2, shuffle=True),
        network=network,
        step=step,
        optimizer=optimizer,
        seed=11,
        train_handlers=[LrScheduleHandler(schedule, print_lr=False), ValidationHandler(1, evaluator)],
    )
    rates: list[float] = []
    trainer.add_event_handler(Events.EPOCH_STARTED, lambda: rates.append(optimizer.param_groups[0]["lr"]))
    early_stop.set_trainer(trainer)
    items = {"network": network, "objective": objective, "optimizer": optimizer, "lr_scheduler": schedule}
    items |= {"best_model": best_model, "early_stop": early_stop._handler}
    items = {name: item for name, item in items.items() if name not in without}
    ResumeFile(folder / "checkpoints" / "resume.pt", items, resume).attach(trainer)
    return Training(trainer, network, objective, optimizer, best_model, rates)


def kill(made: Training, iteration: int) -> None:
    """Let a training die in an iteration."""

    def die() -> None:
        raise KilledError

    made.trainer.add_event_handler(Events.ITERATION_COMPLETED(once=iteration), die)
    with pytest.raises(KilledError):
        made.trainer.run()


def differences(one: dict[str, Tensor], other: dict[str, Tensor]) -> dict[str, float]:
    """Largest difference of each weight, of those that differ by more than 1e-6."""
    largest = {name: (value.double() - other[name].double()).abs().max().item() for name, value in one.items()}
    return {name: value for name, value in largest.items() if value > 1e-6}


# Files


def test_a_file_is_written_into_folders_that_are_not_there(tmp_path: Path) -> None:
    path = tmp_path / "some" / "where" / "content.pt"
    save_whole({"value": torch.arange(3)}, path)
    assert torch.load(path, weights_only=True)["value"].tolist() == [0, 1, 2]
    assert list(path.parent.iterdir()) == [path]


def test_a_file_that_fails_half_way_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "content.pt"
    save_whole({"value": 1}, path)

    def fail(content: Any, file: Any) -> None:
        file.write(b"half of")
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="no space left"):
        save_whole({"value": 2}, path)
    monkeypatch.undo()
    assert torch.load(path, weights_only=True) == {"value": 1}
    assert list(tmp_path.iterdir()) == [path]
    save_whole({"value": 3}, path)
    assert torch.load(path, weights_only=True) == {"value": 3}


def test_a_reader_of_the_old_file_keeps_it_whole(tmp_path: Path) -> None:
    """The new file takes the old one's place and does not overwrite it."""
    path = tmp_path / "content.pt"
    save_whole({"value": 1}, path)
    with path.open("rb") as old:
        save_whole({"value": torch.zeros(1000)}, path)
        assert torch.load(old, weights_only=True) == {"value": 1}
    assert torch.load(path, weights_only=True)["value"].shape == (1000,)


# The best model


def validate(best_model: BestModel, *scores: float, metric: str = "dice") -> None:
    """Run an evaluator once a score; the network's weight is the score too."""
    for epoch, score in enumerate(scores, start=1):
        engine: Any = Engine(lambda engine, batch: None)
        engine.state.key_metric_name = "dice"
        best_model.attach(engine)

        @engine.on(Events.STARTED)
        def number(engine: Any, epoch: int = epoch, score: float = score) -> None:
            engine.state.epoch = epoch - 1
            engine.state.max_epochs = epoch
            engine.state.metrics = {"dice": -1.0, metric: score}

        nn.init.constant_(best_model.network.weight, score)
        engine.run([0])


@pytest.mark.parametrize(
    ("scores", "best", "epoch"),
    [
        ((0.5, 0.7, 0.6), 0.7, 2),
        ((0.5, 0.5, 0.4), 0.5, 1),  # no better: the earlier stays
        ((-0.5, -0.2), -0.2, 2),
        ((0.0,), 0.0, 1),
        ((float("nan"), 0.3, 0.2), 0.3, 2),  # no number is no best
        ((0.3, float("nan"), 0.2), 0.3, 1),
    ],
)
@pytest.mark.parametrize("metric", [None, "jaccard"])
def test_the_best_model_stays(
    tmp_path: Path, scores: tuple[float, ...], best: float, epoch: int, metric: str | None
) -> None:
    best_model = BestModel(nn.Linear(1, 1), tmp_path / "models" / "model.pt", metric)
    validate(best_model, *scores, metric=metric or "dice")
    state = torch.load(tmp_path / "models" / "model.pt", weights_only=True)
    assert state["weight"].item() == pytest.approx(best)
    assert best_model.state_dict() == {"score": best, "epoch": epoch}


def test_the_best_model_is_a_plain_state_dict(tmp_path: Path) -> None:
    network = nn.Linear(1, 1)
    validate(BestModel(network, tmp_path / "model.pt"), 0.5)
    state = torch.load(tmp_path / "model.pt", weights_only=True)
    assert list(state) == ["weight", "bias"]
    assert all(type(value) is Tensor for value in state.values())
    nn.Linear(1, 1).load_state_dict(state)


# Going on


def test_a_resumed_training_equals_an_unbroken_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Killed in the second iteration of the third epoch, which is done again: 4 epochs of 3 iterations."""
    torch.manual_seed(1)
    unbroken = training(tmp_path / "unbroken")
    start = {name: value.clone() for name, value in unbroken.weights().items()}
    unbroken.trainer.run()
    torch.manual_seed(1)
    first = training(tmp_path / "broken")
    assert differences(first.weights(), start) == {}
    kill(first, 3 * 2 + 2)
    assert differences(first.weights(), unbroken.weights())
    torch.manual_seed(2)  # a new process draws other weights first
    second = training(tmp_path / "broken", resume=True)
    with caplog.at_level(logging.INFO, logger="bundle.engines"):
        third = training(tmp_path / "broken", resume=True)
    assert "2 epochs are done" in caplog.text
    second.trainer.run()
    assert (second.trainer.state.epoch, second.trainer.state.iteration) == (4, 12)
    assert len(second.rates) == 2
    assert first.rates[:2] + second.rates == pytest.approx(unbroken.rates)
    assert differences(second.weights(), unbroken.weights()) == {}
    assert third.trainer.state.epoch == 2


def test_a_finished_training_is_left_as_it_is(tmp_path: Path) -> None:
    made = training(tmp_path, epochs=1)
    made.trainer.run()
    again = training(tmp_path, epochs=1, resume=True)
    again.trainer.run()
    assert again.rates == []
    assert differences(again.weights(), made.weights()) == {}


def test_a_worse_model_after_a_restart_does_not_replace_the_best(tmp_path: Path) -> None:
    """Scores 0.5, 0.8 | 0.6, 0.7: the second epoch's model stays."""
    made = training(tmp_path)
    kill(made, 7)
    best = (tmp_path / "model.pt").read_bytes()
    again = training(tmp_path, resume=True)
    assert again.best_model.state_dict() == {"score": 0.8, "epoch": 2}
    again.trainer.run()
    assert (tmp_path / "model.pt").read_bytes() == best
    assert again.best_model.state_dict() == {"score": 0.8, "epoch": 2}


def test_a_better_model_after_a_restart_replaces_the_best(tmp_path: Path) -> None:
    scores = (0.5, 0.8, 0.9, 0.7)
    kill(training(tmp_path, scores=scores), 7)
    again = training(tmp_path, scores=scores, resume=True)
    again.trainer.run()
    assert again.best_model.state_dict() == {"score": 0.9, "epoch": 3}
    assert set(torch.load(tmp_path / "model.pt", weights_only=True)) == set(again.network.state_dict())


def test_early_stopping_counts_on_after_a_restart(tmp_path: Path) -> None:
    """Best in epoch 2, patience 3: stops after epoch 5, whether killed in epoch 4 or not."""
    settings: dict[str, Any] = {"epochs": 8, "patience": 3}
    unbroken = training(tmp_path / "unbroken", **settings)
    unbroken.trainer.run()
    kill(training(tmp_path / "broken", **settings), 3 * 3 + 2)
    again = training(tmp_path / "broken", resume=True, **settings)
    again.trainer.run()
    assert unbroken.trainer.state.epoch == again.trainer.state.epoch == 5


def test_nothing_to_resume_starts_afresh_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="bundle.engines"):
        made = training(tmp_path, resume=True, epochs=1)
    path = tmp_path / "checkpoints" / "resume.pt"
    assert f"Nothing to resume at {path}: training starts afresh." in caplog.text
    made.trainer.run()
    assert made.trainer.state.epoch == 1
    assert path.is_file()


def test_without_being_asked_nothing_is_resumed(tmp_path: Path) -> None:
    training(tmp_path, epochs=1).trainer.run()
    made = training(tmp_path, epochs=1)
    assert (made.trainer.state.epoch, made.best_model.score) == (0, None)
    made.trainer.run()
    assert len(made.rates) == 1


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"widths": (3, 3, 4, 4, 8)}, r"does not fit this training \(network\): .*size mismatch"),
        ({"labeled": 10}, "it lacks nothing and has 3 steps an epoch, this one 5; start with --resume False"),
    ],
)
def test_another_training_is_refused(tmp_path: Path, settings: dict[str, Any], text: str) -> None:
    training(tmp_path, epochs=1).trainer.run()
    with pytest.raises(ValueError, match=rf"(?s)resume\.pt .*{text}"):
        training(tmp_path, resume=True, epochs=1, **settings)


def test_a_file_that_lacks_a_part_is_refused(tmp_path: Path) -> None:
    training(tmp_path, epochs=1, without=("objective", "best_model")).trainer.run()
    with pytest.raises(ValueError, match=r"it lacks \['best_model', 'objective'\]"):
        training(tmp_path, resume=True, epochs=1)


def test_another_number_of_epochs_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    training(tmp_path, epochs=1).trainer.run()
    training(tmp_path, resume=True, epochs=1)
    assert caplog.records == []
    made = training(tmp_path, resume=True, epochs=2)
    assert "is of a training of 1 epochs, this one has 2" in caplog.text
    made.trainer.run()
    assert made.trainer.state.epoch == 2


@dataclass
class Scaler:
    """A gradient scaler as CUDA has it."""

    state: dict[str, float]

    def state_dict(self) -> dict[str, float]:
        return self.state

    def load_state_dict(self, state: dict[str, float]) -> None:
        if not state:
            raise RuntimeError("the source state dict is empty")
        self.state = dict(state)


@pytest.mark.parametrize(
    ("saved", "amp", "expected"),
    [
        (Scaler({"scale": 8.0}), True, {"scale": 8.0}),
        (Scaler({}), True, {"scale": 1.0}),  # written on a machine without CUDA
        (None, True, {"scale": 1.0}),
        (Scaler({"scale": 8.0}), False, None),  # written with amp, resumed without
    ],
)
def test_the_gradient_scaler_goes_on(
    tmp_path: Path, saved: Scaler | None, amp: bool, expected: dict[str, float] | None
) -> None:
    """MONAI makes the scaler when the run starts: then it is loaded."""
    first = Engine(lambda engine, batch: None)
    first.scaler = saved  # type: ignore[attr-defined]
    ResumeFile(tmp_path / "resume.pt", {}).attach(first)
    first.run([0], max_epochs=1)
    engine: Any = Engine(lambda engine, batch: None)
    engine.state.epoch_length, engine.state.max_epochs = 1, 2
    engine.amp, engine.scaler = amp, Scaler({"scale": 1.0}) if amp else None
    ResumeFile(tmp_path / "resume.pt", {}, resume=True).attach(engine)
    engine.run([0], max_epochs=2)
    assert engine.state.epoch == 2
    assert (engine.scaler and engine.scaler.state) == expected


def test_without_validation_the_last_model_is_kept(tmp_path: Path) -> None:
    network = nn.Linear(2, 1)
    engine: Any = Engine(lambda engine, batch: network.weight.data.add_(1.0))
    LastModel(network, tmp_path / "models" / "model.pt").attach(engine)
    engine.run([0, 0], max_epochs=2)
    kept = torch.load(tmp_path / "models" / "model.pt", weights_only=True)
    assert torch.equal(kept["weight"], network.weight.data)


def test_weights_are_saved_from_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each tensor is fetched to the CPU and the network stays where it is; no GPU is needed to see that."""
    fetched: list[tuple[int, ...]] = []
    original = Tensor.cpu
    monkeypatch.setattr(Tensor, "cpu", lambda tensor: fetched.append(tuple(tensor.shape)) or original(tensor))
    network = nn.Linear(2, 1)
    saved = weights_of(network)
    assert fetched == [(1, 2), (1,)]
    assert torch.equal(saved["weight"], network.weight.data)
    assert not saved["weight"].requires_grad
