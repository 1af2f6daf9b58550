"""What people get wrong, through the command line: the last line says what, which file, and what to do."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image


@dataclass(frozen=True)
class Case:
    """A data folder of one's own to spoil, and runs on it."""

    bundle: Any
    launch: Callable[..., tuple[int, str]]
    folder: Path

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def parts(self) -> dict[str, list[dict[str, Any]]]:
        """The data list as it is."""
        return json.loads((self.data / "heldout_50_seed0.json").read_text())

    def write(self, content: Mapping[str, Any] | str) -> None:
        """Put another data list in its place."""
        text = content if isinstance(content, str) else json.dumps(content)
        (self.data / "heldout_50_seed0.json").write_text(text)

    def change(self, part: str, **values: Any) -> None:
        """Change the first entry of a part."""
        parts = self.parts
        parts[part][0].update(values)
        self.write(parts)

    def run(self, run_id: str, *arguments: str, limit: int = 0) -> tuple[int, str]:
        """Exit code and all that was said."""
        configs = {
            "training": ["train.json"],
            "evaluating": ["train.json", "evaluate.json"],
            "inference": ["inference.json"],
        }
        settings = {"dataset_dir": self.data, "output_dir": self.folder / "output", "ckpt_dir": self.folder / "models"}
        if run_id == "inference":
            settings["dataset_dir"] = self.data / "image"
        given = [
            word
            for name, value in settings.items()
            if f"--{name}" not in arguments
            for word in (f"--{name}", str(value))
        ]
        line = ["run", run_id, "--config_file", self.bundle.configs(*configs[run_id]), *given, *arguments]
        return self.launch(line, self.bundle.root, limit)

    def fails(self, run_id: str, *arguments: str, limit: int = 0) -> str:
        """Last line of a run that must fail and leave nothing by halves."""
        code, output = self.run(run_id, *arguments, limit=limit)
        assert code == 1, output[-2000:]
        last = output.rstrip("\n").splitlines()[-1]
        assert last.startswith("semi-moe: "), output[-2000:]
        half = [path.name for path in self.folder.rglob("*") if re.search(r"\.part(ial)?\b", path.name)]
        assert half == []
        return last.removeprefix("semi-moe: ").replace(str(self.folder), "")

    def succeeds(self, run_id: str, *arguments: str) -> str:
        """What a run says that must not fail."""
        code, output = self.run(run_id, *arguments)
        assert code == 0, output[-2000:]
        assert "nan" not in output.lower().replace("nanosecond", ""), output
        return output

    def written(self) -> list[str]:
        """Files of results; TensorBoard's, which is opened at once, is none."""
        files = [path for name in ("models", "output") for path in (self.folder / name).rglob("*") if path.is_file()]
        return sorted(path.name for path in files if "tfevents" not in path.name)


@pytest.fixture(scope="module")
def launch(python) -> Callable[..., tuple[int, str]]:
    """The command line of MONAI; its exit code and all that it says."""

    def run(arguments: list[str], folder: Path, limit: int) -> tuple[int, str]:
        completed = python("-m", "monai.bundle", *arguments, cwd=folder, limit=limit, merged=True)
        return completed.returncode, completed.stdout

    return run


@pytest.fixture(scope="module")
def copy(copy_bundle) -> Any:
    """A copy of the bundle that draws no pictures of its answers unless it is asked to: they take a second."""
    bundle_copy = copy_bundle("bad_input")
    bundle_copy.edit("train.json", {"max_epochs": 1, "drawn": False})
    for name in ("train.json", "evaluate.json"):
        path = bundle_copy.root / "configs" / name
        montage = '"_target_": "bundle.handlers.ValidationMontage"'
        text = path.read_text()
        assert montage in text
        path.write_text(text.replace(montage, f'{montage}, "_disabled_": "$not @drawn"'))
    return bundle_copy


@pytest.fixture
def case(copy, launch, phantom_dir, tmp_path) -> Case:
    shutil.copytree(phantom_dir, tmp_path / "data")
    return Case(copy, launch, tmp_path)


