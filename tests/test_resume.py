"""A training that is killed by `kill -9` and resumed equals an uninterrupted one, from the command line."""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from monai import bundle as monai_bundle
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

EPOCHS = 3
STEPS = 2
ACCIDENT = """
import os
import signal

import torch

from bundle.engines import SemiSupervisedTrainer


def prepare(at):
    \"\"\"Let this process be killed: "step 3" in its third step, "writing 2" half-way through its second file.\"\"\"
    kind, number = at.split()
    left = [int(number)]

    def kill():
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    step, save = SemiSupervisedTrainer._iteration, torch.save

    def killed_step(self, *arguments):
        kill()
        return step(self, *arguments)

    def killed_save(content, file):
        if "resume" in file.name:
            file.write(b"half of it")
            file.flush()
            kill()
            file.seek(0)
            file.truncate()
        save(content, file)

    if kind == "step":
        SemiSupervisedTrainer._iteration = killed_step
    else:
        torch.save = killed_save
"""


@pytest.fixture(scope="module")
def copies(copy_bundle) -> Any:
    """Copies of the bundle that can be killed at a given point."""

    def copy(name: str) -> Any:
        bundle_copy = copy_bundle(name)
        bundle_copy.edit("train.json", {"max_epochs": EPOCHS})
        (bundle_copy.root / "accident.py").write_text(ACCIDENT)
        train = json.loads((bundle_copy.root / "configs" / "train.json").read_text())
        prepare = {"_target_": "accident.prepare", "at": "@accident"}
        (bundle_copy.root / "configs" / "accident.json").write_text(
            json.dumps({"initialize": [*train["initialize"], prepare], "accident": "none 0"})
        )
        return bundle_copy

    return copy


