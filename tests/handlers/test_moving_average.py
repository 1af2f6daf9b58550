"""Moving average of a network: values after each step, computed by hand."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import DataLoader
from torch import nn

from bundle.engines import SemiSupervisedTrainer
from bundle.handlers import MovingAverage
from bundle.networks import UNet
from bundle.semi_supervision import LinearRamp, Step, WeightedSum


class OneWeight(nn.Module):
    """Network with one weight and batch normalization of one channel."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(100.0))
        self.norm = nn.BatchNorm2d(1)


def follow(values: list[float], handler: MovingAverage, epochs: int = 1, progress: Any = None) -> list[float]:
    """Return the average after each step of a training that sets the weight and running mean to these values."""
    network: Any = handler.network
    recorded: list[float] = []

    def step(engine: Any, value: float) -> None:
        engine.progress = None if progress is None else progress[engine.state.iteration - 1]
        with torch.no_grad():
            network.weight.fill_(value)
        network.norm.running_mean.fill_(value)
        network.norm.num_batches_tracked += 1

    engine = Engine(step)
    handler.attach(engine)
    average: Any = handler.average
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda: recorded.append(average.weight.item()))
    engine.run(values, max_epochs=epochs)
    return recorded


def by_hand(values: list[float], decays: list[float]) -> list[float]:
    """average <- d average + (1 - d) value."""
    average, result = 0.0, []
    for value, decay in zip(values, decays, strict=True):
        average = decay * average + (1 - decay) * value
        result.append(average)
    return result


def test_the_average_moves_by_the_stated_momentum() -> None:
    """d is 0, 1/2, 2/3, 3/4 and then 0.75: first the arithmetic mean, without the initial random weights."""
    values = [4.0, 8.0, 0.0, 2.0, -6.0, 10.0]
    handler = MovingAverage(OneWeight(), decay=0.75)
    recorded = follow(values, handler)
    assert recorded == pytest.approx(by_hand(values, [0.0, 1 / 2, 2 / 3, 0.75, 0.75, 0.75]))
    assert recorded[2] == pytest.approx(4.0)
    assert handler.updates == 6
    average: Any = handler.average
    assert average.norm.running_mean.item() == pytest.approx(recorded[-1]), "statistics follow with the same momentum"
    assert average.norm.num_batches_tracked.item() == 6


def test_the_momentum_stands_in_the_state_of_the_trainer() -> None:
    handler = MovingAverage(OneWeight(), decay=0.9, name="slow")
    engine = Engine(lambda engine, batch: None)
    handler.attach(engine)
    recorded: list[float] = []
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda: recorded.append(engine.state.slow))
    engine.run([0.0] * 12)
    assert recorded == pytest.approx([1 / (step + 1) for step in range(9)] + [0.1] * 3)


def test_a_decay_may_rise_over_training() -> None:
    values, progress = [1.0, 5.0, 2.0, 9.0], [0.0, 0.25, 0.5, 1.0]
    handler = MovingAverage(OneWeight(), decay=LinearRamp(maximum=0.6, initial=0.2))
    assert follow(values, handler, progress=progress) == pytest.approx(by_hand(values, [0.0, 0.3, 0.4, 0.6]))


def test_without_decay_the_average_is_the_network() -> None:
    assert follow([3.0, 5.0], MovingAverage(OneWeight(), decay=0.0)) == [3.0, 5.0]


@pytest.mark.parametrize("decay", [-0.1, 1.0, 99.0])
def test_a_decay_that_is_none_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match="decay"):
        MovingAverage(OneWeight(), decay=decay)
    ramped = MovingAverage(OneWeight(), decay=LinearRamp(initial=decay, maximum=2.0))
    with pytest.raises(ValueError, match="decay"):
        follow([1.0], ramped, progress=[0.0])


def test_the_average_is_a_network_of_its_own_without_gradient() -> None:
    network = UNet(widths=(3, 3, 4, 4, 4), dropout=0.5).to(memory_format=torch.channels_last)
    average = MovingAverage(network).average
    assert average.state_dict().keys() == network.state_dict().keys()
    assert not average.training
    assert network.training
    assert not any(parameter.requires_grad for parameter in average.parameters())
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert average.head.weight.data_ptr() != network.head.weight.data_ptr()
    assert average.head.weight.is_contiguous(memory_format=torch.channels_last)
    output = average(torch.randn(1, 3, 16, 16))
    assert not output.requires_grad


