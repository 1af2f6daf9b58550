"""A resumed training is equal to an uninterrupted one."""

from __future__ import annotations

import logging
import multiprocessing
import shutil
from collections.abc import Callable
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
from torch import Tensor
from torch.optim import lr_scheduler

from bundle.engines import BestModel, ResumeFile, SemiSupervisedTrainer
from bundle.handlers import MovingAverage
from bundle.networks import UNet
from bundle.semi_supervision import AdaptiveObjective, ConsistencyTerm, LinearRamp, Step, TeacherPseudoLabeler

WIDTHS = (3, 3, 4, 4, 4)


class KilledError(Exception):
    """Raised to stop a training in the middle of an epoch."""


@dataclass
class Scores:
    """Validation handler with given scores for the epochs."""

    scores: tuple[float, ...]

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Any) -> None:
        engine.state.key_metric_name = "score"
        engine.state.metrics["score"] = self.scores[engine.state.epoch - 1]


@dataclass
class Training:
    """A complete training as in configs/train.json: trainer, validation, schedule, best model, resume file.

    It also has a teacher, the moving average of the network.
    """

    trainer: SemiSupervisedTrainer
    network: UNet
    teacher: MovingAverage
    objective: AdaptiveObjective
    optimizer: torch.optim.Optimizer
    best_model: BestModel
    rates: list[float]

    def weights(self) -> dict[str, Tensor]:
        """Return everything that is learned: network, teacher, objective, and optimizer moments."""
        moments = self.optimizer.state_dict()["state"]
        return {
            **self.network.state_dict(),
            **{f"teacher.{name}": value for name, value in self.teacher.average.state_dict().items()},
            **{f"objective.{name}": value for name, value in self.objective.state_dict().items()},
            **{f"moments.{number}.{name}": value for number, state in moments.items() for name, value in state.items()},
        }


def pictures(count: int) -> list[dict[str, Any]]:
    """Random images and labels, equal in each call."""
    generator = torch.Generator().manual_seed(count)
    return [
        {
            "image": torch.randn(3, 32, 32, generator=generator),
            "label": torch.randint(0, 2, (1, 32, 32), generator=generator),
        }
        for _ in range(count)
    ]


Schedule = Callable[[torch.optim.Optimizer, int], Any]


def polynomial(optimizer: torch.optim.Optimizer, epochs: int) -> Any:
    """The schedule of configs/train.json."""
    return lr_scheduler.PolynomialLR(optimizer, total_iters=epochs, power=0.9)


def sequential(optimizer: torch.optim.Optimizer, epochs: int) -> Any:
    """A schedule like that of configs/schedules/paper.yaml."""
    warm, halved = lr_scheduler.LinearLR(optimizer, 0.1, total_iters=2), lr_scheduler.StepLR(optimizer, 2, 0.5)
    return lr_scheduler.SequentialLR(optimizer, [warm, halved], milestones=[2])


def plateau(optimizer: torch.optim.Optimizer, epochs: int) -> Any:
    """A schedule that depends on a score: the number of the epoch, which never improves."""
    return lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.5)


