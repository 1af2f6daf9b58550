"""The labeling story: with a real, tiny server, and with faulty ones, which the story must detect."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("monailabel", reason="MONAI Label is not installed: make test-label")

from lib.annotation import Annotation, write_asap

from bundle.inference.polygons import outlines

GREEN = {"Gland": (0, 255, 0)}
TINY = ["--tiles", "6", "--outlined", "2", "--epochs", "2", "--size", "64", "--crop", "32"]
TINY += ["--widths", "4", "8", "8", "8", "8"]
STAGES = ["before", "after first", "after second"]


@pytest.fixture
def program(load_program: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program as a module, with fewer tiles held back; the picture is drawn in this process."""
    module, picture = load_program("label_story"), load_program("draw_story")

    def draw(arguments: list[str], **_: Any) -> SimpleNamespace:
        monkeypatch.setattr(sys, "argv", arguments[1:])
        return SimpleNamespace(returncode=picture.main())

    monkeypatch.setattr(subprocess, "run", draw)
    monkeypatch.setattr(module, "HELD_BACK", 3)
    return module


class Server:
    """A stand-in for a server that knows the truth and has one fault, named by ``fault``.

    Args:
        output: folder of the story.
        fault: empty for a server that does all right.
    """

    def __init__(self, output: Path, fault: str) -> None:
        self.tiles, self.drawn, self.fault = output / "tiles", output / "drawn" / "label", fault
        self.asked = self.trainings = 0
        self.left: list[dict[str, Any]] = []
        self.state: dict[str, Any] = {}
        self.task = "DONE"

    def send(self, method: str, path: str, **more: Any) -> SimpleNamespace:
        """Return its response to a request."""
        route, _, query = path.partition("?")
        name = query.partition("=")[2].partition("&")[0]
        known = {
            ("POST", "/infer/semi_moe"): lambda: self.mask(more["files"]["file"][0]),
            ("POST", "/infer/wsi_v2/semi_moe"): lambda: self.polygons(more["files"]["file"][0]),
            ("PUT", "/datastore/label"): lambda: self.save(name, more["files"]["label"][1]),
            ("GET", "/datastore/label"): lambda: self.label(name),
            ("POST", "/train/semi_moe"): lambda: self.begin(more["json"]),
            ("GET", "/train/"): self.look,
            ("DELETE", "/train/"): self.stop,
            ("GET", "/info/"): self.info,
            ("POST", "/activelearning/disagreement"): self.lead,
        }
        result = known[method, route]()
        return SimpleNamespace(content=result, json=lambda: json.loads(json.dumps(result)))

    def plane(self, file: str) -> np.ndarray:
        with Image.open(self.drawn / file) as opened:
            return np.array(opened) > 0

    def mask(self, file: str) -> bytes:
        data, plane = io.BytesIO(), self.plane(file)
        if self.fault == "answer" and self.task == "STOPPED":
            plane[:] = False
        Image.fromarray(plane.astype(np.uint8)).save(data, "PNG")
        return data.getvalue()

    def polygons(self, file: str) -> bytes:
        plane = self.plane(file).T if self.fault == "turned" else self.plane(file)
        path = self.drawn / "answer.xml"
        write_asap(path, [Annotation("Gland", result.shape) for result in outlines(plane, tolerance=0.5)], GREEN, file)
        return path.read_bytes()

    def save(self, name: str, content: bytes) -> None:
        path = self.tiles / "labels" / f"{name}.xml"
        if path.exists() and self.fault != "history":
            saved = self.tiles / "history" / "final" / f"{name}_1.xml"
            saved.parent.mkdir(parents=True)
            saved.write_bytes(path.read_bytes())
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)

    def label(self, name: str) -> bytes:
        return b"" if self.fault == "label" else (self.tiles / "labels" / f"{name}.xml").read_bytes()

    def begin(self, settings: dict[str, Any]) -> None:
        self.trainings += 1
        self.left = [{"step": step, "steps": 4} for step in range(4)]
        self.task = "RUNNING"

    def look(self) -> dict[str, Any]:
        if self.task == "RUNNING" and not self.left:
            self.end()
        return {"status": self.task}

    def end(self) -> None:
        self.task = "ERROR" if self.fault == "training" else "DONE"
        taken = self.trainings == 1  # the second is no better, and its model is not taken
        self.state = {"labeled": 1, "validation": 1, "unlabeled": 4, "seconds": 1, "taken": taken, "reason": "so"}
        path = self.tiles / "model" / "model.pt"
        path.parent.mkdir(exist_ok=True)
        if taken or self.fault == "model":
            path.write_bytes(b"%d" % self.trainings)

    def stop(self) -> None:
        self.task = "STOPPED"
        self.state = {"reason": "it was stopped"}
        if self.fault == "stopped":
            (self.tiles / "model" / "another.pt").touch()

    def info(self) -> dict[str, Any]:
        running = {"progress": self.left.pop(0)} if self.task == "RUNNING" else self.state
        scores = {name: 1 / index for index, name in enumerate(self.waiting(), 1)}
        return {"train_stats": {"semi_moe": running}, "scoring": {"disagreement": {"scores": scores}}}

    def waiting(self) -> list[str]:
        return sorted(path.stem for path in self.tiles.glob("*.png") if not self.has(path.stem))

    def has(self, name: str) -> bool:
        return (self.tiles / "labels" / f"{name}.xml").exists()

    def lead(self) -> dict[str, Any]:
        self.asked += 1
        return {"id": self.waiting()[-self.asked if self.fault == "lead" else self.asked - 1]}


