"""The benchmark from the command line: tiny cells that are stopped, continued and refused."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAMES = ["supervised-50-seed0", "supervised-50-seed1"]
SETTINGS = ["network_def#widths=[4,8,8,8,8]", "crop_size=[32,32]", "val_interval=5", "num_workers=0"]
KEYS = {
    *("format", "name", "method", "labels", "seed", "protocol", "data", "size", "data_list", "dataset_dir", "counts"),
    *(
        "config",
        "commit",
        "dirty",
        "versions",
        "hardware",
        "parameters",
        "budget",
        "steps",
        "epochs",
        "seconds",
        "peak_memory",
    ),
    *("selected", "metrics", "per_image", "curves", "calibration", "masks", "started", "finished"),
}


def arguments(output: Path, data: Path, *more: str) -> list[str]:
    """Return the arguments of two tiny cells of 20 epochs of 2 steps."""
    return [
        *("--output", str(output), "--dataset_dir", str(data), "--methods", "supervised", "--labels", "50"),
        *("--seeds", "0", "1", "--devices", "cpu", "--jobs", "2", "--threads", "1", "--budget", "40steps"),
        *("--set", *SETTINGS, "max_epochs=20", *more),
    ]


def wait_until(true: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 300  # a busy machine needs a minute for the imports of a process
    while not true():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.02)


def epochs(cell: Path) -> int:
    path = cell / "measure.json"
    return len(json.loads(path.read_text())["epochs"]) if path.is_file() else 0


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("benchmark") / "runs"


@pytest.fixture(scope="module")
def killed(output: Path, phantom_dir: Path) -> int:
    """A benchmark of one cell that was killed after some epochs, and the number of these epochs."""
    command = [sys.executable, str(ROOT / "scripts" / "benchmark.py"), *arguments(output, phantom_dir), "--seeds", "0"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    process = subprocess.Popen(command, start_new_session=True, **pipes)
    cell = output / "cells" / NAMES[0]
    numbers = [process.pid]
    try:
        wait_until(lambda: epochs(cell) >= 2, process)
        numbers += [int(part) for part in re.findall(r"seed0 \(process (\d+)\)", (output / ".lock").read_text())]
    finally:
        for number in numbers:  # the benchmark first; the training is leader of a group of its own
            os.killpg(number, signal.SIGKILL)
        process.communicate()
    assert len(numbers) == 2
    return epochs(cell)


@pytest.fixture(scope="module")
def finished(killed: int, output: Path, phantom_dir: Path, python: Callable[..., Any]) -> Path:
    """The same benchmark with a second cell, continued to its end."""
    completed = python(ROOT / "scripts" / "benchmark.py", *arguments(output, phantom_dir))
    assert completed.returncode == 0, completed.stdout + completed.stderr
    printed = completed.stdout.splitlines()
    assert "2 of 2 cells are finished" in printed[-1]
    assert (
        printed[-2]
        == "protocol heldout: The checkpoint was chosen on the validation part and scored once on the test part."
    )
    assert "2 cells of 40 steps (20 epochs), data phantom, protocol heldout, 2 at once" in printed
    assert [line.split(";")[0] for line in printed if " on cpu; " in line] == [
        f"{NAMES[0]} continues on cpu",
        f"{NAMES[1]} starts on cpu",
    ]
    return output


@pytest.fixture
def program(load_program: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program as a module; the search path is restored after the test."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    return load_program("benchmark")


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished benchmark that a test may damage."""
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def stamps(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in (folder / "cells").rglob("*") if path.is_file()}


# A whole benchmark


