"""Files of a benchmark, and the lock on its folder."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.benchmarking.files import OutputLock, move_aside, read_json, write_json
from scripts.benchmarking.results import last_line, read_columns, read_curves, read_evaluation, read_metrics


def test_json_comes_back_and_what_is_no_number_becomes_null(tmp_path):
    path = tmp_path / "folder" / "one.json"
    write_json(path, {"format": "a/1", "values": [1.5, float("nan"), float("inf")], "deep": {"x": (1, 2)}})
    assert read_json(path, "a/1") == {"format": "a/1", "values": [1.5, None, None], "deep": {"x": [1, 2]}}
    assert [file.name for file in path.parent.iterdir()] == ["one.json"]


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path):
    path = tmp_path / "one.json"
    write_json(path, {"format": "a/1"})
    with pytest.raises(TypeError):
        write_json(path, {"format": object()})
    assert read_json(path, "a/1") == {"format": "a/1"}
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("text", "fault"), [('{"format": ', "is damaged"), ("[]", "format None"), ("{}", "format None")]
)
def test_a_damaged_or_foreign_file_is_told(text, fault, tmp_path):
    path = tmp_path / "one.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"one\.json .*{fault}"):
        read_json(path, "a/1")


def test_a_folder_moved_aside_never_meets_another(tmp_path):
    for number in range(2):
        (tmp_path / "cell").mkdir()
        (tmp_path / "cell" / "file").write_text(str(number))
        move_aside(tmp_path / "cell", tmp_path / "replaced")
    saved = sorted(path.read_text() for path in (tmp_path / "replaced").glob("cell-*/file"))
    assert saved == ["0", "1"]


# The lock


@pytest.fixture
def at_once(monkeypatch):
    """Do not wait for a lock."""
    monkeypatch.setattr("scripts.benchmarking.files.PATIENCE", 0.0)


def refused(folder: Path) -> str:
    """Return the reason why the lock cannot be acquired."""
    with pytest.raises(ValueError, match="wait for it, stop it, or give another --output") as caught:
        OutputLock(folder).__enter__()
    return str(caught.value).split(" is used by ")[1].split(";")[0]


@pytest.fixture
def hold(tmp_path):
    """Start a process that keeps the lock file open until it is stopped."""
    started = []

    def make(lock: OutputLock) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        started.append(subprocess.Popen(command, pass_fds=lock.inherited, **pipes))
        started[-1].stdout.readline()
        return started[-1]

    yield make
    for process in started:
        process.communicate()


def test_the_lock_keeps_a_second_benchmark_out_and_says_who_is_at_work(tmp_path, hold, at_once):
    with OutputLock(tmp_path, "simulation") as lock:
        training, other = hold(lock), hold(lock)
        lock.note(["ended-10-seed0 (process 7)", f"one-10-seed0 (process {training.pid})"])
        holders = {
            os.getpid(): f"simulation (process {os.getpid()})",
            training.pid: f"one-10-seed0 (process {training.pid})",
            other.pid: f"process {other.pid}",
        }
        assert refused(tmp_path) == ", ".join(holders[number] for number in sorted(holders))
        for process in (training, other):
            process.communicate()
    with OutputLock(tmp_path):
        pass


def test_a_training_that_outlives_a_killed_benchmark_keeps_others_out(tmp_path, hold, at_once):
    with OutputLock(tmp_path) as lock:
        orphan = hold(lock)
        lock.note([f"one-10-seed0 (process {orphan.pid})"])
    assert refused(tmp_path) == f"one-10-seed0 (process {orphan.pid})", "the benchmark itself holds it no more"
    orphan.communicate()
    with OutputLock(tmp_path):
        pass


def test_nobody_is_named_where_the_system_does_not_tell(tmp_path, at_once, monkeypatch):
    with OutputLock(tmp_path):
        monkeypatch.setattr("scripts.benchmarking.files.Path", lambda _: tmp_path / "none")
        assert refused(tmp_path) == "another run"


def test_what_is_about_to_end_is_waited_for(tmp_path, hold, monkeypatch):
    """For example a process that was killed but has not ended yet."""
    with OutputLock(tmp_path) as lock:
        orphan = hold(lock)
    monkeypatch.setattr("scripts.benchmarking.files.time.sleep", lambda _: orphan.communicate())
    with OutputLock(tmp_path):
        assert orphan.returncode == 0


def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch):
    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.raises(ValueError, match=r"\.lock cannot be locked \(No locks available\); give an --output on a file"):
        OutputLock(tmp_path).__enter__()


# What runs leave


def test_metrics_are_names_and_numbers(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("mean_dice,0.5\npooled_dice,0.75\nsurface,nan\n")
    scores = read_metrics(path)
    assert list(scores) == ["mean_dice", "pooled_dice", "surface"]
    assert scores["pooled_dice"] == 0.75
    for text in ("mean_dice,high\n", "mean_dice\n"):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"metrics\.csv holds .*, expected a name and a number"):
            read_metrics(path)
    path.write_text("")
    with pytest.raises(ValueError, match="holds no metric"):
        read_metrics(path)
    with pytest.raises(FileNotFoundError, match="which the run should have written"):
        read_metrics(tmp_path / "none.csv")


def test_columns_keep_empty_cells_apart_from_zero(tmp_path):
    path = tmp_path / "training.csv"
    path.write_text("epoch,loss,validation/pooled_dice\n1,0.5,\n2,0,0.75\n")
    assert read_curves(path) == {"epoch": [1, 2], "loss": [0.5, 0.0], "validation/pooled_dice": [None, 0.75]}
    path.write_text("image,mean_dice\none,0.5\n")
    assert read_columns(path, texts=("image",)) == {"image": ["one"], "mean_dice": [0.5]}
    with pytest.raises(ValueError, match="holds 'one' in column image, expected a number"):
        read_columns(path)


def test_an_evaluation_is_read_whole(tmp_path):
    folder = tmp_path / "evaluation"
    (folder / "masks").mkdir(parents=True)
    (folder / "metrics.csv").write_text("pooled_dice,0.5\n")
    (folder / "per_image.csv").write_text("image,mean_dice\none,0.5\n")
    result = read_evaluation(folder)
    assert result["per_image"] == {"image": ["one"], "mean_dice": [0.5]}
    assert result["calibration"] is None
    assert result["masks"] == "evaluation/masks"
    (folder / "calibration.csv").write_text("confidence,share,count\n0.5,0.25,8\n")
    assert read_evaluation(folder)["calibration"] == {"confidence": [0.5], "share": [0.25], "count": [8]}


def test_the_last_line_of_a_log_is_the_last_that_says_something(tmp_path):
    log = tmp_path / "log.txt"
    assert last_line(log) == ""
    log.write_text("one\nValueError: two\n\n  \n")
    assert last_line(log) == "ValueError: two"
