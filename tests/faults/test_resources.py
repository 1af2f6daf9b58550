"""Whole runs over damaged files, over many tiles, and on full disks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.faults.counts import add_counts
from tests.faults.damage import all_cases
from tests.faults.readers import read_all
from tests.faults.test_kills import content, intact

pytestmark = pytest.mark.slow

SAMPLER = '''
import os

from ignite.engine import Events


class Sampler:
    """Handler that writes resident memory (KiB) and the number of open files after each image."""

    def attach(self, engine):
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self):
        with open("/proc/self/status") as status:
            (memory,) = [line.split()[1] for line in status if line.startswith("VmRSS")]
        with open("samples.txt", "a") as file:
            print(memory, len(os.listdir("/proc/self/fd")), file=file)
'''


@pytest.fixture(scope="module")
def bundle_copy(copy_bundle: Callable[..., Any]) -> Any:
    """A bundle whose network predicts gland where green is darker than its mean."""
    bundle = copy_bundle("resources")
    bundle.predict_by_color()
    return bundle


def infer(
    bundle_copy: Any, folder: Path, output: Path, *overlays: str, limit: int = 0, more: tuple[str, ...] = ()
) -> Any:
    arguments = ["run", "inference", "--config_file", bundle_copy.configs("inference.json", *overlays)]
    arguments += ["--dataset_dir", str(folder), "--output_dir", str(output), *more]
    return bundle_copy.python("-m", "monai.bundle", *arguments, cwd=bundle_copy.root, limit=limit, merged=True)


def tiles(folder: Path, count: int) -> Path:
    folder.mkdir()
    for number in range(count):
        pixels = np.full((200, 200, 3), 230, np.uint8)
        pixels[10 : 100 + number % 90, 5:150] = (120, 40, 120)
        Image.fromarray(pixels).save(folder / f"tile_{number}.png")
    return folder


@pytest.mark.parametrize(
    ("kind", "overlay"), [("pictures", "inference/geojson.yaml"), ("slides", "inference/slides.yaml")]
)
def test_one_run_over_all_damaged_files(
    kind: str, overlay: str, bundle_copy: Any, load_program: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    """The run names each file that cannot be read, and processes all others."""
    cases = [case for case in all_cases() if case.kind == kind]
    folder = tmp_path / "input"
    folder.mkdir()
    names = [case.name.replace(".", f"_{number}.", 1) for number, case in enumerate(cases)]
    for name, case in zip(names, cases, strict=True):
        (folder / name).write_bytes(case.content)
    completed = infer(bundle_copy, folder, tmp_path / "out", overlay, more=("--mpp", "0.5"))
    last = completed.stdout.rstrip().splitlines()[-1]
    assert completed.returncode == 1, completed.stdout[-2000:]
    assert last.startswith("semi-moe: ")
    assert f"of {len(cases)} files were skipped" in last
    summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    failed = {Path(entry["image"]).name: entry["reason"] for entry in summary["failed"]}
    assert summary["written"] + len(failed) == len(cases)
    assert all(name in reason and "\n" not in reason for name, reason in failed.items())
    assert summary["written"] >= len(cases) // 10
    intact(tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.partial*"))
    (tmp_path / "read").mkdir()
    outcomes = read_all(cases, tmp_path / "read", load_program("check_config"))
    unreadable = {name for name, item in zip(names, outcomes, strict=True) if item.ended == "sentence"}
    assert failed.keys() <= unreadable, "what can be read is predicted"
    if kind == "pictures":  # of slides, levels and tiles without tissue are not read
        assert failed.keys() == unreadable
    add_counts(f"one run over damaged {kind}", len(cases), result=summary["written"], sentence=len(failed))


def test_memory_and_open_files_stay_the_same_over_200_tiles(bundle_copy: Any, tmp_path: Path) -> None:
    (bundle_copy.root / "sampler.py").write_text(SAMPLER)
    overlay = {"+handlers": [{"_target_": "sampler.Sampler"}]}
    (bundle_copy.root / "configs" / "sampler.json").write_text(json.dumps(overlay))
    (bundle_copy.root / "samples.txt").unlink(missing_ok=True)
    completed = infer(
        bundle_copy, tiles(tmp_path / "input", 200), tmp_path / "out", "inference/geojson.yaml", "sampler.json"
    )
    assert completed.returncode == 0, completed.stdout
    samples = np.loadtxt(bundle_copy.root / "samples.txt")
    assert len(samples) == 200
    early, late = samples[20:60].mean(axis=0), samples[160:].mean(axis=0)
    assert late[0] - early[0] < 30 * 1024, "KiB"
    assert late[1] <= early[1] + 1
    add_counts("run over 200 tiles with flat memory and open files", 1, result=1)


def test_folders_without_permission_to_write(
    copy_bundle: Callable[..., Any], python: Any, repository_root: Path, tmp_path: Path
) -> None:
    """For each folder that a run or a program writes to: nothing changes, and the error names the folder."""
    bundle_copy = copy_bundle("closed")
    bundle_copy.run(
        "run", "training", "--config_file", bundle_copy.configs("train.json"), "--ckpt_dir", str(tmp_path / "trained")
    )
    closed, count = tmp_path / "closed", 0
    commands: dict[str, tuple[list[str], dict[str, list[str]]]] = {
        "training": (["train.json"], {"--output_dir": [""], "--ckpt_dir": ["", "checkpoints"]}),
        "evaluating": (["train.json", "evaluate.json"], {"--output_dir": ["", "masks"]}),
        "inference": (["inference.json"], {"--output_dir": [""]}),
    }
    cases = []
    for run_id, (configs, paths) in commands.items():
        model = [] if run_id == "training" else ["--ckpt_dir", str(tmp_path / "trained")]
        arguments = ["-m", "monai.bundle", "run", run_id, "--config_file", bundle_copy.configs(*configs), *model]
        cases += [([*arguments, option, str(closed)], path) for option in paths for path in paths[option]]
    scripts, data = repository_root / "scripts", bundle_copy.root / "dataset"
    pairs = ["--images", str(data / "image"), "--masks", str(data / "label")]
    model = ["--ckpt_dir", str(tmp_path / "trained")]
    tiny = ["--config_file", bundle_copy.configs("train.json")]
    cases += [([str(scripts / "prepare_data.py"), "folder", *pairs, "--output", str(closed / "new")], "")]
    cases += [([str(scripts / "export_onnx.py"), *model, "--output", str(closed / "model.onnx")], "")]
    cases += [([str(scripts / "export_bundle.py"), *model, *tiny, "--output", str(closed / "new")], "")]
    arguments = ["--methods", "supervised", "--labels", "50", "--seeds", "0", "--budget", "4steps"]
    arguments += ["--dataset_dir", str(data), "--output", str(closed)]
    cases += [([str(scripts / "benchmark.py"), *arguments], "")]
    for arguments, path in cases:
        (closed / path).mkdir(parents=True)
        (closed / path).chmod(0o555)
        completed = python(*arguments, cwd=bundle_copy.root, merged=True, keeps_modes=True)
        last = completed.stdout.rstrip().splitlines()[-1]
        assert completed.returncode != 0, arguments
        assert "Permission denied" in last, (arguments, last)
        assert str(closed) in last, (arguments, last)
        assert ".partial" not in last, (arguments, last)
        assert list((closed / path).iterdir()) == []
        shutil.rmtree(closed)
        count += 1
    add_counts("folders without permission to write", count, sentence=count)


def test_a_full_disk_at_any_moment(bundle_copy: Any, tmp_path: Path) -> None:
    """No file may be larger than a limit, as on a full disk; the next run, without a limit, completes the results."""
    folder = tiles(tmp_path / "input", 6)
    pixels = np.full((400, 500, 3), 243, np.uint8)
    pixels[50:350:3, 60:400:2] = (150, 60, 150)
    tags: dict[str, Any] = {"resolution": (2e4, 2e4), "resolutionunit": "CENTIMETER", "tile": (64, 64)}
    (tmp_path / "slides").mkdir()
    tifffile.imwrite(tmp_path / "slides" / "one.tif", pixels, photometric="rgb", compression="zlib", **tags)
    cases = [(folder, ("inference/geojson.yaml", "inference/contours.yaml"))]
    cases += [(tmp_path / "slides", ("inference/slides.yaml",))]
    count = 0
    for index, (source, overlays) in enumerate(cases):
        whole = infer(bundle_copy, source, tmp_path / f"whole_{index}", *overlays)
        assert whole.returncode == 0, whole.stdout
        expected = content(tmp_path / f"whole_{index}")
        largest = max(path.stat().st_size for path in (tmp_path / f"whole_{index}").iterdir())
        for limit in (1, 100, 300, 600, 1000, largest // 2, largest - 1):
            output = tmp_path / f"out_{index}_{limit}"
            completed = infer(bundle_copy, source, output, *overlays, limit=limit)
            last = completed.stdout.rstrip().splitlines()[-1]
            assert completed.returncode == 1, (limit, completed.stdout)
            assert last.startswith("semi-moe: File too large: "), (limit, last)
            assert "; free disk space, or give another --output_dir or --ckpt_dir" in last
            if output.exists():
                intact(output)
                assert not list(output.rglob(".*.partial*"))
                assert content(output).items() <= expected.items()
            repeated = infer(bundle_copy, source, output, *overlays)
            assert repeated.returncode == 0, (limit, repeated.stdout)
            assert content(output) == expected
            count += 1
    add_counts("full disks", count, sentence=count)


def test_a_full_disk_during_evaluation_preparation_and_exports(
    copy_bundle: Callable[..., Any], repository_root: Path, tmp_path: Path
) -> None:
    bundle_copy, scripts = copy_bundle("full_disk"), repository_root / "scripts"
    model = ["--ckpt_dir", str(tmp_path / "trained")]
    bundle_copy.run("run", "training", "--config_file", bundle_copy.configs("train.json"), *model)
    data = bundle_copy.root / "dataset"
    evaluating = ["-m", "monai.bundle", "run", "evaluating", *model, "--output_dir", "OUTPUT", "--config_file"]
    evaluating += [bundle_copy.configs("train.json", "evaluate.json")]
    prepare = [str(scripts / "prepare_data.py"), "folder", "--mpp", "0.5", "--output", "OUTPUT"]
    prepare += ["--images", str(data / "image"), "--masks", str(data / "label")]
    onnx = [str(scripts / "export_onnx.py"), *model, "--output", "OUTPUT"]
    bundle = [str(scripts / "export_bundle.py"), *model, "--output", "OUTPUT"]
    bundle += ["--config_file", bundle_copy.configs("train.json")]
    count = 0
    for command, limits in (
        (evaluating, (1, 300, 3000)),
        (prepare, (1, 300, 6000)),
        (onnx, (1, 5000)),
        (bundle, (1, 5000)),
    ):
        for limit in limits:
            output = tmp_path / f"out_{count}"
            arguments = [str(output) if word == "OUTPUT" else word for word in command]
            completed = bundle_copy.python(*arguments, cwd=bundle_copy.root, limit=limit, merged=True)
            last = completed.stdout.rstrip().splitlines()[-1]
            assert completed.returncode == 1, (limit, completed.stdout)
            assert "File too large" in last, (limit, last)
            assert "free disk space" in last, (limit, last)
            assert not list(tmp_path.rglob(".*.partial*"))
            if command is evaluating:
                intact(output)
            else:
                assert not output.exists(), "the output appears when it is complete"
            count += 1
    add_counts("full disks during evaluation, preparation and exports", count, sentence=count)
