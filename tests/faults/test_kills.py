"""Runs that are stopped at random moments, again and again, end as an unbroken run does; nothing on disk is damaged."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from tests.faults.counts import add_counts
from tests.faults.damage import SEED
from tests.processes import Run, send
from tests.test_resume import assert_same_end

ROOT = Path(__file__).resolve().parents[2]
KILL, TERM, INTERRUPT = signal.SIGKILL, signal.SIGTERM, signal.SIGINT
MANY = [KILL] * 20 + [TERM] * 5 + [INTERRUPT] * 5
FEW = [KILL, INTERRUPT]

slow = pytest.mark.slow


def stopped_at_random(
    run: Callable[..., Run], finished: Callable[[], None], folder: Path, signals: list[int], seconds: float
) -> int:
    """Stop a run by each signal at a random moment, repeat its command each time, and let it end.

    Args:
        run: Starts the run, or continues it, and takes ``stop``.
        finished: Compares the results with those of an unbroken run.
        folder: Of the results; emptied where a run ends before it is stopped.
        signals: In any order.
        seconds: Time of an unbroken run.

    Returns:
        Number of stops.
    """
    chance = random.Random(SEED)
    left = chance.sample(signals, len(signals))
    for _ in range(4 * len(signals)):
        if not left:
            break
        started = time.monotonic()
        completed = run(stop=(left[-1], chance.uniform(0.1, seconds)))
        duration = time.monotonic() - started
        intact(folder)
        if completed.returncode == 0:
            seconds = min(seconds, duration)  # the machine was busier when the unbroken run was timed
            finished()
            shutil.rmtree(folder)
        else:
            number = left.pop()
            # while modules are imported, pydoc makes an error of Ctrl-C
            imports = number == INTERRUPT and completed.returncode == 1 and "KeyboardInterrupt" in completed.stderr
            assert completed.returncode == -number or imports, completed.stderr
    assert not left, "most runs end before they are stopped"
    completed = run()
    assert completed.returncode == 0, completed.stderr
    finished()
    assert [path for path in folder.rglob(".*") if "partial" in path.name] == []
    return len(signals)


def intact(folder: Path) -> None:
    """Open every file below a folder, except hidden temporary ones."""
    for path in folder.rglob("*"):
        if not path.is_file() or path.name.startswith("."):
            continue
        if path.suffix == ".pt":
            torch.load(path, weights_only=True)
        elif path.suffix in (".json", ".geojson"):
            json.loads(path.read_text(encoding="utf-8"))
        elif path.suffix == ".png":
            Image.open(path).load()
        elif path.suffix == ".tif":
            tifffile.imread(path)
        elif path.suffix == ".csv":
            with path.open(newline="", encoding="utf-8") as file:
                assert len({len(row) for row in csv.reader(file)}) <= 1


def timed(run: Callable[[], Run]) -> float:
    """Run to the end; return the seconds."""
    start = time.monotonic()
    completed = run()
    assert completed.returncode == 0, completed.stderr
    return time.monotonic() - start


@slow
def test_a_training(copy_bundle: Callable[..., Any]) -> None:
    bundle_copy, whole = copy_bundle("stopped"), copy_bundle("unbroken")

    def runner(bundle: Any) -> Callable[..., Run]:
        bundle.edit("train.json", {"max_epochs": 6})
        arguments = ["run", "training", "--resume", "True", "--config_file"]
        arguments += [bundle.configs("train.json", "methods/semi_moe.yaml")]
        return lambda **more: bundle.python("-m", "monai.bundle", *arguments, cwd=bundle.root, **more)

    seconds = timed(runner(whole))
    count = stopped_at_random(
        runner(bundle_copy), lambda: assert_same_end(bundle_copy, whole), bundle_copy.root / "runs", MANY, seconds
    )
    add_counts("stopped trainings", count, result=count)


@pytest.fixture(scope="module")
def predicting(copy_bundle: Callable[..., Any]) -> Any:
    """A bundle whose network calls gland what is darker than the mean in green."""
    bundle_copy = copy_bundle("predicting", data=False)
    bundle_copy.predict_by_color()
    return bundle_copy


def content(folder: Path) -> dict[str, Any]:
    """Pixels of masks, and the text of polygons, by name."""
    result: dict[str, Any] = {path.name: path.read_bytes() for path in folder.glob("*.geojson")}
    return result | {
        path.name: tifffile.imread(path).tobytes() if path.suffix == ".tif" else np.asarray(Image.open(path)).tobytes()
        for path in folder.iterdir()
        if path.suffix in (".png", ".tif")
    }


def check_inference(bundle_copy: Any, folder: Path, signals: list[int], *overlays: str) -> int:
    def runner(output: Path) -> Callable[..., Run]:
        arguments = ["run", "inference", "--config_file", bundle_copy.configs("inference.json", *overlays)]
        arguments += ["--dataset_dir", str(folder / "input"), "--output_dir", str(output)]
        return lambda **more: bundle_copy.python("-m", "monai.bundle", *arguments, cwd=bundle_copy.root, **more)

    seconds = timed(runner(folder / "whole"))
    expected = content(folder / "whole")
    assert len(expected) >= 4

    def finished() -> None:
        assert content(folder / "out") == expected

    return stopped_at_random(runner(folder / "out"), finished, folder / "out", signals, seconds)


@pytest.mark.parametrize("signals", [pytest.param(FEW, id="few"), pytest.param(MANY, id="many", marks=slow)])
def test_an_inference(predicting: Any, tmp_path: Path, signals: list[int]) -> None:
    (tmp_path / "input").mkdir()
    for number in range(20):
        pixels = np.full((60, 80, 3), 230, np.uint8)
        pixels[10 : 40 + number % 9, 5:50] = (120, 40, 120)
        Image.fromarray(pixels).save(tmp_path / "input" / f"tile_{number}.png")
    count = check_inference(predicting, tmp_path, signals, "inference/geojson.yaml", "inference/contours.yaml")
    if signals is MANY:
        add_counts("stopped inferences of a folder", count, result=count)


@slow
def test_slides(predicting: Any, tmp_path: Path) -> None:
    (tmp_path / "input").mkdir()
    pixels = np.full((600, 800, 3), 243, np.uint8)
    pixels[50:550:3, 60:700:2] = (150, 60, 150)
    tags: dict[str, Any] = {"resolution": (2e4, 2e4), "resolutionunit": "CENTIMETER", "tile": (64, 64)}
    for name in ("first", "second"):
        tifffile.imwrite(tmp_path / "input" / f"{name}.tif", pixels, photometric="rgb", compression="zlib", **tags)
    fine = {"tissue#resolution": 8.0, "tissue#margin": 4.0, "tissue#least": 100.0, "min_area": 0.0, "block": 64}
    (predicting.root / "configs" / "fine.json").write_text(json.dumps(fine))
    count = check_inference(predicting, tmp_path, MANY[8:], "inference/slides.yaml", "fine.json")
    add_counts("stopped inferences of slides", count, result=count)


@slow
def test_a_benchmark(phantom_dir: Path, tmp_path: Path) -> None:
    """A cell is a process of its own, which ends with the benchmark, or is found and ended by the next."""
    settings = [
        "network_def#widths=[4,8,8,8,8]",
        "crop_size=[32,32]",
        "val_interval=5",
        "num_workers=0",
        "max_epochs=20",
    ]

    def command(output: Path) -> list[str]:
        arguments = ["--output", output, "--dataset_dir", phantom_dir, "--methods", "supervised", "--labels", "50"]
        arguments += ["--seeds", "0", "--devices", "cpu", "--budget", "40steps", "--threads", "1", "--set", *settings]
        return [sys.executable, str(ROOT / "scripts" / "benchmark.py"), *map(str, arguments)]

    def run(output: Path, stop: tuple[int, float] | None = None) -> Run:
        process = subprocess.Popen(command(output), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            printed, _ = process.communicate(timeout=stop[1] if stop else 600)
        except subprocess.TimeoutExpired:
            assert stop is not None
            below = descendants(process.pid)
            process.send_signal(stop[0])
            if stop[0] == KILL:
                for pid in below:  # as a machine that is switched off
                    os.kill(pid, KILL)
            printed, _ = process.communicate(timeout=120)
            assert wait_for_end(below) == []
            return Run([], -stop[0], printed, printed)  # it ends with 130 by a signal that it handles
        return Run([], process.returncode, printed, printed)

    def scores(output: Path) -> dict[str, float]:
        (cell,) = (output / "cells").glob("*/cell.json")
        return json.loads(cell.read_text())["metrics"]

    seconds = timed(lambda: run(tmp_path / "whole"))
    expected = scores(tmp_path / "whole")
    signals = [KILL] * 5 + [TERM, INTERRUPT]

    def finished() -> None:
        assert scores(tmp_path / "out") == pytest.approx(expected, abs=1e-5, nan_ok=True)

    def start(stop: tuple[int, float] | None = None) -> Run:
        return run(tmp_path / "out", stop)

    count = stopped_at_random(start, finished, tmp_path / "out", signals, seconds)
    add_counts("stopped benchmarks", count, result=count)


def descendants(pid: int) -> list[int]:
    """Return the processes that a process and its children have started."""
    matches = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, path.read_text().split()):
            matches += [child, *descendants(child)]
    return matches


def wait_for_end(pids: list[int], seconds: float = 60) -> list[int]:
    """Return the processes that still run after a time."""
    end = time.monotonic() + seconds
    while (left := [pid for pid in pids if runs(pid)]) and time.monotonic() < end:
        time.sleep(0.1)
    return left


def runs(pid: int) -> bool:
    """Return whether a process runs and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@slow
