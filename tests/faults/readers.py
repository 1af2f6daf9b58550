"""Reading of each kind of damaged file in a process with limited time and memory, and the outcome of each case."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from PIL import Image
from torch import nn

from bundle.data import load_data_list
from bundle.data.image_io.pictures import check_pair, read_image, read_label
from bundle.data.lists import images_to_predict
from bundle.engines import ModelCheckpointLoader, ResumeFile
from bundle.engines.error_summary import sentence
from bundle.engines.finished_images import read_journals
from bundle.engines.model_json_reader import Builder, trained_model
from bundle.slides import open_slide
from scripts.dataset_check.checked_list import check_list
from scripts.dataset_check.findings import find_faults
from scripts.label_app.lib.annotation import read_annotations
from tests.faults.damage import MARKER, Case, resume_items

SECONDS = 20
"""Time of a case."""
MEMORY = 2 * 2**30
"""Memory of a case, bytes, above that of the process."""
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Outcome:
    """Outcome of a case: ``result``, ``sentence`` or ``fault``, and the message."""

    case: Case
    ended: str
    said: str


def _mask(path: Path) -> None:
    image = path.with_name("image_of_mask.bmp")
    Image.new("RGB", (30, 24)).save(image)
    try:
        check_pair(str(image), str(path))
        read_label(path)
    finally:
        image.unlink()


def _resume(path: Path) -> None:
    trainer, items = resume_items(str(path.parent))
    file = ResumeFile(path, items, resume=True, setting={"seed": 0, "method": "semi_moe"})
    file._restore(trainer)  # without `attach`, which writes after each epoch
    trainer.run([0], max_epochs=4)


def _slide(path: Path) -> None:
    with open_slide(path) as slide:
        for number, level in enumerate(slide.levels):
            slide.read(number, 0, 0, *(min(side, 2000) for side in level.size))


def readers(check_config: ModuleType) -> dict[str, Sequence[Callable[[Path], Any]]]:
    """Return the function that reads each kind of file."""

    def overlay(path: Path) -> None:
        findings = check_config.check(
            {"run_id": "training", "config_file": [str(ROOT / "configs/train.json"), str(path)]}
        )
        if findings:
            raise ValueError("; ".join(findings) + f" ({path.name})")

    def network(path: Path) -> None:
        ModelCheckpointLoader(nn.Linear(3, 2), path).load()

    def description(path: Path) -> None:
        defaults = {"network": "bundle.networks.SemiMoE", "class_target": "bundle.transforms.ForegroundClassd"}
        settings = trained_model(path.parent, **defaults, classes=2, pixel_size=1.0, crop_size=[64, 64], encoder=None)
        if isinstance(settings["network"], Builder):
            settings["network"]()
            settings["class_target"]()

    def data_check(path: Path) -> None:
        find_faults(check_list(str(path), None, 1, None), (16, 16), 1.0)

    return {
        "pictures": [read_image],
        "masks": [_mask],
        "data_lists": [
            lambda path: load_data_list(path.parent, path.name),
            lambda path: images_to_predict(path.parent, path.name, "training"),
            data_check,
        ],
        "overlays": [overlay],
        "checkpoints": [network],
        "descriptions": [description],
        "resume_files": [_resume],
        "slides": [_slide],
        "annotations": [read_annotations],
        "journals": [lambda path: read_journals(path.parent, lambda settings: None)],
    }


def _ended(reader: Callable[[Path], Any], path: Path) -> tuple[str, str]:
    """Read a file and return the outcome; an error counts as a sentence only if it names the file."""
    try:
        reader(path)
    except BaseException as error:
        message = sentence(error)
        good = (
            (path.name in message or "the data list" in message)
            and "\n" not in message
            and "see the traceback" not in message
            and len(message) < 2000
        )
        return "sentence" if good else "fault", f"{type(error).__name__}: {message}"
    return "result", ""


def _child(
    cases: Sequence[Case], folder: Path, known: dict[str, Sequence[Callable[[Path], Any]]], answers: int
) -> None:
    """Read all cases and write a line for each."""
    warnings.resetwarnings()
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends this process, also in code that is not Python
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    os.chdir(folder)
    for case in cases:
        path = folder / case.name
        path.write_bytes(case.content)
        before = set(os.listdir(folder))
        for reader in known[case.kind]:
            signal.alarm(SECONDS)
            ended, message = _ended(reader, path)
            signal.alarm(0)
            left = set(os.listdir(folder)) - before
            if left:
                ended, message = "fault", f"left {', '.join(left)}" + (" (code was executed)" if MARKER in left else "")
                for name in left:
                    os.unlink(folder / name)
            os.write(answers, json.dumps([ended, message]).encode() + b"\n")
        path.unlink()


def read_all(cases: Sequence[Case], folder: Path, check_config: ModuleType) -> list[Outcome]:
    """Read all cases in child processes; after a case that hangs or crashes, the next process continues."""
    known = readers(check_config)
    for name in ("image/a.png", "image/b.png", "label/a.png", "label/b.png"):  # of the data lists
        (folder / name).parent.mkdir(exist_ok=True)
        color = (ord(name[-5]), 0, 0)
        Image.new("RGB" if name.startswith("image") else "L", (20, 20), color if name.startswith("image") else 0).save(
            folder / name
        )
    outcomes: list[Outcome] = []
    start = 0
    while start < len(cases):
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.close(reading)
                _child(cases[start:], folder, known, writing)
            finally:
                sys.stderr.flush()
                os._exit(0)
        os.close(writing)
        with open(reading, encoding="utf-8") as answers:
            lines = [json.loads(line) for line in answers]
        _, status = os.waitpid(pid, 0)
        for case in cases[start:]:
            count = len(known[case.kind])
            if len(lines) < count:
                break
            first, lines = lines[:count], lines[count:]
            worst = next((line for kind in ("fault", "sentence") for line in first if line[0] == kind), first[0])
            outcomes.append(Outcome(case, *worst))
            start += 1
        else:
            break
        hung = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM
        message = f"hangs for {SECONDS} s" if hung else f"the process ended with status {status}"
        outcomes.append(Outcome(cases[start], "fault", message))
        (folder / cases[start].name).unlink(missing_ok=True)
        start += 1
    return outcomes