def training(
    folder: Path,
    resume: bool = False,
    epochs: int = 4,
    scores: tuple[float, ...] = (0.5, 0.8, 0.6, 0.7, 0.7, 0.7, 0.7, 0.7),
    widths: tuple[int, ...] = WIDTHS,
    patience: int = 10,
    labeled: int = 4,
    without: tuple[str, ...] = (),
    workers: int = 0,
    rate: float = 0.01,
    schedule: Schedule = polynomial,
    kind: Any = torch.optim.AdamW,
) -> Training:
    """Create all parts with new random numbers, as a new process would."""
    network = UNet(widths=widths, dropout=0.1)
    loss = DiceLoss(softmax=True, to_onehot_y=True)
    teacher = MovingAverage(network, LinearRamp(maximum=0.99, initial=0.8))
    term = ConsistencyTerm(TeacherPseudoLabeler(teacher.average, {"seg": "seg"}, {"seg": "hard"}), {"seg": loss})
    objective = AdaptiveObjective({"seg": ["seg"]}, LinearRamp(2.0))
    step = Step(network, {"seg": "label"}, {"seg": loss}, objective, {"teacher": term})
    groups = [{"params": network.parameters()}, {"params": objective.parameters(), "lr": 0.05, "weight_decay": 0.0}]
    optimizer = kind(groups, lr=rate, weight_decay=0.01)
    scheduler = schedule(optimizer, epochs)
    best_model = BestModel(network, folder / "model.pt")
    early_stop = EarlyStopHandler(patience, lambda engine: engine.state.metrics["score"])
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(pictures(1), batch_size=1),
        network=network,
        val_handlers=[Scores(scores), early_stop, best_model],
    )
    steps: dict[str, Any] = {"step_transform": lambda engine: engine.state.epoch} if schedule is plateau else {}
    flips = Compose([RandFlipd(["image", "label"], prob=0.5, spatial_axis=0, allow_missing_keys=True)])
    trainer = SemiSupervisedTrainer(
        device="cpu",
        max_epochs=epochs,
        train_data_loader=DataLoader(
            Dataset(pictures(labeled), flips), batch_size=2, shuffle=True, num_workers=workers
        ),
        unlabeled_data_loader=DataLoader(Dataset(pictures(6), flips), batch_size=2, shuffle=True, num_workers=workers),
        network=network,
        step=step,
        optimizer=optimizer,
        seed=11,
        train_handlers=[LrScheduleHandler(scheduler, print_lr=False, **steps), ValidationHandler(1, evaluator)],
    )
    teacher.attach(trainer)
    rates: list[float] = []
    trainer.add_event_handler(Events.EPOCH_STARTED, lambda: rates.append(optimizer.param_groups[0]["lr"]))
    early_stop.set_trainer(trainer)
    items = {"network": network, "objective": objective, "optimizer": optimizer, "lr_scheduler": scheduler}
    items |= {"teacher": teacher, "best_model": best_model, "early_stop": early_stop._handler}
    items = {name: item for name, item in items.items() if name not in without}
    ResumeFile(folder / "checkpoints" / "resume.pt", items, resume).attach(trainer)
    return Training(trainer, network, teacher, objective, optimizer, best_model, rates)


def kill(bundle_copy: Training, iteration: int) -> None:
    """Stop a training in an iteration."""

    def die() -> None:
        raise KilledError

    bundle_copy.trainer.add_event_handler(Events.ITERATION_COMPLETED(once=iteration), die)
    with pytest.raises(KilledError):
        bundle_copy.trainer.run()


