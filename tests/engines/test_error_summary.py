"""Last line of a failed run: the original error below those of MONAI, torch and Ignite."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from monai.bundle import ConfigParser
from monai.data import DataLoader, Dataset
from monai.transforms import Compose, SaveImage
from tqdm import tqdm

from bundle.engines.error_summary import PROGRAM, ExceptionHooks, install_exception_hooks, interrupt, sentence

SENTENCE = "tile.png is no picture;\n  export it again"
ONE_LINE = "tile.png is no picture; export it again"


def fail(entry: Any = None) -> Any:
    """Raise a message of two lines from another error, as parts of the bundle do."""
    try:
        return {}["no such key"]
    except KeyError as error:
        raise ValueError(SENTENCE) from error


def caught(action: Callable[[], Any]) -> BaseException:
    with pytest.raises(BaseException) as found:  # noqa: PT011
        action()
    return found.value


def component(text: str) -> Callable[[], Any]:
    """Return an action that instantiates a component, as a config does."""
    return lambda: ConfigParser({"part": {"_target_": text}, "run": "$@part"}).get_parsed_content("run")


def loader(workers: int) -> Callable[[], Any]:
    """Return an action that runs a loader with a transform inside two others."""
    return lambda: list(DataLoader(Dataset([1, 2], Compose([Compose([fail])])), num_workers=workers))


class FailingWriter:
    """Image writer that fails as on a full disk."""

    def __init__(self, **settings: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "tile_mask.png")


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        (fail, ONE_LINE),
        (lambda: ConfigParser({"run": "$[][3]"}).get_parsed_content("run"), "IndexError: list index out of range"),
        (component("collections.nowhere"), "ModuleNotFoundError: Cannot locate class or function path"),
        (loader(0), ONE_LINE),
        (loader(2), ONE_LINE),
        (
            lambda: SaveImage(writer=FailingWriter, output_ext=".png", print_log=False)([[1]], {}, "tile"),
            "No space left on device: 'tile_mask.png'; free disk space, or give another --output_dir or --ckpt",
        ),
        (
            lambda: Path("/dev/null/models").mkdir(),
            "Not a directory: '/dev/null/models'; give readable files, and a writable --output_dir and --ckpt_dir",
        ),
        (lambda: Path("nowhere.png").read_bytes(), "No such file or directory: 'nowhere.png'; check that the file"),
        (lambda: {}["pred"], "KeyError: 'pred'; see the traceback above"),
    ],
    ids=["itself", "expression", "target", "transform", "worker", "writer", "folder", "file", "key"],
)
def test_the_sentence_is_found_below_what_is_wrapped_around_it(action: Callable[[], Any], expected: str) -> None:
    assert sentence(caught(action)).startswith(expected)


def test_a_component_of_a_config_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("failing_part")
    module.fail = fail  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "failing_part", module)
    error = caught(component("failing_part.fail"))
    assert "Failed to" in str(error)
    assert sentence(error) == ONE_LINE


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (AssertionError(), "AssertionError; see the traceback above"),
        (RuntimeError("Failed to instantiate component 'x'"), "Failed to instantiate component 'x'"),
        (KeyboardInterrupt(), "stopped; continue a training with --resume True, an inference with the same command"),
        (
            RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB. " + "GPU 0 has " * 40),
            "the memory of the GPU is full; lower --batch_size or --crop_size (CUDA out of memory. Tried to allocate",
        ),
        (RuntimeError("DataLoader worker (pid 12) is killed by signal: Killed."), "a loader process was killed"),
        (
            TypeError("DiceLoss.__init__() got an unexpected keyword argument 'nothing'"),
            "a config gives an unknown setting; scripts/check_config.py shows where (DiceLoss.__init__() got",
        ),
    ],
)
def test_what_torch_and_monai_say_is_told_with_what_to_do(error: BaseException, expected: str) -> None:
    message = sentence(error)
    assert message.startswith(expected)
    assert "\n" not in message
    assert len(message) < 250


def test_the_traceback_comes_first_and_the_sentence_last(capsys: pytest.CaptureFixture[str]) -> None:
    error = caught(loader(0))
    with tqdm(total=3) as bar:
        ExceptionHooks().excepthook(type(error), error, error.__traceback__)
        assert bar.disable, "a bar left open would be drawn below the sentence"
    output = capsys.readouterr().err
    assert output.splitlines()[-1] == f"semi-moe: {ONE_LINE}"
    assert "Traceback (most recent call last):" in output
    assert "in fail" in output


def test_who_stops_a_run_sees_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    ExceptionHooks().excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert (
        capsys.readouterr().err
        == "semi-moe: stopped; continue a training with --resume True, an inference with the same command\n"
    )


def test_a_thread_that_fails_later_has_not_the_last_word(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hooks = ExceptionHooks()
    monkeypatch.setattr(threading, "excepthook", hooks.threading_excepthook)

    def fail_in_a_thread() -> str:
        thread = threading.Thread(target=fail, name="writer")
        thread.start()
        thread.join()
        return capsys.readouterr().err

    assert "Exception in thread writer" in fail_in_a_thread()
    hooks.excepthook(ValueError, ValueError(SENTENCE), None)
    assert capsys.readouterr().err.endswith(f"semi-moe: {ONE_LINE}\n")
    assert fail_in_a_thread() == ""


@pytest.mark.parametrize(("program", "changed"), [(PROGRAM, True), ("pytest.__main__", False), (None, False)])
def test_only_the_command_line_of_monai_gets_the_hook(
    program: str | None, changed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing changes in a notebook, a server or a test, whose errors are not summarized."""
    main = SimpleNamespace(__spec__=None if program is None else SimpleNamespace(name=program))
    monkeypatch.setitem(sys.modules, "__main__", main)  # type: ignore[arg-type]
    before = sys.excepthook, threading.excepthook
    monkeypatch.setattr(sys, "excepthook", before[0])
    monkeypatch.setattr(threading, "excepthook", before[1])
    before_signal = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        install_exception_hooks()
        assert ((sys.excepthook, threading.excepthook) != before) is changed
        assert (signal.getsignal(signal.SIGINT) is interrupt) is changed
    finally:
        signal.signal(signal.SIGINT, before_signal)