def train(bundle_copy: Any, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> None:
    """Train to the end, in this process."""
    monkeypatch.chdir(bundle_copy.root)
    settings |= {"device": "cpu", "amp": False}
    files = ["configs/train.json", "configs/methods/semi_moe.yaml"]
    monai_bundle.run("training", config_file=files, logging_file=False, **settings)


def killed(bundle_copy: Any, *arguments: str) -> str:
    """Train in another process until it is killed; return its output."""
    configs = bundle_copy.configs("train.json", "methods/semi_moe.yaml", "accident.json")
    completed = bundle_copy.python(
        "-m", "monai.bundle", "run", "training", "--config_file", configs, *arguments, cwd=bundle_copy.root
    )
    assert completed.returncode == -signal.SIGKILL, completed.stderr
    return completed.stderr


def numbers(content: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Return all numbers of a saved file by their key."""
    if isinstance(content, Mapping):
        for name, value in content.items():
            yield from numbers(value, f"{key}/{name}")
    elif isinstance(content, list | tuple):
        for number, value in enumerate(content):
            yield from numbers(value, f"{key}/{number}")
    else:
        yield key, content


def saved(bundle_copy: Any) -> dict[str, Any]:
    """Return model, optimizer, schedule, objective, best score and early stopping by their key."""
    models = bundle_copy.root / "runs" / "semi_moe"
    files = {name: torch.load(models / name, weights_only=True) for name in ("model.pt", "checkpoints/resume.pt")}
    return dict(numbers(files))


def assert_same_end(bundle_copy: Any, other: Any) -> None:
    first, two = saved(bundle_copy), saved(other)
    assert first.keys() == two.keys()
    assert {"epoch", "score", "counter", "last_epoch", "exp_avg", "step"} <= {key.rpartition("/")[2] for key in first}
    assert any("/objective/" in key for key in first)
    assert any("/ema/" in key for key in first)
    for key, value in first.items():
        if isinstance(value, torch.Tensor):
            assert torch.allclose(value.double(), two[key].double(), rtol=0, atol=1e-5), key
        else:
            assert value == (pytest.approx(two[key], abs=1e-5) if isinstance(value, float) else two[key]), key
    assert not list(bundle_copy.root.rglob("*.part*")), "what a killed run left is taken away"


def rows(bundle_copy: Any) -> list[dict[str, str]]:
    with (bundle_copy.root / "runs" / "semi_moe" / "training.csv").open(newline="") as file:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]


def assert_each_epoch_is_told_once(bundle_copy: Any, other: Any) -> None:
    assert [row["epoch"] for row in rows(bundle_copy)] == [str(epoch + 1) for epoch in range(EPOCHS)]
    for row, expected in zip(rows(bundle_copy), rows(other), strict=True):
        assert {key: float(value) for key, value in row.items()} == pytest.approx(
            {key: float(value) for key, value in expected.items()}, rel=1e-4, abs=1e-5
        )
    events = EventAccumulator(str(bundle_copy.root / "runs" / "semi_moe" / "tensorboard"))
    events.Reload()
    for name in ("labeled/seg", "pooled_dice"):
        assert [event.step for event in events.Scalars(name)] == list(range(1, EPOCHS + 1)), name


@pytest.fixture(scope="module")
def unbroken(copies) -> Any:
    """An uninterrupted training for each number of loader processes, run once."""
    result: dict[int, Any] = {}

    def get(workers: int, monkeypatch: pytest.MonkeyPatch) -> Any:
        if workers not in result:
            result[workers] = copies(f"unbroken_{workers}")
            train(result[workers], monkeypatch, num_workers=workers)
        return result[workers]

    return get


@pytest.mark.parametrize(
    ("workers", "accidents"),
    [
        pytest.param(0, [f"step {STEPS + 1}", "writing 1"], id="alone"),
        pytest.param(2, ["writing 2"], id="two loaders", marks=pytest.mark.slow),
    ],
)
def test_a_killed_training_ends_where_the_unbroken_one_ends(workers, accidents, copies, unbroken, monkeypatch):
    """Killed in the first step of epoch 2, and half-way through the resume file of epoch 2."""
    bundle_copy = copies(f"killed_{workers}")
    folder = bundle_copy.root / "runs" / "semi_moe" / "checkpoints"
    for number, accident in enumerate(accidents):
        output = killed(bundle_copy, "--num_workers", str(workers), "--accident", accident, "--resume", "TRUE")
        assert ("training starts from the beginning" if number == 0 else "1 epochs are done") in output
        assert torch.load(folder / "resume.pt", weights_only=True)["trainer"]["epoch"] == 1
    assert [path.read_bytes() for path in folder.glob(".*.partial")] == [b"half of it"]
    assert len(rows(bundle_copy)) == 2, "the table knows of an epoch that is done again"
    train(bundle_copy, monkeypatch, num_workers=workers, resume="True")
    whole = unbroken(workers, monkeypatch)
    assert_same_end(bundle_copy, whole)
    assert_each_epoch_is_told_once(bundle_copy, whole)


@pytest.mark.slow
def test_kills_at_random_moments_change_nothing(copies, unbroken, monkeypatch):
    """The process is killed at random moments until the training ends."""
    bundle_copy = copies("killed_at_random")
    chance = random.Random(time.time_ns())
    command = bundle_copy.command(
        "run",
        "training",
        "--config_file",
        bundle_copy.configs("train.json", "methods/semi_moe.yaml"),
        "--resume",
        "True",
    )
    for _ in range(30):
        process = subprocess.Popen(
            command, cwd=bundle_copy.root, stderr=subprocess.DEVNULL, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""}
        )
        try:
            process.wait(timeout=chance.uniform(4, 9))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
        else:
            assert process.returncode == 0
            break
    train(bundle_copy, monkeypatch, resume="yes")
    whole = unbroken(0, monkeypatch)
    assert_same_end(bundle_copy, whole)
    assert_each_epoch_is_told_once(bundle_copy, whole)
    assert Path(bundle_copy.root / "runs" / "semi_moe" / "model.pt").is_file()
