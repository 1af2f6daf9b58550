from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="MONAI Label is not installed: make test-label")

from lib.models import MODEL, SHIPPED, ModelFolder
from lib.request_errors import RefusalError


@pytest.fixture
def folder(tmp_path: Path) -> ModelFolder:
    shipped = tmp_path / "bundle.pt"
    shipped.write_bytes(b"shipped")
    return ModelFolder(tmp_path / "model", shipped)


def trained(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "trained.pt"
    path.write_bytes(content)
    return path


def test_the_shipped_model_serves_until_one_is_taken_and_is_never_touched(folder: ModelFolder, tmp_path: Path) -> None:
    assert folder.current == folder.shipped
    assert not folder.folder.exists()
    assert folder.names() == [MODEL]
    assert folder.take(trained(tmp_path, b"first")) is None
    assert folder.current == folder.trained
    assert folder.trained.read_bytes() == b"first"
    assert folder.shipped.read_bytes() == b"shipped"


def test_what_is_replaced_is_kept_under_a_name_that_may_be_asked_for(folder: ModelFolder, tmp_path: Path) -> None:
    folder.take(trained(tmp_path, b"first"))
    second = folder.take(trained(tmp_path, b"second"))
    third = folder.take(trained(tmp_path, b"third"))  # within the same second
    assert second is not None
    assert third is not None
    assert folder.names() == [MODEL, third, second, SHIPPED]
    assert [folder.named(name).read_bytes() for name in folder.names()] == [b"third", b"second", b"first", b"shipped"]


def test_a_model_brings_its_description_and_takes_no_other(folder: ModelFolder, tmp_path: Path) -> None:
    description, path = tmp_path / "model.json", folder.folder / "model.json"
    description.write_text("first", encoding="utf-8")
    folder.take(trained(tmp_path, b"first"))
    assert path.read_text(encoding="utf-8") == "first"
    description.unlink()
    saved = folder.take(trained(tmp_path, b"second"))  # as uploaded weights, which come alone
    assert not path.exists()
    assert saved is not None
    assert (folder.folder / saved).with_suffix(".json").read_text(encoding="utf-8") == "first"


@pytest.mark.parametrize("last", range(1, 6))
def test_a_kill_leaves_no_model_with_the_description_of_another(
    folder: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: int
) -> None:
    """The process ends before the rename of this number: of the copy, the description and the weights."""
    description, position = tmp_path / "model.json", folder.folder / "model.json"
    description.write_text("first", encoding="utf-8")
    folder.take(trained(tmp_path, b"first"))
    description.write_text("second", encoding="utf-8")
    rename, count = Path.replace, itertools.count(1)

    def killed(path: Path, target: Path) -> Path:
        if next(count) == last:
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt) if last < 5 else contextlib.nullcontext():
        folder.take(trained(tmp_path, b"second"))
    if position.is_file():
        assert position.read_bytes() == folder.trained.read_bytes()
    described = [path.read_text(encoding="utf-8") for path in folder.folder.glob("*.json")]
    assert "first" in described
    assert (last == 5) is ("second" in described)


@pytest.mark.parametrize("name", ["model_2.pt", "../bundle.pt", "/etc/passwd", ""])
def test_other_names_are_refused(folder: ModelFolder, name: str) -> None:
    with pytest.raises(RefusalError, match=r"there is no model .*; available: model\.pt") as refusal:
        folder.named(name)
    assert refusal.value.status_code == 404


def test_the_digest_changes_with_the_model(folder: ModelFolder, tmp_path: Path) -> None:
    before = folder.digest()
    folder.take(trained(tmp_path, b"first"))
    assert folder.digest() not in ("", before)


def test_one_training_at_a_time_over_processes_and_a_dead_one_leaves_no_lock(folder: ModelFolder) -> None:
    folder.folder.mkdir()
    program = (
        "import sys; from filelock import FileLock; lock = FileLock(sys.argv[1]); lock.acquire();"
        "print('held', flush=True);"
        "sys.stdin.read()"
    )
    arguments = [sys.executable, "-c", program, str(folder.folder / ".training.lock")]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(RefusalError, match="is running; wait, or stop it") as refusal:
            folder.training()
        assert refusal.value.status_code == 409
        other.kill()
    folder.training().release()


def test_what_killed_processes_left_is_removed_by_the_next_training(folder: ModelFolder, tmp_path: Path) -> None:
    folder.take(trained(tmp_path, b"first"))
    for name in (".model.pt", ".model_20260101-000000-00.pt", ".model.json", ".training.json", ".other.json"):
        (folder.folder / f"{name}.0a1b2c3d.partial").write_bytes(b"half")
    lock = folder.training()
    folder.write("training", {})
    lock.release()
    assert [path.name for path in folder.folder.glob(".*.partial")] == [".other.json.0a1b2c3d.partial"]


def test_a_damaged_note_reads_as_none(folder: ModelFolder) -> None:
    assert folder.read("scores") == {}
    folder.write("scores", {"a": 1})
    assert folder.read("scores") == {"a": 1}
    (folder.folder / "scores.json").write_text("{", encoding="utf-8")
    assert folder.read("scores") == {}
    folder.note("trainings", {"taken": True})
    folder.note("trainings", {"taken": False})
    lines = (folder.folder / "trainings.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["taken"] for line in lines] == [True, False]