def differences(first: dict[str, Tensor], second: dict[str, Tensor]) -> dict[str, float]:
    """Return the largest difference of each weight that differs by more than 1e-6."""
    largest = {name: (value.double() - second[name].double()).abs().max().item() for name, value in first.items()}
    return {name: value for name, value in largest.items() if value > 1e-6}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Resume file of a training of one epoch; tests must not change it."""
    folder = tmp_path_factory.mktemp("finished")
    training(folder, epochs=1).trainer.run()
    return folder / "checkpoints" / "resume.pt"


@pytest.fixture
def resume_file(finished: Path, tmp_path: Path) -> Path:
    """Copy of that file, where a training in `tmp_path` looks for it."""
    path = tmp_path / "checkpoints" / "resume.pt"
    path.parent.mkdir()
    shutil.copy(finished, path)
    return path


# Going on


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_training_equals_an_unbroken_one(
    tmp_path: Path, workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Killed in the second iteration of the third epoch, which is repeated: 4 epochs of 3 iterations."""
    torch.manual_seed(1)
    unbroken = training(tmp_path / "unbroken", workers=workers)
    start = {name: value.clone() for name, value in unbroken.weights().items()}
    unbroken.trainer.run()
    torch.manual_seed(1)
    first = training(tmp_path / "broken", workers=workers)
    assert differences(first.weights(), start) == {}
    kill(first, 3 * 2 + 2)
    assert differences(first.weights(), unbroken.weights())
    torch.manual_seed(2)  # a new process draws other weights first
    second = training(tmp_path / "broken", resume=True, workers=workers)
    with caplog.at_level(logging.INFO, logger="bundle.engines"):
        third = training(tmp_path / "broken", resume=True, workers=workers)
    assert [record.getMessage() for record in caplog.records if record.name.startswith("bundle")] == [
        f"Resumed from {tmp_path / 'broken' / 'checkpoints' / 'resume.pt'}: 2 epochs are done."
    ]
    second.trainer.run()
    assert multiprocessing.active_children() == [], "loader processes end with the run, also with one that dies"
    assert (second.trainer.state.epoch, second.trainer.state.iteration) == (4, 12)
    assert len(second.rates) == 2
    assert first.rates[:2] + second.rates == pytest.approx(unbroken.rates)
    assert any(name.startswith("teacher.") for name in unbroken.weights())
    assert any(name.startswith("moments.") for name in unbroken.weights())
    assert differences(second.weights(), unbroken.weights()) == {}
    assert third.trainer.state.epoch == 2


@pytest.mark.parametrize("schedule", [sequential, plateau])
def test_rates_go_on_as_if_nothing_had_happened(tmp_path: Path, schedule: Schedule) -> None:
    unbroken = training(tmp_path / "unbroken", epochs=5, schedule=schedule)
    unbroken.trainer.run()
    assert len(set(unbroken.rates)) > 2
    rates = []
    for stop in (1, 3):  # twice: a resumed training is resumed
        session = training(tmp_path / "broken", epochs=5, schedule=schedule, resume=stop > 1)
        kill(session, 3 * stop + 1)
        rates += session.rates[:-1]
    session = training(tmp_path / "broken", epochs=5, schedule=schedule, resume=True)
    session.trainer.run()
    assert rates + session.rates == unbroken.rates