@pytest.mark.parametrize("run_id", ["training", "inference"])
def test_no_worker_is_left_after_ctrl_c(run_id: str, copy_bundle: Callable[..., Any]) -> None:
    """As a terminal does it: the signal goes to all processes of the group.

    On a busy machine, workers may have ended, even with an error, before the main process handles the signal. The
    second and the third time, it is suspended until they have.
    """
    bundle_copy = copy_bundle(f"interrupted_{run_id}")
    arguments = ["run", run_id, "--num_workers", "2", "--config_file"]
    arguments += (
        [bundle_copy.configs("train.json"), "--max_epochs", "1000", "--train#early_stop#patience", "1000"]
        if run_id == "training"
        else []
    )
    if run_id == "inference":
        (bundle_copy.root / "input").mkdir()
        for number in range(400):
            Image.new("RGB", (300, 300), (number % 250, 0, 0)).save(bundle_copy.root / "input" / f"{number}.png")
        arguments += [bundle_copy.configs("inference.json"), "--dataset_dir", str(bundle_copy.root / "input")]
        arguments += ["--output_dir", str(bundle_copy.root / "out")]
        bundle_copy.predict_by_color()
    for workers_first in (False, True, True):
        process = subprocess.Popen(
            bundle_copy.command(*arguments),
            cwd=bundle_copy.root,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        end = time.monotonic() + 120
        while len(below := descendants(process.pid)) < 2 and time.monotonic() < end and process.poll() is None:
            time.sleep(0.1)
        assert len(below) >= 2
        time.sleep(1)
        below = descendants(process.pid)
        if workers_first:
            os.kill(process.pid, signal.SIGSTOP)
        os.killpg(process.pid, INTERRUPT)
        if workers_first:
            for worker in below:
                send(worker, KILL)
            time.sleep(0.2)
            os.kill(process.pid, signal.SIGCONT)
        output = process.communicate(timeout=120)[1]
        assert process.returncode == -INTERRUPT, output
        assert wait_for_end(below) == []
    add_counts("Ctrl-C with loader workers", 3, result=3)
