"""Trainer: equality with MONAI's trainer, two streams, seeds, events, and errors."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents
from monai.losses import DiceLoss
from monai.transforms import Compose, RandFlipd
from torch import Tensor, nn

from bundle.engines import SemiSupervisedTrainer
from bundle.networks import UNet
from bundle.semi_supervision import ConsistencyTerm, ConstantRamp, HeadPseudoLabeler, Step, WeightedSum
from bundle.types import Batch, Scalars

WIDTHS = (3, 3, 4, 4, 4)


def pictures(count: int, side: int = 32, labeled: bool = True, first: int = 0) -> list[dict[str, Any]]:
    """Numbered random images, optionally with labels."""
    items: list[dict[str, Any]] = []
    for index in range(count):
        item: dict[str, Any] = {"image": torch.randn(3, side, side), "index": torch.tensor(first + index)}
        items.append(item | ({"label": torch.randint(0, 2, (1, side, side))} if labeled else {}))
    return items


class Listening(nn.Module):
    """A step without network that records its inputs; the loss is its one parameter or a given value."""

    def __init__(self, loss: float | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.told = loss
        self.labeled: list[list[int]] = []
        self.unlabeled: list[list[int]] = []
        self.progress: list[float] = []
        self.keys: set[str] = set()

    def forward(self, labeled: Batch, unlabeled: Batch | None, progress: float) -> Scalars:
        self.keys |= set(labeled)
        self.labeled.append(labeled["index"].tolist())
        self.unlabeled.append([] if unlabeled is None else unlabeled["index"].tolist())
        self.progress.append(progress)
        loss = self.weight if self.told is None else self.weight * self.told
        return {"loss": loss, "labeled/seg": loss.detach(), "unlabeled/gate_seg": torch.ones(2, 3) / 3}


def listening(
    labeled: int, unlabeled: int | None, epochs: int = 2, step: Listening | None = None, **rest: Any
) -> tuple[SemiSupervisedTrainer, Listening]:
    """Return a trainer over numbered images, with batches of one image, in order."""
    step = step or Listening()
    trainer = SemiSupervisedTrainer(
        device="cpu",
        max_epochs=epochs,
        train_data_loader=DataLoader(pictures(labeled, 2), batch_size=1),
        unlabeled_data_loader=None
        if unlabeled is None
        else DataLoader(pictures(unlabeled, 2, labeled=False, first=100), batch_size=1),
        network=nn.Identity(),
        step=step,
        optimizer=torch.optim.SGD(step.parameters(), lr=0.0),
        **rest,
    )
    return trainer, step


def flat(numbers: Sequence[Sequence[int]]) -> list[int]:
    """Return all numbers as one list."""
    return [number for batch in numbers for number in batch]


# MONAI's own trainer


@pytest.mark.parametrize(("accumulation_steps", "shuffle"), [(1, False), (1, True), (2, True)])
def test_the_supervised_step_equals_monais_trainer(accumulation_steps: int, shuffle: bool) -> None:
    """Two epochs of three iterations; with accumulation over two, the last one has its own optimizer step."""
    items, loss = pictures(6), DiceLoss(softmax=True, to_onehot_y=True, squared_pred=True)
    network = UNet(widths=WIDTHS)
    twin = copy.deepcopy(network)

    def optimizer(module: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.AdamW(module.parameters(), lr=0.01, weight_decay=0.1)

    def settings() -> dict[str, Any]:
        loader = DataLoader(Dataset(items), batch_size=2, shuffle=shuffle)
        return {"device": "cpu", "max_epochs": 2, "train_data_loader": loader, "accumulation_steps": accumulation_steps}

    losses: dict[str, list[float]] = {"ours": [], "theirs": []}
    step = Step(network, {"seg": "label"}, {"seg": loss}, WeightedSum())
    ours = SemiSupervisedTrainer(network=network, step=step, optimizer=optimizer(step), **settings())
    theirs = SupervisedTrainer(network=twin, loss_function=loss, optimizer=optimizer(twin), **settings())
    before = copy.deepcopy(network.state_dict())
    for name, trainer in (("ours", ours), ("theirs", theirs)):
        torch.manual_seed(7)
        trainer.add_event_handler(
            Events.ITERATION_COMPLETED,
            lambda engine, name=name: losses[name].append(float(engine.state.output[0]["loss"])),
        )
        trainer.run()
    assert len(losses["ours"]) == 6
    assert losses["ours"] == losses["theirs"]
    expected = twin.state_dict()
    assert not torch.equal(before["head.weight"], expected["head.weight"])
    for name, value in network.state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_all_events_fire_in_monais_order() -> None:
    watched = [*IterationEvents, Events.STARTED, Events.EPOCH_STARTED, Events.ITERATION_STARTED]
    watched += [Events.GET_BATCH_COMPLETED, Events.ITERATION_COMPLETED, Events.EPOCH_COMPLETED, Events.COMPLETED]
    orders = []
    network = UNet(widths=WIDTHS)
    settings: dict[str, Any] = {"device": "cpu", "max_epochs": 2, "network": network}
    settings["optimizer"] = torch.optim.SGD(network.parameters(), lr=0.1)
    settings["train_data_loader"] = DataLoader(pictures(4), batch_size=2)
    loss = DiceLoss(softmax=True, to_onehot_y=True)
    step = Step(network, {"seg": "label"}, {"seg": loss}, WeightedSum())
    for trainer in (SemiSupervisedTrainer(step=step, **settings), SupervisedTrainer(loss_function=loss, **settings)):
        order: list[str] = []
        for event in watched:
            trainer.add_event_handler(event, lambda _, name=event.name, order=order: order.append(name))
        trainer.run()
        orders.append(order)
    assert orders[0] == orders[1]
    assert orders[0].count("BACKWARD_COMPLETED") == 4
    assert orders[0][4:8] == ["FORWARD_COMPLETED", "LOSS_COMPLETED", "BACKWARD_COMPLETED", "MODEL_COMPLETED"]


def test_gradients_stand_between_backward_and_the_optimizer_step() -> None:
    """Handlers that clip gradients use BACKWARD_COMPLETED."""
    step = Listening()
    trainer, _ = listening(2, None, epochs=1, step=step)
    trainer.optimizer = torch.optim.SGD(step.parameters(), lr=1.0)
    recorded = []

    @trainer.on(IterationEvents.BACKWARD_COMPLETED)
    def clip() -> None:
        assert step.weight.grad is not None
        recorded.append((step.weight.item(), step.weight.grad.item()))
        step.weight.grad *= 0.25

    trainer.run()
    assert recorded == [(1.0, 1.0), (0.75, 1.0)]


@pytest.mark.parametrize("accumulation_steps", [1, 2, 3])
def test_accumulated_iterations_share_an_optimizer_step(accumulation_steps: int) -> None:
    """The gradient is 1 per iteration: a shared step uses the mean, the rest of the epoch has its own step."""
    step = Listening()
    trainer, _ = listening(5, None, epochs=1, step=step, accumulation_steps=accumulation_steps)
    trainer.optimizer = torch.optim.SGD(step.parameters(), lr=1.0)
    weights = []
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: weights.append(step.weight.item()))
    trainer.run()
    expected = {1: [0, -1, -2, -3, -4], 2: [1, 0, 0, -1, -1.5], 3: [1, 1, 0, 0, -2 / 3]}
    assert weights == pytest.approx(expected[accumulation_steps])


def test_what_an_iteration_leaves_behind() -> None:
    trainer, _ = listening(1, 1, epochs=1)
    recorded: list[dict[str, Any]] = []
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: recorded.append(engine.state.output[0]))
    trainer.run()
    assert set(recorded[0]) == {"image", "label", "loss"}
    assert set(trainer.state.step) == {"loss", "labeled/seg", "unlabeled/gate_seg"}
    assert not any(value.requires_grad for value in trainer.state.step.values())


def test_the_step_sees_plain_tensors_alone() -> None:
    step = Listening()
    items = [{"image": MetaTensor(torch.zeros(3, 2, 2)), "index": torch.tensor(0), "file": "a.png"}]
    types: set[type] = set()
    step.register_forward_pre_hook(lambda module, inputs: types.update(type(value) for value in inputs[0].values()))
    trainer, _ = listening(1, None, epochs=1, step=step)
    trainer.data_loader = DataLoader(items, batch_size=1)
    trainer.run()
    assert step.keys == {"image", "index"}
    assert types == {Tensor}


# Streams


@pytest.mark.parametrize(("labeled", "unlabeled", "length"), [(2, 5, 5), (5, 2, 5), (3, 3, 3), (2, None, 2)])
def test_an_epoch_is_as_long_as_the_longer_stream_and_the_shorter_repeats(
    labeled: int, unlabeled: int | None, length: int
) -> None:
    trainer, step = listening(labeled, unlabeled, epochs=2)
    trainer.run()
    assert flat(step.labeled) == [index % labeled for index in range(length)] * 2
    other = [] if unlabeled is None else [100 + index % unlabeled for index in range(length)] * 2
    assert flat(step.unlabeled) == other


def test_both_streams_restart_with_each_epoch() -> None:
    """With another epoch length than the loaders, no batches carry over to the next epoch."""
    trainer, step = listening(3, 5, epochs=3, epoch_length=4)
    trainer.run()
    assert flat(step.labeled) == [0, 1, 2, 0] * 3
    assert flat(step.unlabeled) == [100, 101, 102, 103] * 3


def test_progress_runs_from_nothing_to_all() -> None:
    trainer, step = listening(2, 3, epochs=3)
    trainer.run()
    assert step.progress == pytest.approx([index / 8 for index in range(9)])


def test_progress_of_a_single_iteration() -> None:
    trainer, step = listening(1, None, epochs=1)
    trainer.run()
    assert step.progress == [0.0]


def test_no_labeled_image_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no labeled image to train on.*'training'"):
        listening(0, 3)


# Seeds


def seeded(seed: int | None, epochs: int = 2, before: int = 0) -> dict[str, Tensor]:
    """Return the weights after a training with random order, flips and dropout, after drawing other numbers."""
    torch.manual_seed(0)
    transform = Compose([RandFlipd("image", prob=0.5, spatial_axis=0)])
    items, unlabeled = pictures(4), pictures(6, labeled=False)
    network = UNet(widths=WIDTHS, dropout=0.2)
    torch.rand(before)
    term = ConsistencyTerm(
        HeadPseudoLabeler({"seg": "seg"}, {"seg": "soft"}), {"seg": nn.MSELoss()}, ramp=ConstantRamp(0.1)
    )
    loss = DiceLoss(softmax=True, to_onehot_y=True)
    step = Step(network, {"seg": "label"}, {"seg": loss}, WeightedSum(), {"own": term})
    trainer = SemiSupervisedTrainer(
        device="cpu",
        max_epochs=epochs,
        train_data_loader=DataLoader(Dataset(items, transform), batch_size=2, shuffle=True),
        unlabeled_data_loader=DataLoader(Dataset(unlabeled, transform), batch_size=2, shuffle=True),
        network=network,
        step=step,
        optimizer=torch.optim.SGD(step.parameters(), lr=0.1),
        seed=seed,
    )
    torch.rand(before)
    trainer.run()
    return network.state_dict()


def alike(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    """Return whether all weights are bitwise equal."""
    return all(torch.equal(value, second[name]) for name, value in first.items())


def test_a_seed_decides_the_training() -> None:
    """Independent of random numbers drawn before, unless there is no seed."""
    assert alike(seeded(3), seeded(3, before=5))
    assert not alike(seeded(3), seeded(4))
    assert not alike(seeded(None), seeded(None, before=5))


def test_epochs_and_streams_and_ranks_draw_unlike_numbers() -> None:
    trainer, _ = listening(2, 2, seed=5)
    seeds = set()
    for trainer.state.epoch in (1, 2, 3):
        for trainer.state.rank in (0, 1):
            seeds |= {trainer._epoch_seed(stream) for stream in range(3)}
    assert len(seeds) == 18


def test_a_sampler_hears_of_the_epoch_on_both_streams() -> None:
    class Sampler(torch.utils.data.SequentialSampler):
        def __init__(self, source: Any) -> None:
            super().__init__(source)
            self.epochs: list[int] = []

        def set_epoch(self, epoch: int) -> None:
            self.epochs.append(epoch)

    trainer, _ = listening(2, 2, epochs=3)
    items = pictures(2, 2)
    samplers = Sampler(items), Sampler(items)
    trainer.data_loader, trainer.unlabeled_data_loader = (DataLoader(items, sampler=sampler) for sampler in samplers)
    trainer.run()
    assert [sampler.epochs for sampler in samplers] == [[1, 2, 3], [1, 2, 3]]


# Ends


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_the_training(loss: float) -> None:
    step = Listening(loss)
    trainer, _ = listening(1, 1, step=step)
    for name, stream in (("data_loader", "labeled"), ("unlabeled_data_loader", "unlabeled")):
        image = MetaTensor(torch.zeros(3, 2, 2), meta={"filename_or_obj": f"{stream}.png"})
        setattr(trainer, name, DataLoader([{"image": image, "index": torch.tensor(0)}], batch_size=1))
    trainer.optimizer = torch.optim.SGD(step.parameters(), lr=1.0)
    with pytest.raises(FloatingPointError) as caught:
        trainer.run()
    text = str(caught.value)
    assert f"the loss is {loss} in step 1 (epoch 1)" in text
    assert f"Losses: labeled/seg {loss}, loss {loss}." in text
    assert "Files: labeled.png, unlabeled.png." in text
    assert step.weight.item() == 1.0


def test_a_stop_names_the_step_and_what_it_knows_of_files() -> None:
    """In the fourth step; the images have no file names."""
    trainer, step = listening(3, None, epochs=2)

    @trainer.on(Events.ITERATION_STARTED(once=4))
    def spoil() -> None:
        step.told = float("nan")

    with pytest.raises(FloatingPointError, match=r"step 4 \(epoch 2\).*Files: unknown"):
        trainer.run()


def test_a_finished_training_is_not_run_again(caplog: pytest.LogCaptureFixture) -> None:
    trainer, step = listening(2, 2, epochs=2)
    trainer.run()
    assert len(step.labeled) == 4
    with caplog.at_level(logging.INFO, logger="bundle.engines.trainer"):
        trainer.run()
    assert len(step.labeled) == 4
    assert (trainer.state.epoch, trainer.state.iteration) == (2, 4)
    assert "All 2 epochs are already done." in caplog.text


def test_a_training_with_more_epochs_goes_on() -> None:
    """As in the rounds of a federated client."""
    trainer, step = listening(2, 2, epochs=1)
    trainer.run()
    trainer.state.max_epochs = 3
    trainer.run()
    assert len(step.labeled) == 6
    assert trainer.state.epoch == 3
    assert step.progress[-1] == 1.0