def test_a_finished_training_goes_on_with_more_epochs_by_the_new_plan(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """At the end the old schedule is at 0, where nothing would be learned."""
    session = training(tmp_path, epochs=2)
    session.trainer.run()
    assert session.optimizer.param_groups[0]["lr"] == 0.0
    with caplog.at_level(logging.INFO, logger="bundle.engines"):
        repeated = training(tmp_path, epochs=4, resume=True)
    assert "It was planned for 2 epochs, now for 4; ramps follow." in caplog.text
    assert (
        "The learning rate follows the schedule of this run: 0.00536, 0.0268, not 0, 0 as saved (one per "
        in caplog.text
    )
    repeated.trainer.run()
    whole = training(tmp_path / "whole", epochs=4)
    whole.trainer.run()
    assert repeated.rates == pytest.approx(whole.rates[2:])
    assert min(repeated.rates) > 0
    state = torch.load(tmp_path / "checkpoints" / "resume.pt", weights_only=True)
    assert (state["trainer"]["epoch"], state["lr_scheduler"]["last_epoch"]) == (4, 4)


def test_another_rate_takes_effect_and_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Learned values come from the file, settings from the command line."""
    kill(training(tmp_path), 4)
    with caplog.at_level(logging.INFO, logger="bundle.engines"):
        session = training(tmp_path, resume=True, rate=0.1)
    assert session.optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * 0.75**0.9)
    assert "The learning rate follows the schedule of this run: 0.0772" in caplog.text


def test_a_finished_training_is_left_as_it_is(tmp_path: Path) -> None:
    session = training(tmp_path, epochs=1)
    session.trainer.run()
    repeated = training(tmp_path, epochs=1, resume=True)
    repeated.trainer.run()
    assert repeated.rates == []
    assert differences(repeated.weights(), session.weights()) == {}


def test_a_worse_model_after_a_restart_does_not_replace_the_best(tmp_path: Path) -> None:
    """Scores 0.5, 0.8 | 0.6, 0.7: the second epoch's model stays."""
    session = training(tmp_path)
    kill(session, 7)
    best = (tmp_path / "model.pt").read_bytes()
    repeated = training(tmp_path, resume=True)
    assert repeated.best_model.state_dict() == {"score": 0.8, "epoch": 2}
    repeated.trainer.run()
    assert (tmp_path / "model.pt").read_bytes() == best
    assert repeated.best_model.state_dict() == {"score": 0.8, "epoch": 2}


def test_a_better_model_after_a_restart_replaces_the_best(tmp_path: Path) -> None:
    scores = (0.5, 0.8, 0.9, 0.7)
    kill(training(tmp_path, scores=scores), 7)
    repeated = training(tmp_path, scores=scores, resume=True)
    repeated.trainer.run()
    assert repeated.best_model.state_dict() == {"score": 0.9, "epoch": 3}
    assert set(torch.load(tmp_path / "model.pt", weights_only=True)) == set(repeated.network.state_dict())


def test_early_stopping_counts_on_after_a_restart(tmp_path: Path) -> None:
    """Best in epoch 2, patience 3: stops after epoch 5, whether killed in epoch 4 or not."""
    settings: dict[str, Any] = {"epochs": 8, "patience": 3}
    unbroken = training(tmp_path / "unbroken", **settings)
    unbroken.trainer.run()
    kill(training(tmp_path / "broken", **settings), 3 * 3 + 2)
    repeated = training(tmp_path / "broken", resume=True, **settings)
    repeated.trainer.run()
    assert unbroken.trainer.state.epoch == repeated.trainer.state.epoch == 5


def test_nothing_to_resume_starts_afresh_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="bundle.engines"):
        session = training(tmp_path, resume=True, epochs=1)
    path = tmp_path / "checkpoints" / "resume.pt"
    assert f"There is no resume file {path}: training starts from the beginning." in caplog.text
    session.trainer.run()
    assert session.trainer.state.epoch == 1
    assert path.is_file()


def test_without_being_asked_nothing_is_resumed(tmp_path: Path) -> None:
    training(tmp_path, epochs=1).trainer.run()
    session = training(tmp_path, epochs=1)
    assert (session.trainer.state.epoch, session.best_model.score) == (0, None)
    session.trainer.run()
    assert len(session.rates) == 1


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (
            {"widths": (3, 3, 4, 4, 8)},
            r"does not fit this training \(network\): encoder\.down_4\..* has shape \(4, 4, 3, 3\), expected ",
        ),
        ({"kind": torch.optim.SGD}, "does not fit this training: optimizer is AdamW, not SGD; resume with the"),
        (
            {"labeled": 10},
            "it lacks nothing and has 3 steps per epoch, this training has 5; resume with the same configs",
        ),
    ],
)
def test_another_training_is_refused(tmp_path: Path, resume_file: Path, settings: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=rf"(?s)resume\.pt .*{text}"):
        training(tmp_path, resume=True, epochs=1, **settings)


