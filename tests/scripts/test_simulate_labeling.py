"""Simulation of active learning from the command line: tiny rounds that are stopped, continued and refused."""

from __future__ import annotations

import ast
import csv
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from monai.bundle import run
from PIL import Image

from scripts.benchmarking.files import OutputLock
from scripts.benchmarking.processes import Ended

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = ["seed0-start-2", "seed0-disagreement-4", "seed0-random-4"]


def arguments(output: Path, data: Path, *more: str) -> list[str]:
    """Return the arguments of three tiny rounds."""
    return [
        *(
            "--output",
            str(output),
            "--dataset_dir",
            str(data),
            "--seeds",
            "0",
            "--strategies",
            "disagreement",
            "random",
        ),
        *("--start", "2", "--step", "2", "--budget", "4", "--iterations", "4", "--max_epochs", "2"),
        *("--network_def#widths", "[4,8,8,8,8]", "--crop_size", "[32,32]", "--device", "$torch.device('cpu')"),
        *("--amp", "False", "--num_workers", "0", *more),
    ]


def results(output: Path) -> dict[str, Any]:
    return json.loads((output / "results.json").read_text())


class Trained:
    """Replacement for processes: a training that ends at once."""

    exit_code = 0

    def __init__(self, inherited: tuple[int, ...]) -> None:
        self.name = ""

    def start(self, name: str, command: list[str], log: Path, folder: Path, environment: Any) -> None:
        self.name = name
        log.write_text("beginning\nsemi-moe: it went wrong\n")

    def processes(self) -> list[str]:
        return [self.name]

    def wait(self, seconds: float) -> list[Ended]:
        return [Ended(self.name, self.exit_code, 1.0, 1.0)]

    def stop(self) -> list[Ended]:
        return []


class Here(Trained):
    """Replacement for processes: a training in this process, which does not import all libraries again."""

    def start(self, name: str, command: list[str], log: Path, folder: Path, environment: Any) -> None:
        super().start(name, command, log, folder, environment)
        run(run_id="training", config_file=ast.literal_eval(command[command.index("--config_file") + 1]))


@pytest.fixture(scope="module")
def program(load_program: Callable[[str], ModuleType]) -> ModuleType:
    """The program as a module."""
    return load_program("simulate_labeling")


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory, phantom_dir: Path) -> tuple[Path, dict[str, Any]]:
    """A simulation that was stopped in its second round: its folder, and its results up to then."""
    output = tmp_path_factory.mktemp("labeling") / "runs"
    command = [sys.executable, str(ROOT / "scripts" / "simulate_labeling.py"), *arguments(output, phantom_dir)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        until = time.monotonic() + 240
        while not (output / "rounds" / ROUNDS[1] / "log.txt").is_file():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < until
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        printed, _ = process.communicate(timeout=60)
    finally:
        process.terminate()  # which ends its training, too; of no meaning where it has ended
        process.communicate()
    assert process.returncode == 130
    assert "stopped; repeat the command to resume after the last finished round" in printed.splitlines()[-1]
    return output, results(output)


@pytest.fixture(scope="module")
def finished(stopped: tuple[Path, dict[str, Any]], program: ModuleType, phantom_dir: Path) -> Path:
    """The same simulation, continued to its end."""
    output, _ = stopped
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, "Children", Here)
        assert program.main(arguments(output, phantom_dir)) == 0
    return output


def test_a_stopped_simulation_goes_on_after_its_last_round(stopped, finished):
    _, before = stopped
    assert list(before["rounds"]) == ROUNDS[:1]
    after = results(finished)
    assert list(after["rounds"]) == ROUNDS
    assert after["rounds"][ROUNDS[0]] == before["rounds"][ROUNDS[0]], "a round that is done is not done again"


def test_disagreement_picks_the_highest_scores_and_all_begin_alike(finished):
    start, doubted, drawn = results(finished)["rounds"].values()
    assert len(start["scores"]) == 6
    assert not set(start["outlined"]) & set(start["scores"])
    assert doubted["picked"] == sorted(start["scores"], key=start["scores"].get, reverse=True)[:2]
    assert all(0 < score < 1 for score in start["scores"].values())
    for later in (doubted, drawn):
        assert later["outlined"] == start["outlined"] + later["picked"]
    assert drawn["scores"] == {}, "nobody asks for them"
    assert set(doubted["scores"]) == set(start["scores"]) - set(doubted["picked"])


