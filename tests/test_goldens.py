"""Numbers of every overlay before a change of the code that must not change them; slow.

python -m pytest tests/test_goldens.py -m slow                    compare with tests/goldens/*.json
WRITE_GOLDENS=1 python -m pytest tests/test_goldens.py -m slow    write them anew

Processors differ in the last digits, and so in some thresholded pixels: on another machine, first write the numbers of
the commit before the change.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Events
from monai.bundle import ConfigParser
from torch import nn

from bundle.networks.outputs import NamedOutputs
from tests.methods.conftest import files_of
from tests.scripts.reporting.conftest import make_cells  # noqa: F401
from tests.slides.conftest import picture, pyramid, write_slide  # noqa: F401

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "configs"
GOLDENS = Path(__file__).parent / "goldens"
ANSWER = ["inference.json"]
EVALUATION = ["train.json", "evaluate.json"]
METHODS = sorted(path.stem for path in CONFIGS.glob("methods/*.yaml"))
TRAININGS = sorted(
    str(path.relative_to(CONFIGS))
    for folder in ("annotations", "encoders", "protocols", "schedules", "sizes")
    for path in CONFIGS.glob(f"{folder}/*.yaml")
    if path.stem not in {"timm", "authors", "transfer", "shift"}  # another package, other data lists
)
PREDICTIONS = sorted(path.stem for path in CONFIGS.glob("inference/*.yaml") if path.stem not in {"onnx", "slides"})
POSTPROCESSING = sorted(str(path.relative_to(CONFIGS)) for path in CONFIGS.glob("postprocessing/*.yaml"))


BELONGS_TO_TORCH = {"training", "call_super_init", "dump_patches"}


def compare(file: str, name: str, current: Any) -> None:
    """Compare results with the stored ones; numbers may differ by a relative 1e-4."""
    path = GOLDENS / f"{file}.json"
    stored = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    current = json.loads(json.dumps(current))
    if os.environ.get("WRITE_GOLDENS"):
        path.parent.mkdir(exist_ok=True)
        content = json.dumps(stored | {name: current}, indent=1, sort_keys=True)
        path.write_text(content + "\n", encoding="utf-8")
        return
    assert differences(stored[name], current) == []


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """Return the keys at which two contents differ."""
    if isinstance(old, dict) and isinstance(new, dict) and old.keys() == new.keys():
        return [line for key in old for line in differences(old[key], new[key], f"{path}/{key}")]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [
            line for at, pair in enumerate(zip(old, new, strict=True)) for line in differences(*pair, f"{path}/{at}")
        ]
    numbers = isinstance(old, int | float) and isinstance(new, int | float)
    same = old == pytest.approx(new, rel=1e-4, abs=1e-6, nan_ok=True) if numbers else old == new
    return [] if same else [f"{path}: {old} was, {new} is"]


def settings_of(part: Any) -> Any:
    """Return the settings of a part of a training: names of classes, numbers and texts, without weights and data."""
    if part is None or isinstance(part, bool | int | float | str):
        return part
    if isinstance(part, list | tuple):
        return [settings_of(item) for item in part]
    if isinstance(part, dict | nn.ModuleDict):
        return {str(key): settings_of(value) for key, value in part.items()}
    if isinstance(part, torch.Tensor):
        return part.tolist() if part.numel() < 20 else list(part.shape)
    if not type(part).__module__.startswith(("bundle.", "monai.")) or isinstance(part, NamedOutputs):
        return type(part).__name__
    own = {key: value for key, value in vars(part).items() if not key.startswith("_") and key not in BELONGS_TO_TORCH}
    own |= dict(part.named_children()) if isinstance(part, nn.Module) else {}
    return {"class": type(part).__name__} | {key: settings_of(value) for key, value in own.items() if key != "R"}


def numbers_of(values: dict[str, Any]) -> dict[str, Any]:
    """Return scalars as numbers, and gate weights as their mean over images."""
    return {key: torch.as_tensor(value).float().mean(0).tolist() for key, value in values.items()}


@pytest.fixture
def training(tiny: dict[str, Any]) -> Callable[..., dict[str, Any]]:
    """Train two steps and return their numbers."""

    def train(files: list[str], **changes: Any) -> dict[str, Any]:
        torch.manual_seed(0)
        parser = ConfigParser()
        parser.read_config([str(ROOT / file) for file in files])
        parser.update({**tiny, "max_epochs": 1, **changes})
        trainer = parser.get_parsed_content("train#trainer")
        steps: list[dict[str, Any]] = []
        trainer.add_event_handler(
            Events.ITERATION_COMPLETED,
            lambda engine: steps.append(numbers_of(engine.state.step)),
        )
        trainer.run()
        step, optimizer = trainer.step, parser.get_parsed_content("train#optimizer")
        return {
            "steps": steps,
            "validation": dict(parser.get_parsed_content("validate#evaluator").state.metrics),
            "parameters": sum(value.numel() for value in step.parameters()),
            "weights": sum(float(value.detach().abs().sum()) for value in step.parameters()),
            "rates": [[group[key] for key in ("initial_lr", "weight_decay", "lr")] for group in optimizer.param_groups],
            "step": settings_of(
                {key: getattr(step, key) for key in ("losses", *list(vars(step)["_modules"])) if key != "network"}
            ),
            "transforms": [type(item).__name__ for item in parser.get_parsed_content("train#preprocessing").transforms],
            "settings": {
                key.rpartition("#")[2]: settings_of(parser.get_parsed_content(key))
                for key in ("train#trainer#epoch_length", "batch_size", "crop_size", "classes")
            },
        }

    return train


@pytest.mark.parametrize("name", METHODS)
def test_methods(name, training):
    compare("methods", name, training(files_of(CONFIGS / "methods" / f"{name}.yaml")))


@pytest.mark.parametrize("name", TRAININGS)
def test_other_overlays_of_a_training(name, training):
    compare(
        "trainings",
        name,
        training(["configs/train.json", f"configs/{name}"], **{"network_def#widths": [4, 8, 8, 8, 8]}),
    )


@pytest.fixture
def model(training, tiny) -> dict[str, Any]:
    """A model after two steps, and the arguments of a run with it."""
    training(["configs/train.json"])
    return {key: tiny[key] for key in ("bundle_root", "ckpt_dir", "device", "amp")}


def digests(folder: Path) -> dict[str, str]:
    """Return the digest of each file of a folder, without logs and records of time and folder."""
    files = [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix in {".png", ".geojson", ".tif", ".tiff"}
    ]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in files}


@pytest.mark.parametrize("name", [None, *PREDICTIONS])
def test_overlays_of_an_inference(name, model, phantom_dir, tmp_path):
    parser = ConfigParser()
    parser.read_config(
        [str(CONFIGS / file) for file in ["inference.json", *([f"inference/{name}.yaml"] if name else [])]]
    )
    image = next(iter(sorted((phantom_dir / "image").glob("*.png"))))
    parser.update(model | {"dataset_dir": str(image), "output_dir": str(tmp_path / "masks"), "num_workers": 0})
    parser.get_parsed_content("evaluator").run()
    compare("inference", name or "none", digests(tmp_path / "masks"))


def test_a_slide(model, write_slide, tmp_path):  # noqa: F811
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / "inference.json"), str(CONFIGS / "inference" / "slides.yaml")])
    folder = tmp_path / "slides"
    folder.mkdir()
    shutil.copy(write_slide("pyramid"), folder / "slide.tif")
    paths = {"dataset_dir": str(folder), "output_dir": str(tmp_path / "masks"), "num_workers": 0}
    parser.update(model | paths | {"predict_glass": True, "block": 64, "min_area": 4.0})
    parser.get_parsed_content("evaluator").run()
    compare("inference", "slides", digests(tmp_path / "masks"))


@pytest.mark.parametrize("name", POSTPROCESSING)
def test_overlays_of_an_evaluation(name, model, phantom_dir, tmp_path):
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / file) for file in [*EVALUATION, name]])
    parser.update(model | {"dataset_dir": str(phantom_dir), "output_dir": str(tmp_path / "scores"), "num_workers": 0})
    evaluator = parser.get_parsed_content("validate#evaluator")
    evaluator.run()
    compare("evaluation", Path(name).stem, dict(evaluator.state.metrics))


def test_the_tables_of_a_report(make_cells, load_program, tmp_path):  # noqa: F811
    assert load_program("report").main(["--cells", str(make_cells()), "--output", str(tmp_path / "report")]) == 0
    text = (tmp_path / "report" / "table.md").read_text(encoding="utf-8")
    compare("report", "table.md", re.sub(re.escape(str(tmp_path)), "", text).splitlines())