def test_a_file_that_lacks_a_part_is_refused(tmp_path: Path) -> None:
    training(tmp_path, epochs=1, without=("objective", "best_model")).trainer.run()
    with pytest.raises(ValueError, match=r"it lacks \['best_model', 'objective'\]"):
        training(tmp_path, resume=True, epochs=1)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "cannot be read as a resume file: it is damaged"),
        (b"half", "cannot be read as a resume file: it is damaged"),
        ({"weight": torch.zeros(1)}, "is not a resume file: it lacks 'trainer'; resume with"),
        (torch.zeros(1), "is not a resume file: it lacks 'trainer'"),
    ],
    ids=["empty", "truncated", "model", "tensor"],
)
def test_what_is_no_resume_file_is_refused_and_stays(
    tmp_path: Path, resume_file: Path, content: Any, text: str
) -> None:
    if content == b"half":
        resume_file.write_bytes(resume_file.read_bytes()[:5000])
    else:
        resume_file.write_bytes(content) if isinstance(content, bytes) else torch.save(content, resume_file)
    before = resume_file.read_bytes()
    with pytest.raises(ValueError, match=rf"resume\.pt {text}"):
        training(tmp_path, resume=True)
    assert resume_file.read_bytes() == before
    assert list(resume_file.parent.iterdir()) == [resume_file]


def test_a_state_that_an_item_refuses_is_said_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints" / "resume.pt"
    training(tmp_path, epochs=1).trainer.run()
    content = torch.load(path, weights_only=True)
    content["early_stop"] = {"counter": 0}
    torch.save(content, path)
    with pytest.raises(ValueError, match=r"resume\.pt does not fit this training \(early_stop\): .*best_score"):
        training(tmp_path, resume=True, epochs=1)


ONE = {"epoch": 1, "epoch_length": 3, "max_epochs": 1}
WRONG_PARTS: list[tuple[dict[str, Any], str]] = [
    ({"network": [1]}, r"is damaged: network is list; resume with"),
    ({"network": {"conv": "text"}}, r"does not fit this training \(network\): it lacks "),
    ({"setting": 3}, r"is damaged: setting is int"),
    ({"setting": {"seed": torch.zeros(2)}}, r"is damaged: seed is a tensor"),
    ({"trainer": ONE | {"kinds": []}}, r"is damaged: kinds is list"),
    ({"trainer": {"epoch_length": 3}}, r"is damaged: epoch is None"),
    *(
        ({"trainer": ONE | {"epoch": epoch}}, r"is damaged: epoch is ")
        for epoch in ("1", 1.0, None, True, -1, 0, 10**9)
    ),
    ({"trainer": ONE | {"max_epochs": "many"}}, r"is damaged: max_epochs is 'many'"),
    (
        {"best_model": {"score": "good", "epoch": 1}},
        r"\(best_model\): score is 'good' and epoch 1; expected two numbers",
    ),
    ({"best_model": {"score": 0.5, "epoch": None}}, r"\(best_model\): score is 0.5 and epoch None"),
    ({"best_model": None}, r"is damaged: best_model is NoneType"),
    ({"early_stop": {"counter": "2", "best_score": 0.5}}, r"\(early_stop\): counter is '2' and best_score 0.5"),
    ({"early_stop": {"counter": 1, "best_score": []}}, r"\(early_stop\): counter is 1 and best_score \[\]"),
    *(
        (
            {"lr_scheduler": {"last_epoch": value}},
            r"\(lr_scheduler\): last_epoch is .*, expected a number of steps up to 3",
        )
        for value in (float("nan"), 10**9, "1", None, -1)
    ),
    ({"optimizer": {"state": {}, "param_groups": 3}}, r"\(optimizer\): "),
]


@pytest.mark.parametrize(("change", "text"), WRONG_PARTS, ids=str)
def test_a_part_of_a_wrong_type_is_refused(
    tmp_path: Path, resume_file: Path, change: dict[str, Any], text: str
) -> None:
    torch.save(torch.load(resume_file, weights_only=True) | change, resume_file)
    with pytest.raises(ValueError, match=rf"resume\.pt .*{text}"):
        training(tmp_path, resume=True, epochs=1)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("exp_avg", "text", "exp_avg is str, expected numbers"),
        ("exp_avg", None, "exp_avg is NoneType, expected numbers"),
        ("step", -1, "step is -1.*, expected the number of steps"),
        ("step", torch.zeros(2), "step is tensor.*, expected the number of steps"),
        ("exp_avg", torch.zeros(7), "exp_avg has not the shape"),
        ("step", [], r"float\(\) argument must be .*, not .list.; resume with"),
    ],
)
def test_moments_of_a_wrong_kind_are_refused(
    tmp_path: Path, resume_file: Path, name: str, value: Any, text: str
) -> None:
    content = torch.load(resume_file, weights_only=True)
    content["optimizer"]["state"][0][name] = value
    torch.save(content, resume_file)
    with pytest.raises(ValueError, match=rf"does not fit this training \(optimizer\): {text}"):
        training(tmp_path, resume=True, epochs=1)


