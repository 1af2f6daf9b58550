"""Numbers in README and docs come from docs/results.json, each from a run, and there are no others."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

ENTRY: dict[str, Any] = {
    "what": "a run",
    **{"data": "phantom", "protocol": "heldout", "seeds": [0, 1], "commands": ["make \\", "    demo", "ls"]},
    **{"commit": "0123456", "date": "2026-01-02", "machine": "two cores", "versions": {"torch": "2.0"}},
    "tables": {
        "scores": {
            "columns": {
                "method": {"title": "method"},
                "dice": {"title": "Dice", "digits": 3},
                "gain": {"title": "gain", "digits": 1, "signed": True},
                "steps": {"title": "steps", "digits": None},
            },
            "rows": {
                "one 10": {"method": "`one`", "dice": [0.5, 0.01], "gain": 1.25, "steps": 1860},
                "two": {"method": "two", "gain": -0.5},
            },
        }
    },
}
SCORE = re.compile(r"(Dice|Jaccard|F1|Hausdorff|AUROC|error)\D{0,60}\b0\.\d{2,}|±\s*\d")
"""A measured score in a sentence."""
FIGURE = re.compile(r"\b\d+\.\d{2,}\b|\b[0-9][0-9.,]* (s|ms|seconds|min|hours?|MiB|KiB|megapixels)\b")
"""A decimal number, or a time or size, in a sentence of a page of results."""


@pytest.fixture(scope="module")
def program(load_program: Callable[[str], ModuleType]) -> ModuleType:
    return load_program("update_results")


@pytest.fixture(scope="module")
def entries(program: ModuleType) -> dict[str, Any]:
    return program.read_record(program.ROOT / "docs" / "results.json")["entries"]


@pytest.fixture
def render(program: ModuleType) -> Callable[[str], str]:
    return lambda text: program.Record({"run": ENTRY}).render(text)


@pytest.fixture
def checkout(program: ModuleType, repository_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the documents, on which the program works."""
    root = tmp_path / "checkout"
    shutil.copytree(repository_root / "docs", root / "docs")
    shutil.copytree(repository_root / "configs", root / "configs")
    shutil.copy(repository_root / "README.md", root)
    monkeypatch.setattr(program, "ROOT", root)
    return root


# The documents of this repository


def test_documents_say_what_results_json_says(python, repository_root):
    completed = python("scripts/dev/update_results.py", "--check", cwd=repository_root)
    assert completed.returncode == 0, completed.stderr


def test_results_json_is_as_the_program_writes_it(program, repository_root):
    path = repository_root / "docs" / "results.json"
    assert path.read_text(encoding="utf-8") == program.dumped(program.read_record(path))


def test_no_score_stands_beside_the_marks(program):
    result = [
        f"{path.name}: {line.strip()}"
        for path in program.documents()
        for line in sentences(program, path)
        if SCORE.search(line) or (path.name == "results.md" and FIGURE.search(line))
    ]
    allowed = "AUROC of 0.5 and 0.05 of the wrong pixels would be chance"  # by definition, not by measurement
    assert [line for line in result if allowed not in line] == []


def test_a_score_beside_the_marks_would_be_found():
    for line in ("pooled Dice 0.834", "a Dice of about 0.91", "0.8 ± 0.02"):
        assert SCORE.search(line)
    for line in ("it took 297 s", "weight 0.999", "18 MiB"):
        assert FIGURE.search(line)


def sentences(program: ModuleType, path: Path) -> list[str]:
    """Return the lines of a document without generated parts, code, and settings of methods."""
    if path.name in ("methods.md", "adding.md", "method.md"):  # headers of overlays; example code; the paper's settings
        return []
    text = program.MARK.sub("", path.read_text(encoding="utf-8"))
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    lines = [line for line in text.splitlines() if not line.startswith("    ")]
    return re.sub(r"`[^`\n]*`", "", "\n".join(lines)).splitlines()


