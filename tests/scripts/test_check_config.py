"""Tests of the program that checks configs before a run."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs"
OVERLAYS = sorted(str(path.relative_to(CONFIGS)) for path in CONFIGS.rglob("*.yaml"))
BELOW = {"postprocessing": ["train.json", "evaluate.json"], "inference": ["inference.json"]}
"""Folders whose overlays go on more than train.json."""
STACKS = [
    ("training", ["train.json"]),
    ("run", ["train.json", "multi_gpu_train.json"]),
    ("evaluating", ["train.json", "evaluate.json"]),
    ("evaluating", ["train.json", "evaluate.json", "multi_gpu_evaluate.json"]),
    ("inference", ["inference.json"]),
    *(("run", [*BELOW.get(Path(name).parts[0], ["train.json"]), name]) for name in OVERLAYS),
    *(
        ("evaluating", ["train.json", name, "evaluate.json"])
        for name in OVERLAYS
        if Path(name).parts[0] in ("data", "protocols") or name == "methods/mean_teacher.yaml"
    ),
]

Check = Callable[..., tuple[int, list[str], str]]


@pytest.fixture(scope="module")
def program(load_program: Callable[[str], ModuleType]) -> ModuleType:
    """The program as a module; it searches MONAI once."""
    return load_program("check_config")


@pytest.fixture
def check(program: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Check:
    """Run the program in this process; return exit code, findings and standard error."""
    monkeypatch.setenv("PAGER", "cat")

    def run(*arguments: str) -> tuple[int, list[str], str]:
        code = program.main(arguments)
        output = capsys.readouterr()
        return code, output.out.splitlines(), output.err

    return run


def files(*names: str | Path) -> list[str]:
    return ["--config_file", str([str(CONFIGS / name) for name in names])]


@pytest.mark.parametrize(
    ("run_id", "names"), STACKS, ids=lambda value: "+".join(value) if isinstance(value, list) else value
)
def test_no_shipped_config_has_a_fault(check: Check, run_id: str, names: list[str]) -> None:
    assert check(run_id, *files(*names)) == (0, ["check_config: no problems found"], "")


BOMB = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.yaml", b"", "contains nothing; a config must map names to values"),
        ("a.yaml", b"- 1", "contains a list; a config must map names to values"),
        ("a.yaml", b"text", "contains a str; a config must map names to values"),
        ("a.json", b"[1]", "contains a list; a config must map names to values"),
        ("a.json", b"", r"not a valid config .*line 1 column 1"),
        ("a.json", b'{"a": 1,\n"b": ', r"not a valid config .*line 2 column 6"),
        ("a.yaml", b"a: 1\nb: [1\nc: {", r"not a valid config .*line 3, column"),
        ("a.yaml", bytes(range(128, 256)), r"not a valid config .*can't decode byte"),
        ("a.yaml", b"a: 1\nb: *no", r"not a valid config .*undefined alias 'no' .*line 2, column 4"),
        ("a.yaml", b"a: !!python/object/apply:os.system [exit]", r"not a valid config .*line 1, column 4"),
        ("a.yaml", BOMB.encode(), r"holds more than 100000 values, with those of its aliases"),
        ("a.yaml", b"a: &a [*a]", r"is nested more than 100 levels deep, or an alias .* holds itself"),
        ("a.yaml", b"a: " + b"[" * 5000, r"not a valid config \(nested too deep"),
        ("a.json", b"[" * 100_000, r"not a valid config \(nested too deep"),
        ("a.yaml", b"3: 4", r"the key 3 is no text; write it in quotes"),
        ("a.yaml", b"[1, 2]: 3", r"not a valid config \(nested too deep, or a key is no text: "),
    ],
    ids=lambda value: str(value)[:20],
)
def test_an_overlay_that_is_no_mapping_is_said_with_its_file(
    check: Check, tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    code, findings, _ = check("training", *files("train.json", path))
    assert code == 1
    assert len(findings) == 1
    assert re.match(rf"{path}: {message}", findings[0])


@pytest.mark.parametrize(
    ("overlay", "base"), [("inference/slides.yaml", "inference.json"), ("methods/cps.yaml", "train.json")]
)
def test_an_overlay_before_its_base_config_is_said(check: Check, overlay: str, base: str) -> None:
    code, findings, _ = check("run", *files(overlay, base))
    assert code == 1
    assert findings == [f"{CONFIGS / overlay}: is before the base config; give {CONFIGS / base} first"]


def test_overrides_that_are_promised_have_no_fault(check: Check) -> None:
    arguments = [
        "--bundle_root",
        ".",
        "--max_epochs",
        "3",
        "--resume",
        "True",
        "--amp",
        "False",
        "--seed=3",
        "--device",
        "cpu",
    ]
    arguments += [
        "--network_def#widths",
        "[8,8,8,8,8]",
        "--network_def#dropout",
        "0.1",
        "--train#trainer#amp_kwargs",
        "{}",
    ]
    arguments += [
        "--losses#new",
        "@train#loss_seg",
        "--learning_rate",
        "5e-5",
        "--tracking",
        "mlflow",
        "--run_name",
        "mine",
    ]
    arguments += ["--meta_file", str(CONFIGS / "metadata.json"), "--init_id", "initialize"]
    assert check("training", *files("train.json"), *arguments)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "finding"),
    [
        (["--max_epoch", "5"], "--max_epoch: this setting is unused; did you mean max_epochs?"),
        (["--lerning_rate", "3"], "--lerning_rate: this setting is unused; did you mean learning_rate?"),
        (
            ["--train#datset#data", "[]"],
            "--train#datset#data: train#datset does not exist; did you mean train#dataset#data?",
        ),
        (["--train#xyzzy", "3"], "--train#xyzzy: this setting is unused"),
        (["--seed#next", "3"], "--seed#next: seed cannot have this entry"),
        (["--run_name", "mine"], "--run_name: this setting is unused"),
        (["--patience", "3"], "--patience: this setting is unused; did you mean train#early_stop#patience?"),
        (["--optimiser#lr", "3"], "--optimiser#lr: optimiser does not exist; did you mean train#optimizer#lr?"),
        (
            ["--method", "supervised"],
            f"--method: this only names an overlay; add {CONFIGS}/methods/NAME.yaml to --config_file",
        ),
        (
            ["--train#loss_seg", "@loss_sgd"],
            "train#loss_seg: refers to @loss_sgd, which does not exist; did you mean train#loss_seg?",
        ),
        (["--device", "$torch.device(@cpu)"], "device: refers to @cpu, which does not exist"),
        (
            ["--device", "$torch.device((1"],
            "device: invalid Python expression ('(' was never closed): $torch.device((1",
        ),
        (
            ["--device", "$__import__('torch').device(@device)"],
            "device: MONAI resolves no @reference in a string that contains 'import'; rewrite it",
        ),
        (
            ["--train#trainer#amps", "1"],
            "train#trainer: bundle.engines.SemiSupervisedTrainer has no argument amps; did you mean amp?",
        ),
        (
            ["--train#dataloader#shufle", "1"],
            "train#dataloader: bundle.data.TileLoader has no argument shufle; did you mean shuffle?",
        ),
        (["--train#loss_sdf#_target_", "bundle.losses.No"], "train#loss_sdf: no class or function bundle.losses.No"),
        (["--init_id", "start"], "start: the configs have no entry of this name to run"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_wrong_override_is_named(check: Check, arguments: list[str], finding: str) -> None:
    code, output, end = check("training", *files("train.json"), *arguments)
    assert output == [finding]
    assert (code, end) == (1, "check_config: 1 problem found; fix it before the run\n")


def test_a_run_that_is_not_there_is_named(check: Check) -> None:
    assert check("traning", *files("train.json"))[1] == [
        "traning: the configs have no entry of this name to run; did you mean training?"
    ]
    assert check(*files("evaluate.json"))[0] == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "learning_rate: 5e-5",
            ["learning_rate is '5e-5'; it must be a number, more than 0 (YAML reads 5e-5 as a string; write a"],
        ),
        ("seed: 1\nseed: 2", ["FILE: Duplicate key: `seed`; keep one of them"]),
        ("optimzer#lr: 3", ["FILE: optimzer#lr: optimzer does not exist; did you mean train#optimizer#lr?"]),
        (
            "my_number: 3\ntrain#loss_boundary#smooth: 1",
            ["FILE: my_number: this setting is unused", "train#loss_boundary: DiceLoss has no argument smooth; did"],
        ),
        ("my_number: 3\nbatch_size: '@my_number'\nmethod: mine", []),
        ("'+losses': {mine: '@train#loss_seg'}\n'+initialize': [\"$None\"]", []),
        (
            "my_number: 3\nbatch_size: '%my_number'\nval_interval: '%your_number'",
            ["val_interval: refers to @your_number"],
        ),
        (
            "train#loss_seg: '@###validate#evaluator'",
            ["train#loss_seg: refers to @###validate#evaluator, which does not exist; did"],
        ),
        ("a: [1\nb: 2", ["FILE: not a valid config (while parsing a flow sequence"]),
        ("- 1", ["FILE: contains a list; a config must map names to values"]),
    ],
)
def test_faults_of_an_overlay_are_named_with_the_file(
    check: Check, tmp_path: Path, text: str, expected: list[str]
) -> None:
    overlay = tmp_path / "mine.yaml"
    overlay.write_text(text)
    code, output, _ = check("training", *files("train.json", overlay))
    assert code == bool(expected)
    if expected:
        assert len(output) == len(expected), output
        for line, start in zip(output, expected, strict=True):
            assert line.startswith(start.replace("FILE", str(overlay)))


@pytest.mark.parametrize(
    ("arguments", "finding"),
    [
        (["--config_file", "no.json"], "no.json: No such file or directory; give a readable config file"),
        (["--config_file", "."], ".: not a valid config (unknown file input"),
        ([*files("train.json"), "--meta_file", "no.json"], "no.json: No such file or directory"),
        ([*files("train.json"), "--args_file", "no.json"], "args_file: [Errno 2] No such file or directory: 'no.json'"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(check: Check, arguments: list[str], finding: str) -> None:
    code, output, _ = check("training", *arguments)
    assert code == 1
    assert len(output) == 1
    assert output[0].startswith(finding)


def test_an_argument_file_is_read(check: Check, tmp_path: Path) -> None:
    arguments = tmp_path / "arguments.yaml"
    arguments.write_text(f"config_file: {CONFIGS / 'train.json'}\nrun_id: training\nmax_epoch: 3")
    assert check("--args_file", str(arguments))[1] == ["--max_epoch: this setting is unused; did you mean max_epochs?"]


def test_as_a_program_it_runs_nothing_and_tells_by_its_exit_code(python: Any, tmp_path: Path) -> None:
    arguments = ["training", *files("train.json"), "--max_epoch", "5"]
    completed = python(ROOT / "scripts" / "check_config.py", *arguments, cwd=tmp_path)
    assert completed.returncode == 1
    assert completed.stdout == "--max_epoch: this setting is unused; did you mean max_epochs?\n"
    assert completed.stderr.splitlines()[-1] == "check_config: 1 problem found; fix it before the run"
    assert os.listdir(tmp_path) == []


def test_a_wrong_command_line_is_2(check: Check) -> None:
    code, output, end = check("training")
    assert (code, output) == (2, [])
    assert end == "check_config: no --config_file; give the arguments of `python -m monai.bundle run`\n"
    assert check("training", "validating", "3", "4", *files("train.json"))[0] == 2
    code, output, _ = check("--help")
    assert code == 0
    assert any("python scripts/check_config.py training --config_file" in line for line in output)
