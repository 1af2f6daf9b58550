"""Slides as tasks of a Ray cluster, without Ray; with Ray: tests/test_inference.py."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from monai.bundle import ConfigParser

from bundle.engines import InferenceLog, cohort
from bundle.engines.ray_cluster import Cluster
from bundle.engines.slide_tasks import RaySlides, predict_slide, task_config
from bundle.types import FAILED, FILES, IMAGE
from tests.conftest import COLOR_RULE


class RayError(Exception):
    """As Ray has it; ``cause`` is the error of the task."""

    cause = ValueError("the network's output holds NaN")


class WorkerCrashedError(RayError):
    """A lost worker."""


class StandInRay:
    """Ray whose tasks end last in, first out; ``faults`` has the errors of a slide by its name."""

    def __init__(self, log: InferenceLog, faults: dict[str, list[type[Exception]]]) -> None:
        lost = dict.fromkeys(("NodeDiedError", "LocalRayletDiedError", "OutOfMemoryError"), WorkerCrashedError)
        self.exceptions = SimpleNamespace(RayError=RayError, WorkerCrashedError=WorkerCrashedError, **lost)
        self.cloudpickle = SimpleNamespace(register_pickle_by_value=lambda module: None)
        self.log, self.faults = log, faults
        self.started: list[str] = []
        self.most = 0
        self.ended = False

    def remote(self, **resources):
        return lambda function: SimpleNamespace(remote=self.submit)

    def submit(self, config, cpus, entry):
        journal = (self.log.folder / "journal_0.jsonl").read_text().splitlines()
        assert json.loads(journal[-1])["begun"] == entry[IMAGE]
        self.started.append(Path(entry[IMAGE]).stem)
        return (len(self.started), entry[IMAGE])

    def wait(self, running):
        self.most = max(self.most, len(running))
        return [max(running)], sorted(running)[:-1]

    def get(self, task):
        faults = self.faults.get(Path(task[1]).stem)
        if faults:
            raise faults.pop()
        return {IMAGE: task[1], FILES: []}

    def shutdown(self):
        self.ended = True


@pytest.fixture
def predicted(tmp_path):
    """Predict four slides of 1 to 4 bytes on two slots, with errors; return the stand-in and the results."""
    (tmp_path / "out").mkdir()
    entries = []
    for size, name in enumerate("abcd", start=1):
        (tmp_path / f"{name}.tif").write_bytes(bytes(size))
        entries.append({IMAGE: str(tmp_path / f"{name}.tif")})
    log = InferenceLog(tmp_path / "out", tmp_path / "model.pt", {})

    def predict(**faults: list[type[Exception]]) -> tuple[StandInRay, list[dict[str, Any]]]:
        ray = StandInRay(log, faults)
        slides = RaySlides(entries, log, {}, Cluster(ray, 2, 1, 0))
        assert len(slides) == 4
        results = []
        try:
            results += iter(slides)
        finally:
            assert ray.ended
        return ray, results

    return predict


def test_the_largest_slides_begin_first_and_slots_are_kept_busy(predicted):
    ray, results = predicted()
    assert ray.started == ["d", "c", "b", "a"]
    assert ray.most == 2
    assert [Path(record[IMAGE]).stem for record in results] == ["c", "b", "a", "d"]


def test_a_slide_of_a_lost_worker_begins_again_and_is_skipped_at_last(predicted, caplog):
    ray, results = predicted(c=[WorkerCrashedError], b=[WorkerCrashedError] * 5)
    assert sorted(ray.started) == sorted("ad" + 2 * "c" + 4 * "b")
    assert sum("lost its worker" in record.message for record in caplog.records) == 4
    by_name = {Path(record[IMAGE]).stem: record for record in results}
    assert sorted(by_name) == list("abcd")
    assert by_name["b"][FAILED].endswith("b.tif lost its worker 4 times (WorkerCrashedError); try again")
    assert [name for name, record in by_name.items() if FAILED in record] == ["b"]


def test_another_error_of_a_task_ends_the_run_as_it_does_without_ray(predicted):
    with pytest.raises(ValueError, match="output holds NaN"):
        predicted(d=[RayError])


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"engine": "dask"}, "engine is 'dask'; choose from local, ray"),
        ({"engine": "ray", "address": "head"}, "--address head must be auto or HOST:PORT"),
    ],
)
def test_a_wrong_engine_is_refused(tmp_path, settings, fault):
    log = InferenceLog(tmp_path, tmp_path / "model.pt", {})
    with pytest.raises(ValueError, match=fault):
        cohort([{IMAGE: "a.tif"}], print, log, **settings)


def test_ray_is_refused_in_one_of_several_processes(tmp_path, monkeypatch):
    monkeypatch.setattr("ignite.distributed.get_world_size", lambda: 2)
    with pytest.raises(ValueError, match="start one process, without torchrun"):
        cohort([], print, InferenceLog(tmp_path, tmp_path / "model.pt", {}), engine="ray")


@pytest.fixture
def parser(repository_root, tmp_path, monkeypatch) -> ConfigParser:
    """The configs of slides with relative folders, and a slide."""
    monkeypatch.chdir(tmp_path)
    pixels = np.full((90, 120, 3), 243, np.uint8)
    pixels[20:60, 30:90] = (150, 60, 150)
    (tmp_path / "slides").mkdir()
    tifffile.imwrite("slides/a.tif", pixels, tile=(64, 64), photometric="rgb")
    result = ConfigParser()
    files = [repository_root / "configs" / name for name in ("inference.json", "inference/slides.yaml")]
    result.read_config([str(file) for file in files])
    result.update({"bundle_root": str(repository_root), "dataset_dir": "slides", "output_dir": "out", "mpp": 1.0})
    result.update({"predict_glass": True, "network_def": COLOR_RULE, "engine": "ray", "num_workers": 0})
    result["handlers"] = ["@progress", "@inference_log"]  # without weights
    return result


def test_a_task_needs_no_working_directory_and_keeps_no_journal(parser, tmp_path, monkeypatch):
    config = task_config(parser, "out")
    assert parser["dataset_dir"] == "slides"
    assert {key: config[key] for key in ("dataset_dir", "output_dir")} == {
        "dataset_dir": str(tmp_path / "slides"),
        "output_dir": str(tmp_path / "out"),
    }
    assert config["ckpt_dir"] == parser["ckpt_dir"]  # an expression of bundle_root
    entry = {IMAGE: str(tmp_path / "slides" / "a.tif")}
    with pytest.raises(ValueError, match=r"output_dir \S+out does not exist on \S+; give a folder that all machines"):
        predict_slide(config, 1, entry)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setattr(sys, "path", list(sys.path))
    record = predict_slide(config, torch.get_num_threads(), entry)
    assert record[IMAGE] == entry[IMAGE]
    assert sorted(Path(file).name for file in record[FILES]) == ["a.geojson", "a_mask.ome.tif"]
    assert all(Path(file).is_file() for file in record[FILES])
    assert len(list((tmp_path / "out").iterdir())) == 2
    assert record["facts"]["glands"] == 1