def told(program: ModuleType, monkeypatch: pytest.MonkeyPatch, output: Path, fault: str = "") -> int:
    """Return the exit code of a story with a faulty server."""
    server = Server(output, fault)

    @contextmanager
    def serving(_: Path) -> Iterator[str]:
        yield "http://nowhere"

    monkeypatch.setattr(program, "serving", serving)
    monkeypatch.setattr(program.Story, "send", lambda self, *arguments, **more: server.send(*arguments, **more))
    monkeypatch.setattr(time, "sleep", lambda _: None)
    code: int = program.main(["--output", str(output), *TINY])
    return code


@pytest.mark.slow
def test_the_story_holds_with_a_real_server_and_is_drawn(
    program: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], label_environment: Any, monkeypatch: Any
) -> None:
    for name, value in label_environment().items():
        monkeypatch.setenv(name, value)
    output = tmp_path / "story"
    code = program.main(["--output", str(output), *TINY])
    printed = capsys.readouterr()
    assert code == 0, printed.err + (output / "server.log").read_text(encoding="utf-8")[-3000:]
    story = json.loads((output / "story.json").read_text(encoding="utf-8"))
    assert story["held"]
    assert [stage["stage"] for stage in story["stages"]] == STAGES
    assert [stage["outlined"] for stage in story["stages"]] == [0, 2, 4]
    assert [stage["unlabeled"] for stage in story["stages"]] == [6, 4, 2]
    assert all(0 <= stage["dice"] <= 1 for stage in story["stages"])
    assert "model is" in story["stages"][-1]["reason"], "the new model, or the old one"
    assert story["stopped"]["reason"] == "it was stopped; the model is unchanged"
    assert len(story["labels"]) == len(list((output / "tiles" / "labels" / "final").glob("*.xml"))) == 4
    assert len(story["ranking"]) == 4
    with Image.open(output / "story.png") as picture:
        assert picture.width > 1000
    assert f"| after second | 4 | {story['stages'][-1]['judging']} | 2 |" in printed.out


def test_a_server_that_does_all_right_makes_a_story_that_holds(
    program: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told(program, monkeypatch, tmp_path / "story") == 0, capsys.readouterr().err
    story = json.loads((tmp_path / "story" / "story.json").read_text(encoding="utf-8"))
    assert [stage["dice"] for stage in story["stages"]] == [1, 1, 1], "masks and polygons of the truth"


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("turned", "do not agree with its mask"),
        ("training", "training error: so"),
        ("lead", "the server suggests"),
        ("history", "is not in the history"),
        ("model", "a previous model is lost"),
        ("stopped", "the models do not agree with the server's record"),
        ("answer", "the stopped training changed a prediction"),
        ("label", "differs from the submitted one"),
    ],
)
def test_what_does_not_hold_ends_the_story_with_one_sentence(
    fault: str,
    message: str,
    program: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert told(program, monkeypatch, tmp_path / "story", fault) == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("label_story: ")
    assert message in last
    assert not json.loads((tmp_path / "story" / "story.json").read_text(encoding="utf-8"))["held"]


def test_a_server_that_does_not_come_up_says_why(
    program: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(program, "ROOT", tmp_path)  # so start.py is not there
    monkeypatch.setattr(program, "prepare", lambda given: given.output.mkdir() or [])
    assert program.main(["--output", str(tmp_path / "story"), *TINY]) == 1
    assert "start.py" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("more", "message"),
    [((), "is not empty"), (("--outlined", "3"), "--outlined must be at least 2 and at most a third")],
)
def test_a_command_line_that_cannot_be_meant_is_refused(
    more: tuple[str, ...], message: str, program: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "there").touch()
    output = tmp_path / "new" if more else tmp_path
    assert program.main(["--output", str(output), *TINY, *more]) == 1
    assert message in capsys.readouterr().err
