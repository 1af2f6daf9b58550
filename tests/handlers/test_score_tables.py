"""Tables of an evaluation: one row per image, one column per metric."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.data import MetaTensor
from monai.engines import SupervisedEvaluator
from monai.handlers import IgniteMetricHandler, from_engine
from monai.metrics import DiceMetric

from bundle.handlers import ScoreTables
from bundle.metrics import Calibration, ObjectScores, PooledOverlap

PAIR = from_engine(["pred", "label"])


def records(*names: str) -> list[dict[str, Any]]:
    """Batches of one image; each gland is one column wider than the previous one."""
    result = []
    for number, name in enumerate(names, start=1):
        truth = torch.zeros(1, 1, 4, 5)
        truth[..., :number] = 1
        image = MetaTensor(torch.zeros(1, 1, 4, 5), meta={"filename_or_obj": [name]})
        image[..., :2] = 1
        result.append({"image": image, "label": truth})
    return result


def evaluated(folder: Path, metrics: dict[str, Any], names: tuple[str, ...], **settings: Any) -> Any:
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=records(*names),
        network=torch.nn.Identity(),
        postprocessing=lambda record: record,
        key_val_metric=metrics,
        val_handlers=[ScoreTables(folder, **settings)],
    )
    evaluator.run()
    return evaluator


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_each_image_has_its_row_and_each_metric_its_column(tmp_path: Path) -> None:
    metrics = {
        "mean_dice": IgniteMetricHandler(DiceMetric(False, num_classes=2, ignore_empty=False), output_transform=PAIR),
        "object_f1": ObjectScores("f1", output_transform=PAIR),
        "class_mean": PooledOverlap(include_background=True, output_transform=PAIR, save_details=True),
        "pooled_dice": PooledOverlap(output_transform=PAIR),
        "calibration_error": Calibration(2, output_transform=PAIR),
    }
    folder = tmp_path / "new"
    evaluator = evaluated(folder, metrics, ("/b/tile_3.png", "/a/tile.v2.nii.gz", "tile_1.tif"))
    table = rows(folder / "per_image.csv")
    assert list(table[0]) == ["image", "mean_dice", "object_f1", "class_mean_0", "class_mean_1"]
    assert [row["image"] for row in table] == ["tile.v2", "tile_1", "tile_3"]
    assert [float(row["mean_dice"]) for row in table] == pytest.approx([1, 4 / 5, 2 / 3])
    assert [float(row["object_f1"]) for row in table] == [1, 1, 1]
    assert [float(row["class_mean_0"]) for row in table] == pytest.approx([1, 4 / 5, 6 / 7])
    bins = rows(folder / "calibration_error.csv")
    assert [row["count"] for row in bins] == ["36", "24"]
    assert float(bins[1]["share"]) == pytest.approx(20 / 24)
    assert sorted(path.name for path in folder.iterdir()) == ["calibration_error.csv", "per_image.csv"]
    evaluator.run()
    assert rows(folder / "per_image.csv") == table, "a second run begins anew"


def test_names_of_files_and_cells_without_a_value(tmp_path: Path) -> None:
    metrics = {
        "dice": IgniteMetricHandler(DiceMetric(False, num_classes=2), output_transform=PAIR),
        "calibration": Calibration(3, output_transform=PAIR),
    }
    evaluator = evaluated(tmp_path, metrics, ("one.png",), tables={"calibration": "bins.csv"}, per_image="images.csv")
    assert [row["confidence"] for row in rows(tmp_path / "bins.csv")] == ["0", "", "1"]
    evaluator.state.metric_details["dice"] = torch.tensor([[math.nan]])
    handler = ScoreTables(tmp_path)
    handler._names = ["one"]
    handler._write(evaluator)
    assert rows(tmp_path / "per_image.csv") == [{"image": "one", "dice": ""}]


def test_values_that_fit_no_image_are_refused(tmp_path: Path) -> None:
    evaluator = evaluated(tmp_path, {"f1": ObjectScores("f1", output_transform=PAIR)}, ("one.png", "two.png"))
    before = (tmp_path / "per_image.csv").read_text()
    evaluator.state.metric_details["f1"] = torch.ones(3, 1)
    handler = ScoreTables(tmp_path)
    handler._names = ["one", "two"]
    with pytest.raises(ValueError, match="'f1' has values of 3 images, but there are 2"):
        handler._write(evaluator)
    assert (tmp_path / "per_image.csv").read_text() == before
