"""Running of cells, with a program instead of ``monai.bundle`` that writes the same files at once."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.benchmarking.cells import CELL_FORMAT, Cell
from scripts.benchmarking.files import OutputLock, read_json
from scripts.benchmarking.processes import Children, Ended
from scripts.benchmarking.runner import RESTARTS, Runner, Slot, write_overlay

PROGRAM = f"""#!{sys.executable}
import ast, json, os, pathlib, signal, sys, time

stage = sys.argv[sys.argv.index("run") + 1]
files = ast.literal_eval(sys.argv[sys.argv.index("--config_file") + 1])
settings = json.loads(pathlib.Path(files[-1]).read_text())
output = pathlib.Path(settings["output_dir"])
output.mkdir(parents=True, exist_ok=True)
how = settings["how"]
print(stage, *[pathlib.Path(file).name for file in files], os.environ["PLACE"])
if how == f"fails in {{stage}}":
    print("Traceback: something")
    sys.exit("the sentence that counts")
if stage == "training":
    measure = pathlib.Path(settings["+train#handlers"][0]["path"])
    done = json.loads(measure.read_text())["epochs"] if measure.exists() else []
    epochs = [*done, *[1.0] * (4 - len(done))][: 2 if how == "waits" and not done else 4]
    measure.write_text(json.dumps({{
        "format": "semi_moe.measure/1", "epochs": epochs, "device": "cpu", "device_mib": None, "threads": 1,
        "host_mib": 54321.0,
        "parameters": {{"network": 3, "training": 4}},
        "selected": {{"epoch": 2, "metric": "pooled_dice", "value": 0.5}},
    }}))
    (output / "training.csv").write_text("epoch,loss\\n1,0.5\\n")
    models = pathlib.Path(settings["ckpt_dir"])
    (models / "checkpoints").mkdir(parents=True, exist_ok=True)
    (models / "checkpoints" / "resume.pt").write_text("state")
    if how == "waits" and not done:
        time.sleep(60)
    if how != "leaves no model":
        (models / "model.pt").write_text("weights")
elif how != "leaves no scores":
    (output / "metrics.csv").write_text("pooled_dice,0.75\\n")
    (output / "per_image.csv").write_text("image,mean_dice\\none,0.5\\n")