def test_a_finished_cell_holds_all_that_is_promised(finished, phantom_dir):
    for seed, name in enumerate(NAMES):
        folder = finished / "cells" / name
        cell = json.loads((folder / "cell.json").read_text())
        assert cell.keys() >= KEYS
        assert (cell["name"], cell["seed"], cell["labels"], cell["size"]) == (name, seed, "50", "default")
        assert cell["format"] == "semi_moe.cell/1"
        assert cell["data_list"] == f"heldout_50_seed{seed}.json"
        assert cell["dataset_dir"] == str(phantom_dir)
        assert cell["counts"] == {"training": 4, "unlabeled": 4, "validation": 2, "test": 3}
        assert (cell["budget"], cell["steps"], cell["epochs"]) == ("40steps", 40, 20)
        assert cell["curves"]["epoch"] == list(range(1, 21))
        assert 0 <= cell["metrics"]["pooled_dice"] <= 1
        assert cell["selected"]["metric"] == "pooled_dice"
        chosen = cell["curves"]["epoch"].index(cell["selected"]["epoch"])
        assert cell["curves"]["validation/pooled_dice"][chosen] == pytest.approx(cell["selected"]["value"], abs=1e-5)
        assert cell["parameters"]["network"] == cell["parameters"]["training"] > 1000
        assert cell["hardware"]["device"] == "cpu"
        assert cell["hardware"]["threads"] == 1
        assert cell["peak_memory"]["device_mib"] is None
        assert 0 < cell["seconds"]["training"] + cell["seconds"]["evaluation"] < cell["seconds"]["total"]
        assert cell["attempts"] == {"training": 2 - seed, "evaluation": 1}
        assert len(cell["config"]["digest"]) == 64
        assert cell["config"]["overrides"]["network_def#widths"] == [4, 8, 8, 8, 8]
        assert (folder / "models" / "model.pt").is_file()
        assert not (folder / "models" / "checkpoints").exists()
        assert (folder / "log.txt").is_file()


def test_a_kill_costs_at_most_the_epoch_that_was_running(killed, finished):
    log = (finished / "cells" / NAMES[0] / "log.txt").read_text()
    resumed = [line for line in log.splitlines() if "Resumed from" in line]
    assert len(resumed) == 1
    saved = int(resumed[0].split(": ")[-1].split()[0])
    assert 2 <= killed < 20
    assert saved in (killed - 1, killed)  # the resume file is written right after the measure
    for name in NAMES:
        assert len(json.loads((finished / "cells" / name / "measure.json").read_text())["epochs"]) == 20


def test_a_cell_can_be_run_again_by_hand_from_what_its_folder_holds(finished):
    log = (finished / "cells" / NAMES[0] / "log.txt").read_text()
    commands = [line for line in log.splitlines() if line.startswith("$ ")]
    assert sum("run training" in line for line in commands) == 2
    assert sum("run evaluating" in line for line in commands) == 1
    assert str(finished / "cells" / NAMES[0] / "training.json") in commands[0]


# On a Ray cluster


def at_work(cell: Path) -> list[int]:
    """The worker that runs a cell and its training, by the lock of the cell; empty if one of them does not exist."""
    path = cell / ".lock"
    numbers = [int(number) for number in re.findall(r"process (\d+)", path.read_text())] if path.is_file() else []
    return numbers if len(numbers) == 2 and all(Path(f"/proc/{number}").exists() for number in numbers) else []


def lose(cell: Path, ray_cluster: Any) -> int:
    """Remove the machine that runs a cell, or kill the worker if it is the head; return the number of the training."""
    worker, training = at_work(cell)
    machine = int(Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[1])
    others = ray_cluster.list_all_nodes()[1:]
    if [node.all_processes["raylet"][0].process.pid for node in others] == [machine]:
        ray_cluster.remove_node(others[0], allow_graceful=False)
    else:
        os.kill(worker, signal.SIGKILL)
    return training


