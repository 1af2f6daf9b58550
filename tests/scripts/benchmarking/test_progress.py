"""Messages about cells, and the remaining time."""

from __future__ import annotations

import pytest

from scripts.benchmarking.progress import Progress, Running, duration


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (89, "89 s"), (100, "2 min"), (5300, "88 min"), (12000, "3 h 20 min")]
)
def test_a_duration_is_told_in_the_unit_that_fits(seconds, text):
    assert duration(seconds) == text


def test_nothing_is_known_at_first():
    assert Progress(2, 1).left(["a"], [Running("b-10-seed0", "b", 5.0, 0.0, 0.0)]) == "remaining time unknown"


def test_a_running_cell_tells_the_pace_from_what_this_process_did():
    resumed = Running("a-10-seed0", "a", seconds=100.0, before=0.5, share=0.75)
    assert resumed.whole() == 400
    assert Progress(2, 1).left(["a"], [resumed]) == f"about {duration(400 + 100)} left"


def test_finished_cells_tell_the_time_of_their_method():
    progress = Progress(5, 1)
    progress.add("a", 60)
    progress.add("a", 120)
    progress.add("b", 600)
    assert progress.left(["a", "b"], []) == f"about {duration(90 + 600)} left"
    assert progress.left(["c"], []) == f"about {duration((90 + 600) / 2)} left"


def test_cells_that_run_beside_each_other_share_the_time():
    progress = Progress(4, 2)
    progress.add("a", 600)
    assert progress.left(["a", "a", "a", "a"], []) == "about 20 min left"
    assert progress.left(["a"], []) == "about 10 min left"


def test_a_finished_cell_is_told_with_its_score():
    content = {
        "name": "a-10-seed0",
        "metrics": {"mean_dice": 0.5, "pooled_dice": 0.75},
        "selected": {"epoch": 3, "metric": "pooled_dice", "value": 0.8},
        "seconds": {"training": 60.0, "evaluation": 5.0},
        "peak_memory": {"host_mib": 512.4, "device_mib": None},
    }
    line = Progress(4, 1, ended=2).finished(content)
    assert line == "[2/4] a-10-seed0: pooled_dice 0.7500 on test; training 60 s, evaluation 5 s, 512 MiB"
    content |= {"selected": None, "peak_memory": {"host_mib": 512.4, "device_mib": 80.0}}
    line = Progress(4, 1, ended=2).finished(content)
    assert "mean_dice 0.5000" in line
    assert line.endswith("512 MiB, 80 MiB of the device")