@pytest.fixture(scope="module")
def trained(copy, launch, phantom_dir, tmp_path_factory) -> Path:
    """Folder of a model."""
    prepared = Case(copy, launch, tmp_path_factory.mktemp("trained"))
    shutil.copytree(phantom_dir, prepared.data)
    prepared.succeeds("training")
    assert {"model.pt", "resume.pt", "training.csv"} <= set(prepared.written())
    return prepared.folder / "models"


# Data


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def save(path: Path, values: np.ndarray) -> None:
    Image.fromarray(values).save(path)


def no_label(case: Case) -> None:
    parts = case.parts
    del parts["training"][0]["label"]
    case.write(parts)


def other_mask(values: np.ndarray, suffix: str = ".png", part: str = "training") -> Callable[[Case], None]:
    def spoil(case: Case) -> None:
        save(case.data / f"mask{suffix}", values)
        case.change(part, label=f"mask{suffix}")

    return spoil


def truncated(part: str) -> Callable[[Case], None]:
    def spoil(case: Case) -> None:
        image = case.data / case.parts[part][0]["image"]
        image.write_bytes(image.read_bytes()[: image.stat().st_size // 2])

    return spoil


def in_two_parts(case: Case) -> None:
    case.write(case.parts | {"validation": case.parts["training"][:1]})


def in_two_files(case: Case) -> None:
    held, training_image = (case.data / case.parts[part][0]["image"] for part in ("validation", "training"))
    shutil.copy(training_image, held)


def outside(case: Case) -> None:
    shutil.copy(case.data / case.parts["training"][0]["image"], case.folder / "tile.png")
    case.change("training", image="../tile.png")


BAD_DATA: dict[str, tuple[Callable[[Case], None], str]] = {
    "no images": (
        lambda case: case.write(case.parts | {"training": []}),
        r"the data list has no image under 'training'; use another list \(--data_list\) or add images",
    ),
    "no labels": (
        no_label,
        r"1 of 4 in training of /data/heldout_50_seed0\.json \(image/.*\.png\): each has no label; add",
    ),
    "mask of another size": (
        other_mask(np.zeros((20, 30), np.uint8)),
        r"/data/mask\.png is 30 x 20 px and its image 64 x 48",
    ),
    "validation mask of another size": (
        other_mask(np.zeros((20, 30), np.uint8), part="validation"),
        r"/data/mask\.png is 30 x 20 px and its image 64 x 48 px; give .* \(validation of /data/.*\.json\)",
    ),
    "missing mask": (
        lambda case: case.change("training", label="label/no.png"),
        r"1 of 8 files of training in /data/.*\.json are missing \(/data/label/no\.png\); add them, or",
    ),
    "mask of noise": (
        other_mask(noise(48, 64)),
        r"/data/mask\.png: 25\d values have \d+ separate pieces, as in a mask smoothed by JPEG",
    ),
    "mask of fractions": (
        other_mask(np.linspace(0, 1, 48 * 64, dtype=np.float32).reshape(48, 64), ".tif"),
        r"/data/mask\.tif: some values are fractions or not finite; give a mask of integers",
    ),
    "mask of colors": (
        other_mask(noise(48, 64, 3)),
        r"/data/mask\.png: a mask must have one channel, this one has colors; save",
    ),
    "truncated image": (
        truncated("training"),
        r"/data/image/.*\.png is not a readable picture \(.*truncated\); export it",
    ),
    "image in two parts": (
        in_two_parts,
        r"/data/heldout_50_seed0\.json has 1 image both in validation and in training",
    ),
    "image under two names": (
        in_two_files,
        r"/data/heldout_50_seed0\.json has 1 image of validation under another name in training \(/data/image/.*\)",
    ),
    "list that is no JSON": (
        lambda case: case.write("{no json"),
        r"/data/heldout_50_seed0\.json is not JSON \(.*\); create the data list again",
    ),
    "file outside the folder": (
        outside,
        r"/data/heldout_50_seed0\.json has 1 path of training outside the data folder",
    ),
}


@pytest.mark.parametrize("name", BAD_DATA)
def test_bad_data_is_said_before_anything_is_written(name: str, case: Case) -> None:
    spoil, sentence = BAD_DATA[name]
    spoil(case)
    assert re.match(sentence, case.fails("training"))
    assert case.written() == []


def test_a_loader_process_says_what_it_cannot_read(case: Case) -> None:
    truncated("unlabeled")(case)
    last = case.fails("training", "--num_workers", "2", "--data#cache_rate", "0")
    assert re.match(r"/data/image/.*\.png is not a readable picture \(.*truncated\); export it again", last)
    assert case.written() == []


def test_bad_pictures_to_predict_are_said(case: Case, trained: Path) -> None:
    arguments = ["--ckpt_dir", str(trained)]
    (case.folder / "empty").mkdir()
    assert re.match(
        r"no picture in /empty; give a folder with",
        case.fails("inference", *arguments, "--dataset_dir", str(case.folder / "empty")),
    )
    assert re.match(
        r"no folder /no; give a folder of",
        case.fails("inference", *arguments, "--dataset_dir", str(case.folder / "no")),
    )
    truncated("test")(case)
    name = Path(case.parts["test"][0]["image"]).name
    last = case.fails("inference", *arguments)
    assert last.startswith(f"1 of 13 files were skipped: /data/image/{name} is not a readable picture")
    masks = list((case.folder / "output").glob("*_mask.png"))
    assert len(masks) == 12
    for path in masks:
        Image.open(path).load()
    assert case.fails("evaluating", *arguments).startswith(f"/data/image/{name} is not a readable picture")


def test_pictures_of_any_kind_are_converted_with_a_note(case: Case, trained: Path) -> None:
    """16 bits, gray, palette, transparent: in training, validation and inference."""
    files = [case.data / entry["image"] for part in ("training", "validation") for entry in case.parts[part]]
    pictures = [Image.open(file).convert("RGB") for file in files]
    wide = np.asarray(pictures[0].convert("L")).astype(np.uint16) * 257
    changed = [Image.fromarray(wide), pictures[1].convert("L"), pictures[2].quantize(16), pictures[3].convert("RGBA")]
    clear = pictures[4].convert("RGBA")
    clear.putpixel((0, 0), (0, 0, 0, 0))
    for file, picture in zip(files, [*changed, clear], strict=False):
        picture.save(file)
    notes = [
        "16 bits scaled to 8, gray repeated to RGB",
        "gray repeated to RGB",
        "palette to RGB",
        "opaque alpha removed",
    ]
    notes.append("transparent parts blended over white")
    for output in (case.succeeds("training"), case.succeeds("inference", "--ckpt_dir", str(trained))):
        for file, note in zip(files, notes, strict=False):
            assert f"{file}: {note};" in output
    assert len(list((case.folder / "output").glob("*_mask.png"))) == 13


# Sizes


def test_images_smaller_than_crop_and_stride_are_used(case: Case) -> None:
    """Crops are 32 px, the network's stride is 16."""
    parts, shapes = case.parts, [(20, 20), (1, 1), (3, 200)]
    for seed, part in enumerate(parts):
        for number, (entry, shape) in enumerate(zip(parts[part], shapes, strict=False)):
            save(case.data / entry["image"], noise(*shape, 3, seed=10 * seed + number))
            if "label" in entry:
                entry["label"] = f"label/small_{part}_{number}.png"
                save(case.data / entry["label"], np.ones(shape, np.uint8))
    case.write(parts)
    case.succeeds("training", "--drawn", "True")
    case.succeeds("evaluating", "--drawn", "True")
    case.succeeds("inference")
    for entry, shape in zip(parts["test"], shapes, strict=True):
        with Image.open(case.folder / "output" / f"{Path(entry['image']).stem}_mask.png") as file:
            assert file.size == shape[::-1]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--crop_size", "[8,8]"], r"crop_size is \[8, 8\]; it must be a list of 2 integers, at least 16"),
        (
            ["--crop_size", "[32,48]"],
            r"crops of one batch differ in size; give --crop_size two equal numbers, because crops",
        ),
        (
            ["--crop_size", "[16,16]", "--batch_size", "1"],
            r"batch normalization needs more pixels; raise --crop_size or",
        ),
        (["--network_def#widths", "[4,8]"], r"network_def#widths is \[4, 8\]; it must be a list of 5 integers"),
        (["--resume", "maybe"], r"resume is 'maybe'; it must be True or False"),
        (["--data_list", "no.json"], r"no data list no\.json in /data; it holds heldout_"),
        (
            ["--train#loss_seg#smooth", "1"],
            r"a config gives an unknown setting; scripts/check_config\.py shows where \(",
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_wrong_setting_is_said(arguments: list[str], sentence: str, case: Case) -> None:
    assert re.match(sentence, case.fails("training", *arguments))
    assert case.written() == []


def test_a_crop_that_the_stride_does_not_divide_is_used(case: Case) -> None:
    case.succeeds("training", "--crop_size", "[39,39]")
    case.succeeds("inference", "--crop_size", "[21,37]")


@pytest.mark.parametrize(("value", "name"), [(0, "empty"), (255, "full")])
def test_masks_of_one_value_train_without_nan(value: int, name: str, case: Case) -> None:
    parts = case.parts
    save(case.data / "mask.png", np.full((48, 64), value, np.uint8))
    for part in ("training", "validation", "test"):
        parts[part] = [entry | {"label": "mask.png"} for entry in parts[part]]
    case.write(parts)
    output = case.succeeds("training")
    assert "epoch 1/1: loss" in output
    weights = torch.load(case.folder / "models" / "model.pt", weights_only=True)
    assert all(bool(torch.isfinite(value).all()) for value in weights.values())
    table = (case.folder / "output" / "training.csv").read_text().splitlines()[1]
    assert all(np.isfinite(float(number)) for number in table.split(",") if number)


# Checkpoints


def test_a_model_that_does_not_fit_is_said(case: Case, trained: Path) -> None:
    models = case.folder / "models"
    assert case.fails("inference").startswith("no model at /models/model.pt; train first, or give --ckpt_dir")
    models.mkdir()
    shutil.copy(trained / "model.pt", models)
    for run_id in ("evaluating", "inference"):
        last = case.fails(run_id, "--network_def#widths", "[4,4,8,8,8]")
        assert last.startswith("/models/model.pt does not fit this SemiMoE: encoders.0.down_1.")
        assert last.endswith("give the overlays and sizes (such as --network_def#widths) that it was trained with")
    (models / "model.pt").write_bytes((trained / "model.pt").read_bytes()[:10_000])
    assert case.fails("evaluating").startswith("/models/model.pt cannot be read as weights: it is damaged")
    shutil.copy(trained / "checkpoints" / "resume.pt", models / "model.pt")
    assert case.fails("inference").startswith("/models/model.pt is a resume file, not a model; give the model.pt")
    assert case.written() == ["model.pt"]


def test_a_resume_file_that_does_not_fit_is_said_and_stays(case: Case, trained: Path) -> None:
    models = case.folder / "models"
    shutil.copytree(trained, models)
    resume = models / "checkpoints" / "resume.pt"
    before = case.written()
    for message, sentence in (
        (
            ["--network_def#widths", "[4,4,8,8,8]"],
            "/models/checkpoints/resume.pt does not fit this training (network): ",
        ),
        (
            ["--batch_size", "1"],
            "/models/checkpoints/resume.pt was written by another training: it lacks nothing and has",
        ),
    ):
        assert case.fails("training", "--resume", "True", "--max_epochs", "2", *message).startswith(sentence)
    resume.write_bytes(resume.read_bytes()[:20_000])
    last = case.fails("training", "--resume", "yes", "--max_epochs", "2")
    assert last == (
        "/models/checkpoints/resume.pt cannot be read as a resume file: it is damaged or has another format; "
        "remove it, or start with --resume False"
    )
    assert case.written() == before
    assert (models / "model.pt").read_bytes() == (trained / "model.pt").read_bytes()


# Disks


def test_a_full_disk_is_said_with_the_file_and_leaves_nothing_by_halves(case: Case, trained: Path) -> None:
    size = (trained / "model.pt").stat().st_size
    (case.folder / "models").mkdir()
    (case.folder / "models" / "model.pt").write_bytes(b"the old one")
    advice = "free disk space, or give another --output_dir or --ckpt_dir"
    arguments = ["--train#tensorboard#_disabled_", "True"]
    assert case.fails("training", limit=20_000) == f"File too large: '/output'; {advice}"
    last = case.fails("training", *arguments, limit=size - 1000)
    assert last == f"File too large: '/models/model.pt'; {advice}"
    assert (case.folder / "models" / "model.pt").read_bytes() == b"the old one"
    last = case.fails("training", *arguments, limit=size + 1000)
    assert last == f"File too large: '/models/checkpoints/resume.pt'; {advice}"
    assert not (case.folder / "models" / "checkpoints" / "resume.pt").exists()
    last = case.fails("inference", "--ckpt_dir", str(trained), limit=50)
    assert last == f"File too large: '/output/journal_0.jsonl'; {advice}"
    assert not list((case.folder / "output").glob("*_mask.png"))


def test_a_folder_that_cannot_be_written_is_said_before_the_first_step(case: Case, trained: Path) -> None:
    """Below a file, because nothing is closed to root."""
    (case.folder / "file").touch()
    advice = "give readable files, and a writable --output_dir and --ckpt_dir"
    below = str(case.folder / "file" / "folder")
    for run_id, word in (("training", "--ckpt_dir"), ("training", "--output_dir"), ("inference", "--output_dir")):
        arguments = [word, below, *(["--ckpt_dir", str(trained)] if run_id == "inference" else [])]
        code, output = case.run(run_id, *arguments)
        assert code == 1
        last = output.rstrip().splitlines()[-1].replace(str(case.folder), "")
        assert re.fullmatch(rf"semi-moe: Not a directory: '/file/folder[^']*'; {advice}", last)
        assert "epoch 1/1" not in output
    assert case.written() == []


# The real command line


def test_a_fresh_process_says_it_too(case: Case) -> None:
    completed = case.bundle.start("run", "traning", "--config_file", case.bundle.configs("train.json"), fails=True)
    assert completed.returncode == 1
    assert "Traceback (most recent call last)" in completed.stderr
    assert completed.stderr.splitlines()[-1] == (
        "semi-moe: the configs define no run of this name; give another name, or --config_file "
        "(run ID 'traning' doesn't exist in the config file.)"
    )


def test_a_run_that_is_stopped_says_how_to_go_on(case: Case) -> None:
    command = case.bundle.command(
        *("run", "training", "--config_file", case.bundle.configs("train.json"), "--max_epochs", "1000"),
        *("--dataset_dir", str(case.data), "--output_dir", str(case.folder / "output")),
        *("--ckpt_dir", str(case.folder / "models"), "--train#early_stop#patience", "2000"),
    )
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    process = subprocess.Popen(
        command, cwd=case.bundle.root, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    resume = case.folder / "models" / "checkpoints" / "resume.pt"
    for _ in range(600):
        if resume.exists() or process.poll() is not None:
            break
        time.sleep(0.1)
    output = None
    while output is None:  # Python may be where it cannot stop, as when it clears up; a person asks again
        os.killpg(process.pid, signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            output = process.communicate(timeout=20)[1]
    assert process.returncode == -signal.SIGINT, output  # a shell shows 130
    assert (
        output.splitlines()[-1]
        == "semi-moe: stopped; continue a training with --resume True, an inference with the same command"
    )
    assert torch.load(resume, weights_only=True)["trainer"]["epoch"] >= 1


def test_the_tests_disk_is_that_of_a_person() -> None:
    """A limit that is left behind would fail other tests in strange ways."""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