"""


@pytest.fixture
def cell(tmp_path) -> Callable[..., Cell]:
    """Return a function that makes cells whose processes behave as given."""

    def make(how: str = "well", name: str = "a-10-seed0", digest: str = "0") -> Cell:
        config = {"files": ["configs/train.json"], "evaluation": ["configs/evaluate.json"], "overrides": {"how": how}}
        plan = {
            "name": name,
            "method": name.split("-")[0],
            "epochs": 4,
            "dataset_dir": "data",
            "commit": "c0ffee",
            "hardware": {"cpu": "a CPU"},
            "config": config | {"digest": digest},
            "resolved": {"how": how},
        }
        return Cell(tmp_path / "cells" / name, plan)

    return make


@pytest.fixture
def run(tmp_path) -> Callable[..., tuple[dict[str, str], list[str]]]:
    """Return a function that runs cells and returns failures and messages."""
    program = tmp_path / "python"
    program.write_text(PROGRAM)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)

    def make(*cells: Cell, places: int = 1, messages: list[str] | None = None, interval: float = 5.0, children=None):
        lines = [] if messages is None else messages
        slots = [Slot(f"place{number}", os.environ | {"PLACE": f"place{number}"}) for number in range(places)]
        with OutputLock(tmp_path) as lock:
            engine = children or Children(lock.inherited)
            failures = Runner(tmp_path, str(program), slots, lock, engine, lines.append, interval).run(cells)
        return failures, lines

    return make


def test_a_cell_runs_to_its_file_and_leaves_no_resume_file(cell, run):
    single = cell()
    failures, lines = run(single)
    assert failures == {}
    content = read_json(single.folder / "cell.json", CELL_FORMAT)
    assert content["metrics"] == {"pooled_dice": 0.75}
    assert content["per_image"] == {"image": ["one"], "mean_dice": [0.5]}
    assert content["curves"] == {"epoch": [1], "loss": [0.5]}
    assert content["parameters"] == {"network": 3, "training": 4}
    assert content["selected"] == {"epoch": 2, "metric": "pooled_dice", "value": 0.5}
    assert content["seconds"]["training"] == 4.0
    assert content["seconds"]["evaluation"] > 0
    assert content["seconds"]["total"] >= 4.0 + content["seconds"]["evaluation"]
    assert content["attempts"] == {"training": 1, "evaluation": 1}
    assert not {"spent", "at_work"} & content.keys()
    assert content["peak_memory"] == {"host_mib": 54321.0, "device_mib": None}
    assert content["hardware"] == {"cpu": "a CPU", "device": "cpu", "threads": 1}
    assert content["commits"] == ["c0ffee"]
    assert "resolved" not in content
    assert content["started"] <= content["finished"]
    assert (single.folder / "models" / "model.pt").is_file()
    assert not (single.folder / "models" / "checkpoints").exists()
    log = (single.folder / "log.txt").read_text()
    assert "training train.json training.json place0" in log
    assert "evaluating train.json evaluate.json evaluating.json place0" in log
    assert lines[-1].startswith("[1/1] a-10-seed0: pooled_dice 0.7500 on test")
    assert lines[-1].endswith("all done")


def test_a_finished_cell_is_left_alone(cell, run):
    single = cell()
    run(single)
    before = (single.folder / "cell.json").stat().st_mtime_ns
    failures, lines = run(single)
    assert (failures, lines) == ({}, [])
    assert (single.folder / "cell.json").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("fails in training", "training ended with exit code 1: the sentence that counts"),
        ("fails in evaluating", "evaluating ended with exit code 1: the sentence that counts"),
        ("leaves no model", "training ended without error but wrote no"),
        ("leaves no scores", "its results cannot be read: no file"),
    ],
)
def test_a_cell_that_fails_is_told_and_holds_nobody_up(how, why, cell, run):
    bad, good = cell(how), cell(name="b-10-seed0")
    failures, lines = run(bad, good)
    assert list(failures) == ["a-10-seed0"]
    assert failures["a-10-seed0"].startswith(why)
    assert any("[1/2] a-10-seed0 FAILED" in line for line in lines)
    assert bad.standing() == "started"
    assert good.standing() == "finished"


def test_a_cell_that_failed_in_its_evaluation_does_not_train_again(cell, run):
    run(cell("fails in evaluating"))
    repeated = cell()
    failures, lines = run(repeated)
    assert failures == {}
    assert "continues" in lines[0]
    assert (repeated.folder / "log.txt").read_text().count("training train.json") == 1


def test_cells_run_beside_each_other_on_all_places(cell, run):
    cells = [cell(name=f"a-10-seed{seed}") for seed in range(3)]
    failures, lines = run(*cells, places=2)
    assert failures == {}
    assert {line.split(" on ")[1].split(";")[0] for line in lines if "starts" in line} == {"place0", "place1"}


class Stop(list):
    """List of messages that raises KeyboardInterrupt, as Ctrl-C does, when a cell has reached 50 %."""

    def append(self, line: str) -> None:
        super().append(line)
        if "a-10-seed0 50 %" in line:
            raise KeyboardInterrupt


def test_a_stopped_cell_goes_on_where_it_was(cell, run):
    single = cell("waits")
    lines = Stop()
    with pytest.raises(KeyboardInterrupt):
        run(single, messages=lines, interval=0.2)
    assert single.standing() == "started"
    spent = json.loads((single.folder / "plan.json").read_text())["spent"]["training"]
    assert spent["done"] is False
    assert spent["seconds"] > 0
    failures, lines = run(single)
    assert failures == {}
    assert "continues" in lines[0]
    content = read_json(single.folder / "cell.json", CELL_FORMAT)
    assert content["seconds"]["total"] > spent["seconds"]
    assert content["attempts"] == {"training": 2, "evaluation": 1}


class Losing(Children):
    """An engine that loses its first workers when their processes end."""

    def __init__(self, losses: int) -> None:
        super().__init__()
        self.losses = losses

    def wait(self, seconds: float) -> list[Ended]:
        ended = super().wait(seconds)
        self.losses -= (lost := bool(ended) and self.losses > 0)
        return [Ended(item.name, -9, item.seconds, 0.0, lost=True) for item in ended] if lost else ended


def test_a_cell_that_loses_its_worker_is_continued(cell, run):
    single = cell()
    failures, lines = run(single, children=Losing(RESTARTS))
    assert failures == {}
    assert lines.count("a-10-seed0 lost its worker and continues") == RESTARTS
    content = read_json(single.folder / "cell.json", CELL_FORMAT)
    assert content["attempts"] == {"training": RESTARTS + 1, "evaluation": 1}
    assert content["seconds"]["training"] == 4.0
    assert content["seconds"]["total"] >= 4.0


def test_a_cell_that_loses_each_worker_fails(cell, run):
    failures, lines = run(cell(), children=Losing(RESTARTS + 1))
    assert failures["a-10-seed0"].startswith("training was ended by signal 9, possibly out of memory: ")
    assert lines.count("a-10-seed0 lost its worker and continues") == RESTARTS


def test_the_time_of_a_killed_process_is_counted(cell, run):
    """If the benchmark is killed too, the plan contains the start of the training, and the measurement its epochs."""
    single = cell()
    single.begin()
    single.start("training")
    measure = {"format": "semi_moe.measure/1", "epochs": [50.0, 60.0], "host_mib": 12345.0}
    (single.folder / "measure.json").write_text(json.dumps(measure))
    failures, lines = run(single)
    assert failures == {}
    assert "continues on place0" in lines[0]
    content = read_json(single.folder / "cell.json", CELL_FORMAT)
    spent = content["seconds"]
    assert spent["training"] == 112.0  # two epochs of before and two of one second
    assert spent["total"] >= spent["training"] + spent["evaluation"]
    assert content["attempts"] == {"training": 2, "evaluation": 1}
    repeated = single._spent(
        {"spent": {"training": {"seconds": 5.0}}, "at_work": {"stage": "training", "epoch_seconds": 110.0}}
    )
    assert repeated["training"]["seconds"] == 7.0, "epochs that an earlier process did are not counted twice"


def test_the_total_is_never_less_than_its_parts(cell, run):
    """A cell may have been started by a version that did not record attempts."""
    single = cell()
    single.begin()
    measure = {"format": "semi_moe.measure/1", "epochs": [500.0, 600.0]}
    (single.folder / "measure.json").write_text(json.dumps(measure))
    run(single)
    spent = read_json(single.folder / "cell.json", CELL_FORMAT)["seconds"]
    assert spent["total"] == spent["training"] + spent["evaluation"] > 1100


@pytest.mark.parametrize("state", ["started", "finished"])
def test_a_cell_of_another_configuration_is_refused_with_what_differs(state, cell, run):
    single = cell()
    run(single) if state == "finished" else single.begin()
    before = sorted((path, path.stat().st_mtime_ns) for path in single.folder.rglob("*"))
    other = cell("otherwise", digest="1")
    with pytest.raises(ValueError, match='was made with another configuration: how was "well" and is "otherwise"'):
        other.standing()
    assert sorted((path, path.stat().st_mtime_ns) for path in single.folder.rglob("*")) == before


@pytest.mark.parametrize("name", ["cell.json", "plan.json"])
def test_a_damaged_cell_is_refused(name, cell):
    single = cell()
    single.begin()
    (single.folder / name).write_text('{"format": "semi_moe.')
    with pytest.raises(ValueError, match=rf"{name} is damaged"):
        single.standing()


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"config": "semi_moe"}, "lacks the digest of its configuration"),
        ({"config": {}}, "lacks the digest of its configuration"),
        ({"seconds": 7}, "lacks the total seconds"),
        ({"seconds": {}}, "lacks the total seconds"),
    ],
)
def test_a_finished_cell_with_values_of_another_kind_is_refused(changes, fault, cell, run):
    single = cell()
    run(single)
    path = single.folder / "cell.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(ValueError, match=rf"cell\.json is damaged: it {fault}"):
        single.standing()


def test_results_of_another_kind_fail_one_cell_and_not_the_benchmark(cell, run, monkeypatch):
    monkeypatch.setattr("scripts.benchmarking.cells.read_evaluation", lambda folder: {}["metrics"])
    failures, _ = run(cell())
    assert failures == {"a-10-seed0": "its results cannot be read: no 'metrics'"}


def test_a_folder_of_something_else_is_refused(cell):
    single = cell()
    single.folder.mkdir(parents=True)
    (single.folder / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds files that are not a cell"):
        single.standing()


def test_a_cell_remembers_all_commits_that_worked_on_it(cell):
    cell().begin()
    later = cell()
    later = Cell(later.folder, {**later.plan, "commit": "d00d"})
    assert later.commit() == "c0ffee"
    later.begin()
    assert json.loads((later.folder / "plan.json").read_text())["commits"] == ["c0ffee", "d00d"]


def test_the_overlay_of_a_process_says_where_and_what(cell, tmp_path):
    single = cell()
    training = json.loads(write_overlay(tmp_path, single, "training").read_text())
    evaluating = json.loads(write_overlay(tmp_path, single, "evaluating").read_text())
    assert training["ckpt_dir"] == evaluating["ckpt_dir"] == str(single.folder / "models")
    assert Path(training["output_dir"]).name == "training"
    assert Path(evaluating["output_dir"]).name == "evaluation"
    assert training["resume"] is True
    assert "+train#handlers" not in evaluating
