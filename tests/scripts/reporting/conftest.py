"""Synthetic cells in the format of the benchmark, and the data of their scores."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bundle.data import load_data_list


def cell_content(method: str, labels: str, seed: int, names: list[str], dataset_dir: Path) -> dict[str, Any]:
    """Return the content of ``cell.json``; more labels score better, and seeds differ a little."""
    generator = np.random.default_rng([seed, int(labels), len(method)])
    level = 0.7 + 0.001 * int(labels) + (0.05 if method == "semi_moe" else 0.0)
    dice = np.clip(level + generator.normal(0, 0.03, len(names)), 0, 1).tolist()
    epochs = [1, 2, 3, 4]
    curves: dict[str, list[float | None]] = {
        "epoch": [float(epoch) for epoch in epochs],
        "loss": [1.0 / epoch for epoch in epochs],
        "validation/pooled_dice": [None, level - 0.1, None, level],
    }
    if method == "semi_moe":
        for index, expert in enumerate(("seg", "sdf", "boundary")):
            curves[f"unlabeled/gate_seg/{expert}/mean"] = [(0.2, 0.3, 0.5)[index]] * 4
    return {
        "format": "semi_moe.cell/1",
        "name": f"{method}-{labels}-seed{seed}",
        **{"method": method, "labels": labels, "seed": seed, "protocol": "heldout", "data": "phantom", "size": "demo"},
        **{"data_list": "heldout_50_seed0.json", "dataset_dir": str(dataset_dir)},
        "counts": {"training": 4, "unlabeled": 4, "validation": 2, "test": len(names)},
        "config": {
            "files": ["configs/train.json", f"configs/methods/{method}.yaml", "configs/sizes/demo.yaml"],
            "overrides": {"seed": seed, "max_epochs": 4, "data_list": f"heldout_{labels}_seed{seed}.json"},
            "digest": f"{method}{labels}{seed}",
        },
        **{"commit": "0123456789abcdef", "dirty": False, "versions": {"torch": "2.13.0"}},
        **{"hardware": {"device": "cpu", "threads": 1}, "parameters": {"network": 1000, "training": 1006}},
        **{"steps": 100, "epochs": 4, "seconds": {"training": 60.0, "evaluation": 6.0}},
        "peak_memory": {"host_mib": 900.0, "device_mib": None},
        "selected": {"epoch": 4, "metric": "pooled_dice", "value": level},
        "metrics": {"pooled_dice": level, "mean_dice": float(np.mean(dice)), "object_hausdorff": 12.34},
        "per_image": {"image": names, "mean_dice": dice},
        "curves": curves,
        "calibration": {"confidence": [0.1, 0.5, 0.9], "share": [0.05, 0.4, 0.95], "count": [90, 0, 60]},
        "masks": "evaluation/masks",
        **{"started": "2026-01-01T00:00:00+00:00", "finished": "2026-01-01T00:02:00+00:00"},
    }


@pytest.fixture
def make_cells(phantom_dir: Path, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a benchmark folder: two methods, two shares of labels, two seeds, with masks."""

    def make(folder: str = "benchmark", methods: Sequence[str] = ("supervised", "semi_moe"), **changes: Any) -> Path:
        entries = load_data_list(phantom_dir, "heldout_50_seed0.json")["test"]
        names = [Path(entry["image"]).stem for entry in entries]
        for method in methods:
            for labels in ("10", "100"):
                for seed in (0, 1):
                    content = cell_content(method, labels, seed, names, phantom_dir) | changes
                    path = tmp_path / folder / "cells" / content["name"]
                    (path / "evaluation" / "masks").mkdir(parents=True)
                    for name, entry in zip(names, entries, strict=True):
                        with Image.open(entry["label"]) as label:
                            output = np.roll((np.asarray(label) > 0).astype(np.uint8) * 255, 2, axis=1)
                        Image.fromarray(output).save(path / "evaluation" / "masks" / f"{name}_mask.png")
                    (path / "cell.json").write_text(json.dumps(content), encoding="utf-8")
        return tmp_path / folder

    return make


@pytest.fixture
def edit_cell() -> Callable[..., None]:
    """Return a function that changes keys of a cell's file."""

    def edit(folder: Path, name: str, **changes: Any) -> None:
        file = folder / "cells" / name / "cell.json"
        file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | changes), encoding="utf-8")

    return edit
