"""The embedded folder of the label server has the documented number of tiles, and a folder in use is not changed."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest
import start


def test_as_many_drawn_tiles_are_served_as_the_page_says(tmp_path: Path, repository_root: Path) -> None:
    """Only the training part is served; the single tiles of validation and test are drawn but not served."""
    folder = tmp_path / "label"
    start.embed(folder)
    page = (repository_root / "docs" / "monai_label.md").read_text(encoding="utf-8")
    output = re.search(r"serves (\d+) drawn tiles", page)
    assert output is not None
    names = sorted(path.name for path in folder.iterdir())
    assert len(names) == int(output[1]) == start.TILES["training"][1]
    assert all(name.endswith(".png") for name in names)
    assert len({name.partition("_")[0] for name in names}) == start.TILES["training"][0]
    assert list(tmp_path.iterdir()) == [folder]


def test_a_folder_that_holds_something_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "mine.png").write_bytes(b"")
    start.embed(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.png"]


def test_the_page_is_opened_when_the_server_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    messages: list[str] = []
    monkeypatch.setattr("webbrowser.open", messages.append)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        monkeypatch.setattr("time.sleep", lambda _: listening.listen())  # it starts to listen after the first attempt
        start.open_page("127.0.0.1", port, "address")
    assert messages == ["address"]


def test_a_server_that_never_answers_opens_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("webbrowser.open", lambda _: pytest.fail("a browser was opened"))
    monkeypatch.setattr(start, "LONGEST_START", 0.5)
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        start.open_page("127.0.0.1", bound.getsockname()[1], "address")