def test_another_number_of_loader_processes_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It may be needed, where memory is full, and changes the random numbers."""
    kill(training(tmp_path), 4)
    with caplog.at_level(logging.WARNING, logger="bundle.engines"):
        training(tmp_path, resume=True)
        assert "num_workers" not in caplog.text
        training(tmp_path, resume=True, workers=2)
    assert "num_workers was 0 and is now 2: crops and flips differ from here on" in caplog.text


def test_what_a_killed_run_left_is_taken_away(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    (folder / ".resume.pt.1.partial").touch()
    training(tmp_path)
    assert list(folder.iterdir()) == []


def test_a_place_that_cannot_be_written_is_found_before_the_first_epoch(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        training(tmp_path / "file")


def test_a_training_stopped_early_stays_stopped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Killed after its last epoch was saved: it must not continue, unless patience is raised."""
    settings: dict[str, Any] = {"epochs": 8, "patience": 3}
    session = training(tmp_path, **settings)
    session.trainer.run()
    assert session.trainer.state.epoch == 5
    with caplog.at_level(logging.INFO, logger="bundle.engines"):
        repeated = training(tmp_path, resume=True, **settings)
    assert "Early stopping ended this training" in caplog.text
    repeated.trainer.run()
    assert repeated.rates == []
    assert repeated.trainer.state.epoch == 5
    assert differences(repeated.weights(), session.weights()) == {}
    more = training(tmp_path, resume=True, epochs=8, patience=4)
    more.trainer.run()
    assert len(more.rates) == 1


@dataclass
class Scaler:
    """A gradient scaler with the state of CUDA."""

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
    """MONAI creates the scaler when the run starts, so it is loaded then."""
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


def test_other_images_or_another_seed_are_refused(tmp_path: Path) -> None:
    """The best score could belong to other images, or training images be used for validation."""
    first = Engine(lambda engine, batch: None)
    ResumeFile(tmp_path / "resume.pt", {}, setting={"set of images": "ab12", "seed": 0}).attach(first)
    first.run([0], max_epochs=1)
    for setting, message in (
        ({"set of images": "cd34", "seed": 0}, r"with another set of images \(ab12, now cd34\); resume with"),
        ({"set of images": "ab12", "seed": 7}, r"with another seed \(0, now 7\)"),
    ):
        engine: Any = Engine(lambda engine, batch: None)
        engine.state.epoch_length, engine.amp = 1, False
        with pytest.raises(ValueError, match=message):
            ResumeFile(tmp_path / "resume.pt", {}, resume=True, setting=setting).attach(engine)
        assert engine.state.epoch == 0


def test_a_fresh_start_says_what_it_writes_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A resume file, and a model without one, such as released weights."""
    path = tmp_path / "checkpoints" / "resume.pt"
    for there in ([], ["checkpoints/resume.pt"], ["model.pt"], ["model.pt", "checkpoints/resume.pt"]):
        caplog.clear()
        shutil.rmtree(path.parent, ignore_errors=True)
        for name in there:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(b"")
        ResumeFile(path, {}).attach(Engine(lambda engine, batch: None))
        expected = f"will overwrite {' and '.join(str(tmp_path / name) for name in there)}; stop it"
        assert (expected in caplog.text) if there else caplog.text == ""
        (tmp_path / "model.pt").unlink(missing_ok=True)