@pytest.mark.slow
def test_cells_of_lost_workers_and_machines_are_continued(ray_cluster, finished, phantom_dir, tmp_path):
    """Ctrl-C first; then the worker of one cell is killed, and the machine of the other is lost."""
    output = tmp_path / "runs"
    command = [sys.executable, str(ROOT / "scripts" / "benchmark.py"), *arguments(output, phantom_dir)]
    command += ["--engine", "ray", "--address", ray_cluster.address]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    cells = [output / "cells" / name for name in NAMES]
    process = subprocess.Popen([*command, "--seeds", "0"], **pipes)
    wait_until(lambda: epochs(cells[0]) >= 2, process)
    trainings = at_work(cells[0])[1:]
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "stopped, with all its processes" in errors.splitlines()[-1]
    process = subprocess.Popen(command, **pipes)
    waiting = {cells[0]: epochs(cells[0]) + 2, cells[1]: 2}
    while waiting:
        wait_until(lambda: any(epochs(cell) >= least and at_work(cell) for cell, least in waiting.items()), process)
        for cell in [cell for cell, least in waiting.items() if epochs(cell) >= least and at_work(cell)]:
            trainings.append(lose(cell, ray_cluster))
            del waiting[cell]
    printed, errors = process.communicate(timeout=900)
    assert process.returncode == 0, printed + errors
    assert len(ray_cluster.list_all_nodes()) == 1
    assert sorted(line for line in printed.splitlines() if "lost its worker" in line) == [
        f"{name} lost its worker and continues" for name in NAMES
    ]
    assert [number for number in trainings if Path(f"/proc/{number}").exists()] == []
    for cell, starts in zip(cells, (3, 2), strict=True):
        result, local = (
            json.loads((item / "cells" / cell.name / "cell.json").read_text()) for item in (output, finished)
        )
        log = (cell / "log.txt").read_text()
        assert result["attempts"] == {"training": starts, "evaluation": 1}
        assert (log.count("run training"), log.count("Resumed from")) == (starts, starts - 1)
        assert result["curves"]["epoch"] == list(range(1, 21))
        assert result["metrics"] == pytest.approx(local["metrics"], abs=1e-5)
        assert (result["config"]["digest"], result.keys()) == (local["config"]["digest"], local.keys())
        assert files(cell) == files(finished / "cells" / cell.name)


def files(folder: Path) -> set[str]:
    """Files of a cell; those of tensorboard have the time and the process of their training in their names."""
    result = (str(path.relative_to(folder)).partition("events.")[0] for path in folder.rglob("*"))
    return set(result) - {".lock"}


# The same and another command


def test_the_same_command_again_runs_nothing(finished, phantom_dir, program, capsys):
    before = stamps(finished)
    assert program.main(arguments(finished, phantom_dir)) == 0
    assert "2 of 2 cells are finished" in capsys.readouterr().out
    assert stamps(finished) == before


def test_cells_of_another_configuration_are_refused_before_anything_runs(finished, phantom_dir, program, capsys):
    before = stamps(finished)
    assert program.main(arguments(finished, phantom_dir, "learning_rate=0.5")) == 1
    errors = capsys.readouterr().err.splitlines()
    assert [line.split(" was made")[0] for line in errors[:2]] == [
        f"benchmark: {finished / 'cells' / name / 'cell.json'}" for name in NAMES
    ]
    assert errors[0].endswith("another configuration: learning_rate was 0.001 and is 0.5")
    assert "2 of 2 cells cannot be resumed, and nothing was run" in errors[-1]
    assert "--force" in errors[-1]
    assert stamps(finished) == before


def test_force_moves_cells_aside_and_loses_nothing(copy, phantom_dir, program, monkeypatch, capsys):
    monkeypatch.setattr("scripts.benchmarking.Runner.run", lambda runner, cells: {})
    before = (copy / "cells" / NAMES[0] / "cell.json").read_text()
    assert program.main([*arguments(copy, phantom_dir, "learning_rate=0.5"), "--force"]) == 0
    assert f"{NAMES[0]} was moved to {copy / 'replaced'}" in capsys.readouterr().out
    assert not (copy / "cells" / NAMES[0]).exists()
    (saved,) = (copy / "replaced").glob(f"{NAMES[0]}-*")
    assert (saved / "cell.json").read_text() == before
    assert (saved / "models" / "model.pt").is_file()


def test_force_leaves_cells_that_fit(finished, phantom_dir, program):
    before = stamps(finished)
    assert program.main([*arguments(finished, phantom_dir), "--force"]) == 0
    assert stamps(finished) == before


def test_a_damaged_cell_is_refused(copy, phantom_dir, program, capsys):
    path = copy / "cells" / NAMES[1] / "cell.json"
    path.write_text(path.read_text()[:100])
    assert program.main(arguments(copy, phantom_dir)) == 1
    errors = capsys.readouterr().err.splitlines()
    assert errors[0].startswith(f"benchmark: {path} is damaged")
    assert "1 of 2 cells cannot be resumed" in errors[-1]


def test_another_commit_of_the_code_is_told_and_not_refused(copy, phantom_dir, program, monkeypatch, capsys):
    monkeypatch.setattr("scripts.benchmarking.planning.code_state", lambda root: {"commit": "d00d", "dirty": False})
    for name, commit in zip(NAMES, ("c0ffee", "d00d"), strict=True):
        path = copy / "cells" / name / "cell.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"commit": commit}))
    assert program.main(arguments(copy, phantom_dir)) == 0
    assert capsys.readouterr().err.splitlines() == [
        f"benchmark: these cells were made with another commit: {NAMES[0]} (c0ffee)"
    ]