def test_the_programs_of_all_commands_exist_and_accept_their_arguments(entries, repository_root, load_program):
    benchmark = load_program("benchmark")._parser()
    for name, entry in entries.items():
        for program in re.findall(r"scripts/\w+\.py", " ".join(entry["commands"])):
            assert (repository_root / program).is_file(), f"{name}: no {program}"
        for message in commands_of(entry["commands"], "python scripts/benchmark.py"):
            benchmark.parse_args([word for word in message if "$" not in word and "|" not in word])


def commands_of(lines: list[str], start: str) -> list[list[str]]:
    """Return the arguments of the commands with a given start; continued lines are joined."""
    whole = "\n".join(lines).replace("\\\n", " ").splitlines()
    result = [re.sub(r"\$\(.*?\)", "supervised", line).removeprefix(start) for line in whole if line.startswith(start)]
    return [shlex.split(line) for line in result]


def test_every_commit_is_in_the_history(entries, repository_root):
    def git(*arguments: str) -> subprocess.CompletedProcess[str]:
        safe = ["-c", f"safe.directory={repository_root}", "-C", str(repository_root)]
        return subprocess.run(["git", *safe, *arguments], capture_output=True, text=True, check=False)

    if git("rev-parse", "--is-shallow-repository").stdout.strip() != "false":
        pytest.skip("no whole git history here")
    for name, entry in entries.items():
        for commit in (*entry["commit"].split(", "), entry.get("entered", "unknown")):
            assert commit == "unknown" or git("cat-file", "-e", f"{commit}^{{commit}}").returncode == 0, (name, commit)


def test_figures_are_those_of_their_runs(entries, repository_root):
    for name, entry in entries.items():
        for file, digest in entry.get("figures", {}).items():
            assert hashlib.sha256((repository_root / file).read_bytes()).hexdigest() == digest, (name, file)


def test_the_time_of_the_authors_code_is_that_of_the_benchmark(entries, load_program):
    row = entries["authors_targets"]["tables"]["speed"]["rows"]["code"]
    assert row["value"] == load_program("benchmark_targets").AUTHORS_MILLISECONDS


def test_the_readme_allows_the_demo_more_time_than_it_took(entries, repository_root):
    minutes = re.search(r"Allow (\d+) minutes", (repository_root / "README.md").read_text(encoding="utf-8"))
    rows = entries["demo"]["tables"]["time"]["rows"].values()
    taken = max(max(row.get("training") or 0, row.get("all") or 0) for row in rows)
    assert minutes is not None
    assert taken < 0.9 * 60 * int(minutes[1])


# What a mark gives


def test_a_table_has_all_columns_or_those_that_are_named(render):
    assert render("<!-- results: run.scores -->old<!-- /results -->") == (
        "<!-- results: run.scores -->\n| method | Dice | gain | steps |\n| --- | --- | --- | --- |\n"
        "| `one` | 0.500 ± 0.010 | +1.2 | 1,860 |\n| two | - | -0.5 | - |\n<!-- /results -->"
    )
    text = render("<!-- results: run.scores method dice command commit -->\n<!-- /results -->")
    assert "| `one` | 0.500 ± 0.010 | `make demo` | 0123456 |\n" in text
    assert "two" not in text, "a row without any of the numbers is left out"


def test_a_number_and_a_run(render):
    text = render("It was <!-- result: run.scores.one 10.gain -->0<!-- /result --> more.")
    assert text == "It was <!-- result: run.scores.one 10.gain -->+1.2<!-- /result --> more."
    text = render("<!-- run: run --><!-- /run -->")
    assert "\n\n    make \\\n        demo\n    ls\n\n" in text
    assert "Measured on 2026-01-02 with the code of commit 0123456, torch 2.0; two cores.\n<!-- /run -->" in text


