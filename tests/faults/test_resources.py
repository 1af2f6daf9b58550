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
def made(copy_bundle: Callable[..., Any]) -> Any:
    """A bundle whose network calls gland what is darker than the mean in green."""
    bundle = copy_bundle("resources")
    bundle.predict_by_color()
    return bundle


def infer(made: Any, folder: Path, output: Path, *overlays: str, limit: int = 0, more: tuple[str, ...] = ()) -> Any:
    words = ["run", "inference", "--config_file", made.configs("inference.json", *overlays)]
    words += ["--dataset_dir", str(folder), "--output_dir", str(output), *more]
    return made.python("-m", "monai.bundle", *words, cwd=made.root, limit=limit, merged=True)


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
    kind: str, overlay: str, made: Any, load_program: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    """It names each file that cannot be read, and does all others."""
    cases = [case for case in all_cases() if case.kind == kind]
    folder = tmp_path / "input"
    folder.mkdir()
    names = [case.name.replace(".", f"_{number}.", 1) for number, case in enumerate(cases)]
    for name, case in zip(names, cases, strict=True):
        (folder / name).write_bytes(case.content)
    done = infer(made, folder, tmp_path / "out", overlay, more=("--mpp", "0.5"))
    last = done.stdout.rstrip().splitlines()[-1]
    assert done.returncode == 1, done.stdout[-2000:]
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
    unreadable = {name for name, one in zip(names, outcomes, strict=True) if one.ended == "sentence"}
    assert failed.keys() <= unreadable, "what can be read is predicted"
    if kind == "pictures":  # of slides, levels and tiles without tissue are not read
        assert failed.keys() == unreadable
    add_counts(f"one run over damaged {kind}", len(cases), result=summary["written"], sentence=len(failed))


def test_memory_and_open_files_stay_the_same_over_200_tiles(made: Any, tmp_path: Path) -> None:
    (made.root / "sampler.py").write_text(SAMPLER)
    overlay = {"+handlers": [{"_target_": "sampler.Sampler"}]}
    (made.root / "configs" / "sampler.json").write_text(json.dumps(overlay))
    (made.root / "samples.txt").unlink(missing_ok=True)
    done = infer(made, tiles(tmp_path / "input", 200), tmp_path / "out", "inference/geojson.yaml", "sampler.json")
    assert done.returncode == 0, done.stdout
    samples = np.loadtxt(made.root / "samples.txt")
    assert len(samples) == 200
    early, late = samples[20:60].mean(axis=0), samples[160:].mean(axis=0)
    assert late[0] - early[0] < 30 * 1024, "KiB"
    assert late[1] <= early[1] + 1
    add_counts("run over 200 tiles with flat memory and open files", 1, result=1)


def test_folders_without_permission_to_write(
    copy_bundle: Callable[..., Any], python: Any, repository_root: Path, tmp_path: Path
) -> None:
    """At each place where a run or a program writes; nothing changes, and the sentence names the place."""
    made = copy_bundle("closed")
    made.run("run", "training", "--config_file", made.configs("train.json"), "--ckpt_dir", str(tmp_path / "trained"))
    closed, count = tmp_path / "closed", 0
    commands: dict[str, tuple[list[str], dict[str, list[str]]]] = {
        "training": (["train.json"], {"--output_dir": [""], "--ckpt_dir": ["", "checkpoints"]}),
        "evaluating": (["train.json", "evaluate.json"], {"--output_dir": ["", "masks"]}),
        "inference": (["inference.json"], {"--output_dir": [""]}),
    }
    cases = []
    for run_id, (configs, places) in commands.items():
        model = [] if run_id == "training" else ["--ckpt_dir", str(tmp_path / "trained")]
        words = ["-m", "monai.bundle", "run", run_id, "--config_file", made.configs(*configs), *model]
        cases += [([*words, option, str(closed)], place) for option in places for place in places[option]]
    scripts, data = repository_root / "scripts", made.root / "dataset"
    pairs = ["--images", str(data / "image"), "--masks", str(data / "label")]
    model = ["--ckpt_dir", str(tmp_path / "trained")]
    tiny = ["--config_file", made.configs("train.json")]
    cases += [([str(scripts / "prepare_data.py"), "folder", *pairs, "--output", str(closed / "new")], "")]
    cases += [([str(scripts / "export_onnx.py"), *model, "--output", str(closed / "model.onnx")], "")]
    cases += [([str(scripts / "export_bundle.py"), *model, *tiny, "--output", str(closed / "new")], "")]
    words = ["--methods", "supervised", "--labels", "50", "--seeds", "0", "--budget", "4steps"]
    words += ["--dataset_dir", str(data), "--output", str(closed)]
    cases += [([str(scripts / "benchmark.py"), *words], "")]
    for words, place in cases:
        (closed / place).mkdir(parents=True)
        (closed / place).chmod(0o555)
        done = python(*words, cwd=made.root, merged=True, keeps_modes=True)
        last = done.stdout.rstrip().splitlines()[-1]
        assert done.returncode != 0, words
        assert "Permission denied" in last, (words, last)
        assert str(closed) in last, (words, last)
        assert ".partial" not in last, (words, last)
        assert list((closed / place).iterdir()) == []
        shutil.rmtree(closed)
        count += 1
    add_counts("folders without permission to write", count, sentence=count)


