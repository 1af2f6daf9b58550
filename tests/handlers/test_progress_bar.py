"""Progress of a training: a bar on a terminal, few plain lines otherwise."""

from __future__ import annotations

import io
from typing import Any

import torch
from ignite.engine import Engine

from bundle.handlers import RunProgress


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        """Return True."""
        return True


def train(progress: RunProgress, epochs: int = 3, begin: int = 0, stop_at: int | None = None) -> Any:
    """Run ``epochs`` epochs of four steps, after ``begin`` epochs."""

    def process(engine: Engine, batch: int) -> None:
        engine.state.step = {"loss": torch.tensor(0.5)}  # type: ignore[attr-defined]
        if engine.state.iteration == stop_at:
            engine.terminate()

    engine = Engine(process)
    progress.attach(engine)
    engine.load_state_dict({"epoch": begin, "max_epochs": epochs, "epoch_length": 4})
    engine.run(range(4))
    return engine


def test_a_file_gets_few_whole_lines() -> None:
    """The last step is always shown, others only after the interval."""
    stream = io.StringIO()
    train(RunProgress(stream=stream))
    (line,) = stream.getvalue().splitlines()
    assert line.startswith("training: 100% 12/12 steps [00:00, 00:00 left, epoch 3/3, loss 0.5000]")
    assert "\r" not in line
    stream = io.StringIO()
    train(RunProgress(interval=0.0, stream=stream))
    assert len(stream.getvalue().splitlines()) == 12


def test_writes_to_standard_error_by_default(capsys: Any) -> None:
    """Nothing is written to standard output."""
    train(RunProgress())
    result = capsys.readouterr()
    assert "12/12" in result.err
    assert result.out == ""


def test_a_terminal_gets_one_bar_over_all_epochs() -> None:
    """With loss and epoch; cleared at the end of an epoch, kept on the screen at the end of the training."""
    stream = Terminal()
    train(RunProgress(interval=0.0, stream=stream))
    text = stream.getvalue()
    assert "5/12" in text
    assert "epoch 2/3, loss 0.5000" in text
    assert text.count("\n") == 1
    assert "12/12" in text.rsplit("\r", 1)[-1]


def test_a_resumed_training_counts_its_own_steps_only_for_speed() -> None:
    """The first step shown is the ninth of twelve."""
    stream = io.StringIO()
    train(RunProgress(interval=0.0, stream=stream), begin=2)
    assert [line.split()[2] for line in stream.getvalue().splitlines()] == ["9/12", "10/12", "11/12", "12/12"]


def test_a_stopped_training_closes_the_bar() -> None:
    """The same handler may start again."""
    stream = Terminal()
    progress = RunProgress(interval=0.0, stream=stream)
    train(progress, stop_at=2)
    assert progress._bar is None
    assert stream.getvalue().endswith("\n")
    train(progress)
    assert "12/12" in stream.getvalue()