def test_the_network_is_copied_when_training_begins() -> None:
    """The average starts with weights loaded after construction; a later epoch copies nothing."""
    network = OneWeight()
    handler = MovingAverage(network, decay=0.5)
    with torch.no_grad():
        network.weight.fill_(-3.0)
    recorded: list[float] = []
    engine = Engine(lambda engine, batch: None)
    handler.attach(engine)
    average: Any = handler.average
    engine.add_event_handler(Events.ITERATION_STARTED, lambda: recorded.append(average.weight.item()))
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: average.weight.fill_(7.0))
    engine.run([0.0], max_epochs=2)
    assert recorded == [-3.0, 7.0]


def test_what_is_saved_goes_on_where_it_was() -> None:
    """The number of updates is restored too; otherwise the next update would replace the average by the network."""
    first = MovingAverage(OneWeight(), decay=0.9)
    follow([4.0, 8.0, 0.0], first)
    second = MovingAverage(OneWeight(), decay=0.9)
    second.load_state_dict(first.state_dict())
    assert second.updates == 3
    assert second.average.state_dict() == first.average.state_dict()
    with pytest.raises(RuntimeError, match="Missing key"):
        MovingAverage(nn.Linear(1, 1)).load_state_dict(first.state_dict())


def trainer_of(network: UNet, handler: MovingAverage, **settings: Any) -> SemiSupervisedTrainer:
    """A real trainer with four labeled images and batches of one image."""
    torch.manual_seed(0)
    images = [{"image": torch.randn(3, 32, 32), "label": torch.randint(0, 2, (1, 32, 32))} for _ in range(4)]
    loss = {"seg": lambda logits, label: logits.square().mean()}
    return SemiSupervisedTrainer(
        device="cpu",
        train_data_loader=DataLoader(images, batch_size=1),
        network=network,
        step=Step(network, {"seg": "label"}, loss, WeightedSum()),
        optimizer=torch.optim.SGD(network.parameters(), lr=0.1),
        train_handlers=[handler],
        **settings,
    )


@pytest.mark.parametrize("accumulated", [1, 2, 3])
def test_one_update_an_optimizer_step(accumulated: int) -> None:
    """Four iterations per epoch: with accumulation over three, the last one has its own step."""
    network = UNet(widths=(3, 3, 4, 4, 4))
    handler = MovingAverage(network)
    trainer = trainer_of(network, handler, max_epochs=2, accumulation_steps=accumulated)
    steps: list[int] = []
    trainer.optimizer.register_step_post_hook(lambda *given: steps.append(trainer.state.iteration))
    updates: list[int] = []

    def note() -> None:
        if handler.updates > len(updates):
            updates.append(trainer.state.iteration)

    trainer.add_event_handler(Events.ITERATION_COMPLETED, note)
    trainer.run()
    assert updates == steps
    assert handler.updates == {1: 8, 2: 4, 3: 4}[accumulated]


def rank_of_two(rank: int, folder: Path) -> None:
    """Run one of two processes; the statistics of their networks differ."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder / 'meeting'}", rank=rank, world_size=2)
    handler = MovingAverage(OneWeight(), decay=0.5)
    network: Any = handler.network
    network.norm.running_var.fill_(3.0 + rank)
    follow([4.0, 8.0], handler, epochs=2)
    torch.save(handler.average.state_dict(), folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_keep_the_same_average(tmp_path: Path) -> None:
    """The average of rank 0, whose network is saved; weights are equal already, because gradients are."""
    context: Any = multiprocessing.get_context("fork")  # no gradient in there, which a fork may not bear
    processes = [context.Process(target=rank_of_two, args=(rank, tmp_path)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=300)
        assert process.exitcode == 0
    result = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    assert [average["norm.running_var"].item() for average in result] == [3.0, 3.0]
    assert result[0] == result[1]