def test_a_full_disk_at_any_moment(made: Any, tmp_path: Path) -> None:
    """No file may be larger than a limit, as on a full disk; the next run, without a limit, completes the results."""
    folder = tiles(tmp_path / "input", 6)
    pixels = np.full((400, 500, 3), 243, np.uint8)
    pixels[50:350:3, 60:400:2] = (150, 60, 150)
    told: dict[str, Any] = {"resolution": (2e4, 2e4), "resolutionunit": "CENTIMETER", "tile": (64, 64)}
    (tmp_path / "slides").mkdir()
    tifffile.imwrite(tmp_path / "slides" / "one.tif", pixels, photometric="rgb", compression="zlib", **told)
    cases = [(folder, ("inference/geojson.yaml", "inference/contours.yaml"))]
    cases += [(tmp_path / "slides", ("inference/slides.yaml",))]
    count = 0
    for place, (source, overlays) in enumerate(cases):
        whole = infer(made, source, tmp_path / f"whole_{place}", *overlays)
        assert whole.returncode == 0, whole.stdout
        expected = content(tmp_path / f"whole_{place}")
        largest = max(path.stat().st_size for path in (tmp_path / f"whole_{place}").iterdir())
        for limit in (1, 100, 300, 600, 1000, largest // 2, largest - 1):
            output = tmp_path / f"out_{place}_{limit}"
            done = infer(made, source, output, *overlays, limit=limit)
            last = done.stdout.rstrip().splitlines()[-1]
            assert done.returncode == 1, (limit, done.stdout)
            assert last.startswith("semi-moe: File too large: "), (limit, last)
            assert "; free disk space, or give another --output_dir or --ckpt_dir" in last
            if output.exists():
                intact(output)
                assert not list(output.rglob(".*.partial*"))
                assert content(output).items() <= expected.items()
            again = infer(made, source, output, *overlays)
            assert again.returncode == 0, (limit, again.stdout)
            assert content(output) == expected
            count += 1
    add_counts("full disks", count, sentence=count)


def test_a_full_disk_during_an_evaluation_and_a_preparation(
    copy_bundle: Callable[..., Any], repository_root: Path, tmp_path: Path
) -> None:
    made = copy_bundle("full_disk")
    made.run("run", "training", "--config_file", made.configs("train.json"), "--ckpt_dir", str(tmp_path / "trained"))
    data = made.root / "dataset"
    evaluating = ["-m", "monai.bundle", "run", "evaluating", "--ckpt_dir", str(tmp_path / "trained")]
    evaluating += ["--config_file", made.configs("train.json", "evaluate.json")]
    prepare = [str(repository_root / "scripts" / "prepare_data.py"), "folder", "--mpp", "0.5"]
    prepare += ["--images", str(data / "image"), "--masks", str(data / "label"), "--output"]
    count = 0
    for words, limits in (([*evaluating, "--output_dir"], (1, 300, 3000)), (prepare, (1, 300, 6000))):
        for limit in limits:
            output = tmp_path / f"out_{count}"
            done = made.python(*words, str(output), cwd=made.root, limit=limit, merged=True)
            last = done.stdout.rstrip().splitlines()[-1]
            assert done.returncode == 1, (limit, done.stdout)
            assert "File too large" in last, (limit, last)
            assert "free disk space" in last, (limit, last)
            assert not list(tmp_path.rglob(".*.partial*"))
            if words[0] == "-m":
                intact(output)
            else:
                assert not output.exists(), "a data folder appears when it is complete"
            count += 1
    add_counts("full disks during evaluation and preparation", count, sentence=count)
