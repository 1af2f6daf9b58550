"""Inference over folders: damaged files, a stopped run that is continued, several processes, a Ray cluster."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nnodes=1", "--nproc_per_node=2")


@pytest.fixture(scope="module")
def served(copy_bundle) -> Any:
    """A bundle whose network predicts gland where green is darker than its mean."""
    bundle_copy = copy_bundle("served", data=False)
    bundle_copy.predict_by_color()
    return bundle_copy


@pytest.fixture
def folder(tmp_path) -> Path:
    """Five pictures, half dark, and two files that are not pictures."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(5):
        pixels = np.full((30, 40, 3), 230, np.uint8)
        pixels[:, : 8 + number] = (120, 40, 120)
        Image.fromarray(pixels).save(folder / f"tile_{number}.png")
    data = (folder / "tile_0.png").read_bytes()
    (folder / "cut.png").write_bytes(data[:60])
    (folder / "words.jpg").write_text("no picture")
    return folder


def infer(served, folder, output, *more, launcher=(), fails=False):
    arguments = ["run", "inference", "--config_file", served.configs("inference.json"), "--dataset_dir", str(folder)]
    return served.run(*arguments, "--output_dir", str(output), *more, launcher=launcher, fails=fails)


def dark(output: Path) -> dict[str, int]:
    """Return the gland columns of each picture."""
    return {
        path.name.removesuffix("_mask.png"): int((np.asarray(Image.open(path)) > 0).any(axis=0).sum())
        for path in sorted(output.glob("*_mask.png"))
    }


def test_broken_files_are_named_and_the_others_done(served, folder, tmp_path):
    output = infer(served, folder, tmp_path / "out", fails=True).stderr.splitlines()
    assert output[-1].startswith("semi-moe: 2 of 7 files were skipped: ")
    for name in ("cut.png", "words.jpg"):
        assert str(folder / name) in output[-1]
    assert dark(tmp_path / "out") == {f"tile_{number}": 8 + number for number in range(5)}
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["images"], summary["written"], len(summary["failed"])) == (7, 5, 2)

    (folder / "cut.png").unlink()
    (folder / "words.jpg").unlink()
    (tmp_path / "out" / "tile_3_mask.png").unlink()
    before = (tmp_path / "out" / "tile_0_mask.png").stat().st_mtime_ns
    output = infer(served, folder, tmp_path / "out").stderr
    assert "4 of 5 files are already done" in output
    assert dark(tmp_path / "out") == {f"tile_{number}": 8 + number for number in range(5)}
    assert (tmp_path / "out" / "tile_0_mask.png").stat().st_mtime_ns == before
    assert "all images are done" in infer(served, folder, tmp_path / "out").stderr
    last = infer(served, folder, tmp_path / "out", "--mpp", "0.5", fails=True).stderr.splitlines()[-1]
    assert "holds results of another inference (different mpp)" in last


def test_two_processes_share_a_folder(served, folder, tmp_path):
    (folder / "words.jpg").unlink()
    output = infer(served, folder, tmp_path / "out", launcher=TORCHRUN, fails=True).stderr
    assert "1 of 6 files were skipped" in output
    assert dark(tmp_path / "out") == {f"tile_{number}": 8 + number for number in range(5)}
    shares = []
    for rank in range(2):
        lines = (tmp_path / "out" / f"journal_{rank}.jsonl").read_text().splitlines()
        shares.append({Path(json.loads(line)["image"]).stem for line in lines if '"image"' in line})
    assert sorted(map(len, shares)) == [2, 3]
    assert not shares[0] & shares[1]
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["images"], summary["written"], summary["processes"]) == (6, 5, 2)
    assert [Path(entry["image"]).name for entry in summary["failed"]] == ["cut.png"]

    (folder / "cut.png").unlink()
    (tmp_path / "out" / "tile_2_mask.png").unlink()
    infer(served, folder, tmp_path / "out", launcher=TORCHRUN)  # one of them has nothing to do, and does not hang
    assert dark(tmp_path / "out")["tile_2"] == 10


def test_the_example_for_python_runs_from_anywhere(served, folder, tmp_path, repository_root, python):
    """The first block of docs/python.md with its placeholders replaced."""
    text = (repository_root / "docs" / "python.md").read_text(encoding="utf-8")
    code = text.split("```python\n")[1].split("```")[0]
    for name in ("cut.png", "words.jpg"):
        (folder / name).unlink()
    changes = {
        "FOLDER_OF_THE_BUNDLE": served.root,
        "FOLDER_OF_TILES": folder,
        "FOLDER_FOR_MASKS": tmp_path / "out",
        "TILE.png": folder / "tile_4.png",
    }
    for word, path in changes.items():
        assert word in code
        code = code.replace(word, str(path))
    check = f"\nimport numpy\nnumpy.save({str(tmp_path / 'mask.npy')!r}, mask)"
    completed = python("-c", code + check, cwd=tmp_path)
    assert completed.returncode == 0, completed.stderr
    assert len([line for line in code.splitlines() if line.strip()]) <= 12
    mask = np.load(tmp_path / "mask.npy")
    assert mask.shape == (30, 40)
    assert np.array_equal(mask.any(axis=0), np.arange(40) < 12)
    assert dark(tmp_path / "out") == {f"tile_{number}": 8 + number for number in range(5)}


HALF_MICRON: dict[str, Any] = {"resolution": (2e4, 2e4), "resolutionunit": "CENTIMETER"}


