"""Training length of a cell."""

from __future__ import annotations

import pytest

from scripts.benchmarking.budget import Budget, Length, Pace, length_of, read_budget, steps_within, whole_passes


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("575steps", Budget(575, "steps")),
        (" 10 minutes ", Budget(10, "minutes")),
        ("0.5minutes", Budget(0.5, "minutes")),
    ],
)
def test_a_budget_is_read(text, budget):
    assert read_budget(text) == budget


@pytest.mark.parametrize("text", ["10", "10hours", "0steps", "1.5steps", "-3steps", "", "0.0minutes", "nansteps"])
def test_what_is_no_budget_is_refused(text):
    with pytest.raises(ValueError, match="a budget is a number of steps or minutes"):
        read_budget(text)


@pytest.mark.parametrize(
    ("steps", "epochs", "length"),
    [
        (575, 25, Length(25, 23)),
        (576, 25, Length(25, 24)),
        (60, 25, Length(25, 3)),
        (25, 25, Length(25, 1)),
        (7, 25, Length(7, 1)),
    ],
)
def test_steps_fill_the_epochs_of_the_configuration(steps, epochs, length):
    assert length_of(steps, epochs) == length
    assert length.steps >= steps


def test_no_step_is_no_training():
    with pytest.raises(ValueError, match="0 steps in 25 epochs are not enough"):
        length_of(0, 25)


def test_without_a_budget_an_epoch_is_a_pass_over_all_images():
    assert whole_passes(100, 4, 25) == Length(25, 25)
    assert whole_passes(101, 4, 25) == Length(25, 26)
    assert whole_passes(1, 4, 2).steps == 2


def test_minutes_are_those_of_the_slowest_method_with_its_validations():
    paces = {"quick": Pace(0.1, 1.0), "slow": Pace(0.5, 4.0)}
    assert steps_within(2, paces, epochs=25, interval=5) == (120 - 5 * 4) / 0.5
    assert steps_within(2, {"quick": paces["quick"]}, epochs=25, interval=5) == (120 - 5) / 0.1


def test_minutes_are_rounded_down_to_epochs_of_equal_length():
    paces = {"slow": Pace(0.5, 1.0)}
    assert steps_within(1, paces, epochs=25, interval=5) == 100  # 110 fit, 4 in each epoch
    assert steps_within(0.2, paces, epochs=25, interval=5) == 14  # fewer than epochs: one in each


@pytest.mark.parametrize(
    ("text", "length", "expected"),
    [
        ("60steps", Length(25, 3), "75 steps, 25 epochs of 3: rounded up, because all epochs have the same length"),
        ("75steps", Length(25, 3), "75 steps, 25 epochs of 3"),
        ("2.5minutes", Length(25, 4), "100 steps, 25 epochs of 4"),
    ],
)
def test_a_budget_says_what_it_comes_to(text, length, expected):
    assert read_budget(text).comes_to(length) == f"--budget {text} gives {expected}"


def test_minutes_that_validations_alone_take_are_too_few():
    with pytest.raises(ValueError, match=r"1 minutes are too few: 20 validations of slow take 1\.3 minutes"):
        steps_within(1, {"slow": Pace(0.5, 4.0)}, epochs=100, interval=5)