def test_cells_of_another_setting_beside_those_asked_for_are_refused(finished, phantom_dir, program, capsys):
    before = stamps(finished)
    command = [*arguments(finished, phantom_dir, "learning_rate=0.5"), "--seeds", "2"]
    for more in ([], ["--force"], ["--dry-run"]):
        assert program.main([*command, *more]) == 1
        errors = capsys.readouterr().err.splitlines()
        assert len(errors) == 1
        assert f"cells holds 2 cells of other settings ({', '.join(NAMES)}), which cannot be reported" in errors[0]
    assert stamps(finished) == before
    assert program.main([*arguments(finished, phantom_dir), "--seeds", "2", "--dry-run"]) == 0


# What would be run


def test_a_dry_run_says_what_would_be_run_and_writes_nothing(tmp_path, phantom_dir, program, capsys):
    assert program.main([*arguments(tmp_path / "new", phantom_dir), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert f"{NAMES[0]}: new; 40 steps; heldout_50_seed0.json: 4 training, 4 unlabeled, 2 validation, 3 test" in printed
    assert "configs/methods/supervised.yaml" in printed
    assert program.main([*arguments(tmp_path / "new", phantom_dir), "--dry-run", "--budget", "10minutes"]) == 0
    assert "the number of steps would be measured first" in capsys.readouterr().out
    assert program.main([*arguments(tmp_path / "new", phantom_dir), "--dry-run", "--budget", "50steps"]) == 0
    printed = capsys.readouterr().out
    assert "--budget 50steps gives 60 steps, 20 epochs of 3: rounded up, because all epochs" in printed
    assert f"{NAMES[0]}: new; 60 steps; " in printed
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        (["--methods", "semi_mo"], "no method 'semi_mo'; there are "),
        (["--protocol", "holdout"], "no protocol 'holdout'"),
        (["--labels", "0"], "--labels 0 must be a percentage"),
        (["--labels", "ten"], "--labels ten must be a percentage"),
        (["--budget", "10"], "a budget is a number of steps or minutes, such as 575steps or 10minutes, not '10'"),
        (["--address", "auto"], "--address needs --engine ray"),
        (["--engine", "ray", "--address", "head"], "--address head must be auto or HOST:PORT"),
        (["--engine", "ray", "--devices", "cuda:0"], "--devices with --engine ray must be cpu or cuda; Ray selects"),
        (["--jobs", "0"], "--jobs and --threads must be at least 1"),
        (["--set", "learning_rate"], "--set learning_rate must have the form KEY=VALUE"),
        (["--set", "learning_rate=[1"], "--set learning_rate=[1: the value is not valid YAML"),
        (["--set", "seed=3"], "--set seed: the benchmark sets this"),
        (["--output", str(ROOT / "models" / "runs")], "models, a folder of the bundle; give a separate folder"),
        (["--output", str(ROOT)], "is the folder of the bundle; give a separate folder"),
    ],
)
def test_a_wrong_command_line_is_refused(more, fault, tmp_path, phantom_dir, program, capsys):
    with pytest.raises(SystemExit) as caught:
        program.main([*arguments(tmp_path / "new", phantom_dir), *more])
    assert caught.value.code == 2
    assert fault in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        (["--labels", "33"], "heldout_33_seed0.json under protocol heldout: no data list heldout_33_seed0.json in"),
        (["--protocol", "transfer"], "validation of the data list has no image of lab_a, which transfer needs"),
        (["--set", "batch_size=0"], "batch_size is 0, but must be an integer above 0; see --set"),
        (["--set", "batch_size=0", "--dry-run"], "batch_size is 0, but must be an integer above 0; see --set"),
        (["--set", "max_epochs=abc"], "max_epochs is 'abc', but must be an integer above 0; see --set"),
        (["--set", "learningrate=1"], "no setting 'learningrate' in configs/train.json"),
        (["--dataset_dir", "/nowhere", "--data", "glas"], "no data folder /nowhere"),
        (["--devices", "cuda:77"], "device 'cuda:77' is not available"),
        (["--devices", "gpu"], "device 'gpu' is not available"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_runs(more, fault, tmp_path, phantom_dir, program, capsys):
    assert program.main([*arguments(tmp_path / "new", phantom_dir), *more]) == 1
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1
    assert fault in errors[0]
    assert not (tmp_path / "new" / "cells").exists()


def test_ray_is_asked_for_if_it_is_missing(tmp_path, phantom_dir, program, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert program.main([*arguments(tmp_path / "new", phantom_dir), "--engine", "ray"]) == 1
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith("benchmark: --engine ray needs Ray, which is missing (")
    assert error.endswith("; pip install .[cluster]")
    assert not (tmp_path / "new" / "cells").exists()


@pytest.mark.parametrize("target", ["models", "configs", "bundle", "data"])
def test_an_output_that_leads_into_the_bundle_or_the_data_is_refused(target, tmp_path, phantom_dir, program, capsys):
    folder = phantom_dir if target == "data" else ROOT / target
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(SystemExit) as caught:
        program.main(arguments(tmp_path / "link" / "runs", phantom_dir))
    assert caught.value.code == 2
    assert f"link/runs is in {folder.resolve()}, a folder of the" in capsys.readouterr().err.splitlines()[-1]
    assert not (folder / "runs").exists()


def test_two_benchmarks_in_one_folder_are_refused(finished, phantom_dir, program, monkeypatch, capsys):
    from scripts.benchmarking import OutputLock

    monkeypatch.setattr("scripts.benchmarking.files.PATIENCE", 0.0)
    with OutputLock(finished):
        assert program.main(arguments(finished, phantom_dir)) == 1
    assert f"{finished} is used by benchmark (process {os.getpid()}); wait for it" in capsys.readouterr().err


def test_each_device_is_a_place_that_sees_itself_alone(program, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    options = SimpleNamespace(devices=["cuda:0", "cuda:1", "cpu"], jobs=2, threads=3)
    slots = program.slots(options)
    recorded = [(slot.device, slot.environment["CUDA_VISIBLE_DEVICES"]) for slot in slots]
    assert recorded == 2 * [("cuda:0", "4"), ("cuda:1", "7"), ("cpu", "")]
    assert {slot.environment["OMP_NUM_THREADS"] for slot in slots} == {"3"}
    options.devices = None
    assert [slot.device for slot in program.slots(options)] == ["cuda:0", "cuda:0"]


def test_minutes_become_steps_that_later_runs_keep(tmp_path, phantom_dir, program, monkeypatch, capsys):
    requested: list[int] = []
    monkeypatch.setattr(
        "scripts.benchmarking.Runner.run", lambda runner, cells: requested.append(cells[0].plan["steps"]) or {}
    )
    monkeypatch.setattr("scripts.benchmarking.probe._pace", lambda *_: _pace(0.5, 2.0))
    command = [*arguments(tmp_path, phantom_dir), "--budget", "2minutes"]
    assert program.main(command) == 0
    printed = capsys.readouterr().out
    assert "supervised: 0.50 s per step, 2.0 s per validation" in printed
    assert "--budget 2minutes gives 220 steps, 20 epochs of 11\n" in printed
    assert requested == [220]  # 120 s less 4 validations, in 20 epochs
    monkeypatch.setattr("scripts.benchmarking.probe._pace", lambda *_: _pace(5.0, 2.0))
    assert program.main(command) == 0
    assert requested == [220, 220]
    assert "measuring" not in capsys.readouterr().out


def test_a_stop_while_speed_is_measured_leaves_no_training(tmp_path, phantom_dir, program, monkeypatch, capsys):
    """Ctrl-C as soon as the training has started."""
    from scripts.benchmarking import OutputLock

    def note(lock: OutputLock, processes: list[str]) -> None:
        if processes:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(OutputLock, "note", note)
        assert program.main([*arguments(tmp_path, phantom_dir), "--budget", "2minutes"]) == 130
    assert "stopped, with all its processes" in capsys.readouterr().err
    monkeypatch.setattr("scripts.benchmarking.files.PATIENCE", 0.0)
    with OutputLock(tmp_path):
        assert (tmp_path / "probes" / "supervised" / "log.txt").is_file()


def _pace(step: float, validation: float):
    from scripts.benchmarking import Pace

    return Pace(step, validation)