def write_slide(path: Path, times: int = 1, **tags: Any) -> None:
    """Write a slide of 200 x 300 px with one region of tissue, or such fields one below the other."""
    pixels = np.full((200, 300, 3), 243, np.uint8)
    pixels[50:150, 60:200] = (150, 60, 150)
    pixels = np.concatenate([pixels] * times)
    tifffile.imwrite(path, pixels, tile=(64, 64), photometric="rgb", compression="zlib", **tags)


def slide_arguments(served: Any, folder: Path, output: Path, **settings: Any) -> list[str]:
    fine = {"tissue#resolution": 8.0, "tissue#margin": 4.0, "tissue#least": 100.0, "min_area": 0.0}
    path = folder.with_name("fine.json")
    path.write_text(json.dumps(fine | settings))
    files = [served.root / "configs" / name for name in ("inference.json", "inference/slides.yaml")]
    arguments = ["run", "inference", "--config_file", str([*map(str, files), str(path)])]
    return [*arguments, "--dataset_dir", str(folder), "--output_dir", str(output)]


def test_slides_by_the_same_command(served, tmp_path):
    """A valid slide, a slide without readable pixels, and a file that is no slide, in two processes; then again."""
    folder = tmp_path / "slides"
    folder.mkdir()
    write_slide(folder / "first.tif", **HALF_MICRON)
    write_slide(folder / "silent.tif")
    (folder / "text.svs").write_text("no slide")
    arguments = slide_arguments(served, folder, tmp_path / "out")
    output = served.run(*arguments, launcher=TORCHRUN, fails=True).stderr
    assert "2 of 3 files were skipped" in output
    assert "silent.tif has no pixel size in its metadata; give --mpp" in output
    with tifffile.TiffFile(tmp_path / "out" / "first_mask.ome.tif") as file:
        mask = file.series[0].levels[0].asarray()
    expected = np.zeros((200, 300), np.uint8)
    expected[50:150, 60:200] = 255
    assert (mask != expected).mean() < 0.02
    features = json.loads((tmp_path / "out" / "first.geojson").read_text())["features"]
    assert len(features) == 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if "journal" not in path.name) == [
        "first.geojson",
        "first_mask.ome.tif",
        "summary.json",
    ]
    for name in ("silent.tif", "text.svs"):
        (folder / name).unlink()
    assert "all images are done" in served.run(*arguments).stderr


def process_that_writes(path: Path) -> int | None:
    """The process that has the temporary file of a path open."""
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):  # the process or its file is closed in the meantime
            if re.fullmatch(rf"\.{re.escape(path.name)}\.\w+\.partial\S*", os.path.basename(os.readlink(link))):
                return int(link.parts[2])
    return None


def slide_results(folder: Path) -> dict[str, Any]:
    """Pixels of masks, text of polygons, and the summary without times."""
    result: dict[str, Any] = {path.name: path.read_text() for path in folder.glob("*.geojson")}
    result |= {path.name: tifffile.imread(path).tobytes() for path in folder.glob("*.tif")}
    summary = json.loads((folder / "summary.json").read_text())
    return result | {name: summary[name] for name in ("images", "failed", "settings", "processes")}


@pytest.mark.slow
def test_slides_of_a_lost_worker_are_predicted_again(served, ray_cluster, tmp_path):
    """A run in this process for one slide, then one on Ray, whose worker is killed in the middle of a long slide."""
    folder, output = tmp_path / "slides", tmp_path / "out"
    folder.mkdir()
    write_slide(folder / "first.tif", **HALF_MICRON)
    arguments = slide_arguments(served, folder, output, block=16)
    served.run(*arguments)
    names = ["first", "long", "second", "third"]
    for times, name in zip((8, 1, 1), names[1:], strict=True):
        write_slide(folder / f"{name}.tif", times, **HALF_MICRON)
    (folder / "text.svs").write_text("no slide")
    before = (output / "first.geojson").stat().st_mtime_ns
    on_ray = [*arguments, "--engine", "ray", "--address", ray_cluster.address]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    process = subprocess.Popen(served.command(*on_ray), cwd=served.root, **pipes)
    until = time.monotonic() + 300  # on a busy machine, the imports of driver and workers take a minute each
    try:
        while (worker := process_that_writes(output / "long.geojson")) is None:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < until
            time.sleep(0.02)
        assert worker != process.pid
        os.kill(worker, signal.SIGKILL)
        printed, _ = process.communicate(timeout=300)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 1, printed
    assert f"{folder / 'long.tif'} lost its worker (WorkerCrashedError) and begins again" in printed
    assert "4 slides on Ray, 2 at once" in printed
    assert "semi-moe: 1 of 5 files were skipped: " in printed.splitlines()[-1]
    assert "text.svs" in printed.splitlines()[-1]
    assert (output / "first.geojson").stat().st_mtime_ns == before
    records = [json.loads(line) for line in (output / "journal_0.jsonl").read_text().splitlines()]
    done = Counter(Path(record["image"]).stem for record in records if "image" in record)
    assert done == dict.fromkeys(names, 1)
    begun = Counter(Path(record["begun"]).stem for record in records if record.get("files") and "begun" in record)
    assert begun == dict.fromkeys([*names, "text"], 1) | {"long": 2}
    local = slide_arguments(served, folder, tmp_path / "local", block=16)
    served.run(*local, fails=True)
    assert slide_results(output) == slide_results(tmp_path / "local")
    assert {path.name for path in output.iterdir()} == {path.name for path in (tmp_path / "local").iterdir()}
    (folder / "text.svs").unlink()
    assert "all images are done" in served.run(*arguments).stderr
    (output / "third.geojson").unlink()
    printed = served.start(*on_ray).stderr
    assert "3 of 4 files are already done" in printed
    assert "1 slides on Ray" in printed
    assert slide_results(output)["third.geojson"] == slide_results(tmp_path / "local")["third.geojson"]