def test_a_round_trains_on_the_outlined_tiles_and_hides_all_other_masks(finished):
    for name, item in results(finished)["rounds"].items():
        content = json.loads((finished / "rounds" / name / "training.json").read_text())
        labeled, unlabeled = content["train#dataset#data"], content["train#unlabeled_dataset#data"]
        assert sorted(entry["image"].split("image/")[1] for entry in labeled) == sorted(
            tile.removeprefix("image/") for tile in item["outlined"]
        )
        assert len(unlabeled) == 8 - len(labeled)
        assert not any("label" in entry for entry in unlabeled)
        assert not {entry["image"] for entry in labeled} & {entry["image"] for entry in unlabeled}
        log = (finished / "rounds" / name / "training" / "training.csv").read_text()
        assert "unlabeled" in log.splitlines()[0]
        assert not (finished / "rounds" / name / "models").exists(), "weights of each round would fill a disk"


def test_table_and_plot_show_every_round(finished):
    with (finished / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    result = {f"seed{row['seed']}-{row['strategy']}-{row['outlined']}": row for row in rows}
    assert set(result) == set(ROUNDS)
    for name, item in results(finished)["rounds"].items():
        assert float(result[name]["pooled_dice"]) == item["metrics"]["pooled_dice"]
        assert 0 <= item["metrics"]["pooled_dice"] <= 1
    with Image.open(finished / "dice.png") as picture:
        colors = {color for _, color in picture.convert("RGB").getcolors(2**20)}
        assert picture.size == (800, 550)
    assert {(213, 94, 0), (0, 114, 178)} <= colors
    assert (0, 130, 100) not in colors, "a strategy that did not run"


def test_the_same_command_again_does_nothing_and_other_settings_are_refused(finished, program, phantom_dir, capsys):
    before = results(finished)
    assert program.main(arguments(finished, phantom_dir)) == 0
    output = capsys.readouterr().out
    assert "3 rounds of 4 steps, 3 of them done" in output
    assert "| tiles | disagreement | random |" in output
    assert program.main(arguments(finished, phantom_dir, "--learning_rate", "0.1")) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "has other settings: learning_rate was 0.001 and is 0.1; use these settings or another --output" in line
    assert results(finished) == before


def test_the_same_seed_gives_the_same_network(finished, program, phantom_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(program, "Children", Here)
    assert program.main(arguments(tmp_path / "again", phantom_dir, "--budget", "2")) == 0
    repeated, before = (results(folder)["rounds"][ROUNDS[0]] for folder in (tmp_path / "again", finished))
    assert repeated["outlined"] == before["outlined"]
    assert repeated["metrics"] == pytest.approx(before["metrics"], abs=1e-6)
    assert repeated["scores"] == pytest.approx(before["scores"], abs=1e-6)


def test_a_stop_while_a_training_starts_leaves_none_behind(program, phantom_dir, tmp_path, monkeypatch, capsys):
    """Ctrl-C at the moment when the process of the training has been created."""

    class Interrupted(subprocess.Popen):
        def __init__(self, *arguments: Any, **more: Any) -> None:
            super().__init__(*arguments, **more)
            if more.get("start_new_session"):
                signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    assert program.main(arguments(tmp_path, phantom_dir)) == 130
    assert "stopped; repeat the command to resume" in capsys.readouterr().err
    monkeypatch.setattr("scripts.benchmarking.files.PATIENCE", 0.0)
    with OutputLock(tmp_path):
        assert (tmp_path / "rounds" / ROUNDS[0] / "log.txt").is_file()


# Without training


@pytest.fixture
def fast(program: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program without networks: scores are highest for the last names."""

    def evaluate(config: Any, ckpt_dir: Path, test: Any, pretrained: dict[str, Any], score: str) -> tuple[dict, dict]:
        return {"pooled_dice": 0.5}, {name: number / 10 for number, name in enumerate(sorted(pretrained))}

    monkeypatch.setattr(program, "Children", Trained)
    monkeypatch.setattr(program, "evaluate", evaluate)
    return program


def picked(output: Path) -> dict[str, list[str]]:
    return {name: item["picked"] for name, item in results(output)["rounds"].items()}


def test_all_strategies_outline_step_by_step_up_to_the_budget(fast, phantom_dir, tmp_path):
    more = ["--strategies", "first", "disagreement", "diverse", "random", "--seeds", "0", "1", "--budget", "7"]
    assert fast.main(arguments(tmp_path, phantom_dir, *more)) == 0
    result = picked(tmp_path)
    assert len(result) == 2 * (1 + 3 * 3 + 4)
    tiles = {f"image/{path.name}" for path in (phantom_dir / "image").glob("patient0[1-4]_*.png")}
    assert len(tiles) == 8
    for seed in (0, 1):
        for strategy in ("first", "disagreement", "random", "diverse"):
            start = result[f"seed{seed}-{'diverse' if strategy == 'diverse' else 'start'}-2"]
            chosen = [name for count in (4, 6, 7) for name in result[f"seed{seed}-{strategy}-{count}"]]
            assert len(start + chosen) == len({*start, *chosen}) == 7
            assert {*start, *chosen} < tiles
            left = sorted(tiles - set(start))
            if strategy == "first":
                assert chosen == left[:5]
            if strategy == "disagreement":
                assert chosen == left[::-1][:5]
    assert result["seed0-start-2"] != result["seed1-start-2"]
    patients = {name.partition("_")[0] for name in result["seed0-diverse-2"]}
    assert len(patients) == 2, "the first tiles come from different patients"
    assert fast.main([*arguments(tmp_path / "alone", phantom_dir, "--seeds", "1"), "--strategies", "diverse"]) == 0
    assert picked(tmp_path / "alone") == {name: result[name] for name in ("seed1-diverse-2", "seed1-diverse-4")}


def test_draws_depend_on_seed_and_names_alone(fast, phantom_dir, tmp_path):
    """They depend neither on the order of the list nor on the folder of the data."""
    other = tmp_path / "elsewhere"
    other.mkdir()
    for kind in ("image", "label"):
        (other / kind).symlink_to(phantom_dir / kind)
    content = json.loads((phantom_dir / "heldout_100_seed0.json").read_text())
    (other / "phantom.json").write_text((phantom_dir / "phantom.json").read_text())
    (other / "heldout_100_seed0.json").write_text(json.dumps({**content, "training": content["training"][::-1]}))
    for name, data in (("one", phantom_dir), ("two", other)):
        assert (
            fast.main(arguments(tmp_path / name, data, "--strategies", "random", "--seeds", "3", "--budget", "8")) == 0
        )
    assert picked(tmp_path / "one") == picked(tmp_path / "two")


def test_a_larger_budget_and_more_seeds_go_on(fast, phantom_dir, tmp_path, capsys):
    assert fast.main(arguments(tmp_path, phantom_dir)) == 0
    before = picked(tmp_path)
    assert fast.main(arguments(tmp_path, phantom_dir, "--budget", "6", "--seeds", "0", "1")) == 0
    assert "10 rounds of 4 steps, 3 of them done" in capsys.readouterr().out
    after = picked(tmp_path)
    assert {name: after[name] for name in before} == before


def test_a_warm_round_goes_on_with_the_last_network(fast, phantom_dir, tmp_path):
    assert fast.main(arguments(tmp_path, phantom_dir, "--warm", "--budget", "6")) == 0
    handlers = {
        path.parent.name: json.loads(path.read_text()).get("+train#handlers")
        for path in tmp_path.glob("rounds/*/training.json")
    }
    assert handlers["seed0-start-2"] is None
    model = tmp_path / "rounds" / "seed0-random-4" / "models" / "model.pt"
    assert [item["path"] for item in handlers["seed0-random-6"]] == [str(model)]


def test_a_training_that_fails_says_why(fast, phantom_dir, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Trained, "exit_code", 1)
    assert fast.main(arguments(tmp_path, phantom_dir)) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert "the training of seed0-start-2 failed: semi-moe: it went wrong (see " in last
    assert not (tmp_path / "results.json").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--budget", "9"], "has 8 tiles with masks in 'training' and 3 in 'test'; --budget 9 requires"),
        (["--budget", "1"], "--budget at least --start"),
        (["--iterations", "0"], "--start, --step and --iterations must be at least 1"),
        (["--seed", "3"], "--seed: the simulation sets this"),
        (["--train#dataset#data", "[]"], "--train#dataset#data: the simulation sets this"),
        (["--data_list", "none.json"], "no data list none.json in "),
        (["--config_file", "none.yaml"], "none.yaml"),
        (["--learning_rat", "1"], "no setting 'learning_rat'"),
        (["--learning_rate"], "'--learning_rate' is not a --key with a value"),
        (["--output", str(ROOT / "bundle")], "give a separate folder"),
    ],
)
def test_bad_input_is_one_sentence(fast, phantom_dir, tmp_path, capsys, more, message):
    assert fast.main(arguments(tmp_path, phantom_dir, *more)) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("simulate_labeling: ")
    assert message in line
    assert not list(tmp_path.glob("results*"))


def test_help_is_given(program, capsys):
    with pytest.raises(SystemExit) as caught:
        program.main(["--help"])
    assert caught.value.code == 0
    assert "--strategies" in capsys.readouterr().out