@pytest.mark.parametrize(
    ("mark", "message"),
    [
        ("<!-- results: walk.scores --><!-- /results -->", "no entry 'walk'; choose from run"),
        ("<!-- results: run.times --><!-- /results -->", "no table 'times'; choose from scores"),
        ("<!-- results: run.scores size --><!-- /results -->", "no column 'size'"),
        ("<!-- results: method --><!-- /results -->", "names no table"),
        ("is <!-- result: run.scores.three.dice --><!-- /result -->", "no row 'three' with a column 'dice'"),
        ("<!-- results: run.scores -->", "a marker is not closed"),
        (
            "is\n<!-- result: run.scores.two.gain -->0<!-- /result -->",
            "the marker of a number starts a line",
        ),
    ],
)
def test_a_mark_that_cannot_be_followed_is_refused(mark, message, render):
    with pytest.raises(ValueError, match=message):
        render(mark)


# The program


def test_a_number_changed_by_hand_fails_the_check_and_is_written_anew(program, checkout, capsys):
    assert program.main(["--check"]) == 0
    path = checkout / "README.md"
    right = path.read_text(encoding="utf-8")
    wrong = re.sub(r"(\| `semi_moe_plus` \| 0\.)\d+", r"\g<1>999", right, count=1)
    path.write_text(wrong, encoding="utf-8")
    assert program.main(["--check"]) == 1
    assert "README.md differs from results.json" in capsys.readouterr().err
    assert program.main([]) == 0
    assert path.read_text(encoding="utf-8") == right


def test_a_table_that_no_document_shows_is_refused(program, checkout, capsys):
    path = checkout / "docs" / "results.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["entries"]["lonely"] = ENTRY
    path.write_text(program.dumped(content), encoding="utf-8")
    assert program.main(["--check"]) == 1
    assert "no document shows lonely.scores" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"commit": None}, "lacks commit; write 'unknown'"),
        ({"commands": []}, "has no command; give the reason in not_repeatable"),
    ],
)
def test_an_entry_without_its_run_is_refused(change, message, program, tmp_path):
    entry = {key: value for key, value in (ENTRY | change).items() if value is not None}
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"entries": {"run": entry}}), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        program.read_record(path)


def test_a_finished_demo_is_read_and_all_documents_follow(program, checkout, load_program, tmp_path, capsys):
    demo = load_program("demo")
    (tmp_path / "demo").mkdir()
    cells = [
        SimpleNamespace(
            method=method,
            metrics=dict.fromkeys((*demo.COLUMNS, "object_f1"), score),
            content={"seconds": {"training": seconds}},
        )
        for method, score, seconds in (("supervised", 0.8123, 60.4), ("semi_moe_plus", 0.7, 241.6))
    ]
    demo.write_record(tmp_path / "demo", cells, 400.0, demo.EPOCHS, {"commit": "f" * 40, "dirty": False})
    (tmp_path / "demo" / "comparison.png").write_bytes(b"a picture")
    assert program.main(["--demo", str(tmp_path / "demo")]) == 0
    text = (checkout / "docs" / "results.md").read_text(encoding="utf-8")
    assert "| `supervised` | 0.812 | 0.812 | 0.812 | 0.812 |" in text
    assert "| `semi_moe_plus` | 242 | - |\n| the whole demo | - | 400 |" in text
    assert "with the code of commit fffffff, torch " in " ".join(text.split())
    assert "-->242<!-- /result --> seconds" in " ".join(text.split())
    assert (checkout / "docs" / "figures" / "demo.png").read_bytes() == b"a picture"
    assert "check the text around docs/results.md:" in capsys.readouterr().out
    assert program.main(["--check"]) == 0


def test_a_demo_of_uncommitted_code_is_refused(program, checkout, tmp_path, capsys):
    (tmp_path / "demo.json").write_text('{"format": "semi_moe.demo/1", "dirty": true}', encoding="utf-8")
    before = (checkout / "docs" / "results.json").read_bytes()
    assert program.main(["--demo", str(tmp_path)]) == 1
    assert "uncommitted changes; commit them and run the demo again" in capsys.readouterr().err
    assert (checkout / "docs" / "results.json").read_bytes() == before
