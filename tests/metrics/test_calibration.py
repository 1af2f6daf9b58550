"""Calibration error, compared with values computed by hand and with MONAI where it is exact."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser
from monai.engines import SupervisedEvaluator
from monai.metrics import CalibrationErrorMetric

from bundle.metrics import CalibrationMetric


def calibrated(probability: Any, truth: Any, bins: int = 15) -> CalibrationMetric:
    metric = CalibrationMetric(bins)
    metric(probability, truth)
    return metric


def test_by_hand() -> None:
    """Two bins: three pixels with 0, 0.2 and 0.4, one of them foreground; two with 0.5 and 1, both foreground."""
    metric = calibrated(torch.tensor([[[[0.0, 0.2, 0.4, 0.5, 1.0]]]]), torch.tensor([[[[0, 0, 1, 1, 1]]]]), bins=2)
    assert metric.aggregate().item() == pytest.approx((abs(0.6 - 1) + abs(1.5 - 2)) / 5)
    bins = {name: column.tolist() for name, column in metric.bins().items()}
    assert bins["low"] == [0, 0.5]
    assert bins["high"] == [0.5, 1]
    assert bins["count"] == [3, 2]
    assert bins["confidence"] == pytest.approx([0.2, 0.75])
    assert bins["share"] == pytest.approx([1 / 3, 1])


def test_errors_of_different_images_may_cancel() -> None:
    """Half of the pixels with 0.5 are foreground in the set: none in one image and all in the other."""
    half = [torch.full((1, 2, 3), 0.5), torch.full((1, 3, 2), 0.5)]
    assert calibrated(half, [torch.zeros(1, 2, 3), torch.ones(1, 3, 2)]).aggregate() == 0
    assert calibrated(half, [torch.zeros(1, 2, 3), torch.zeros(1, 3, 2)]).aggregate() == 0.5


def test_defined_values_and_empty_bins() -> None:
    zeros, ones = torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4)
    assert calibrated(zeros, zeros).aggregate() == 0
    assert calibrated(ones, ones).aggregate() == 0
    assert calibrated(ones, zeros).aggregate() == 1
    bins = calibrated(ones, zeros).bins()
    assert bins["count"].tolist() == [0] * 14 + [16]
    assert all(math.isnan(value) for value in bins["confidence"][:-1].tolist())
    assert bins["share"][-1] == 0


def test_monai_agrees_on_a_small_image() -> None:
    probability = torch.rand(1, 1, 40, 50)
    truth = (torch.rand(1, 1, 40, 50) < probability**2).long()
    theirs = CalibrationErrorMetric(num_bins=15)
    theirs(probability, truth)
    assert calibrated(probability, truth).aggregate().item() == pytest.approx(theirs.aggregate().item(), abs=1e-5)


def test_a_tile_of_native_size_is_exact() -> None:
    """In float32, the mean of 400,000 times 0.99 would be 0.992."""
    probability = torch.full((1, 1, 522, 775), 0.99)
    metric = calibrated(probability, torch.ones_like(probability))
    assert metric.aggregate().item() == pytest.approx(0.01, abs=1e-7)


def test_each_class_is_compared_with_all_others() -> None:
    """Two pixels of class 1 and 2, with probabilities 0.6 and 0.3, then 0.2 and 0.7; two bins."""
    probability = torch.tensor([[[[0.6, 0.2]], [[0.3, 0.7]]]])
    metric = CalibrationMetric(2, num_classes=3)
    metric(probability, torch.tensor([[[[1, 2]]]]))
    # class 1: 0.6 in the upper bin, true; 0.2 in the lower, not true. class 2: 0.3 not true, 0.7 true
    first, second = (0.2 + 0.4) / 2, (0.3 + 0.3) / 2
    assert metric.aggregate().item() == pytest.approx((first + second) / 2)
    bins = {name: column.tolist() for name, column in metric.bins().items()}
    assert bins["class"] == [1, 1, 2, 2]
    assert bins["low"] == [0, 0.5, 0, 0.5]
    assert bins["confidence"] == pytest.approx([0.2, 0.6, 0.3, 0.7])
    assert bins["share"] == [0, 1, 0, 1]
    alone = [calibrated(probability[:, [k]], torch.tensor([[[[1, 2]]]]) == k + 1, bins=2) for k in (0, 1)]
    assert metric.aggregate().item() == pytest.approx(sum(item.aggregate().item() for item in alone) / 2)


def test_the_number_of_classes_must_fit_the_maps() -> None:
    metric, maps = CalibrationMetric(2, num_classes=3), torch.zeros(1, 2, 4, 4)
    with pytest.raises(ValueError, match=r"must be \(B, 2, H, W\)"):
        metric(maps[:, :1], maps[:, :1])
    with pytest.raises(ValueError, match="class indices 0, 1 and 2"):
        metric(maps, maps[:, :1] + 3)
    with pytest.raises(ValueError, match="num_classes is 1"):
        CalibrationMetric(num_classes=1)


def test_wrong_inputs_are_refused() -> None:
    for wrong in (0, -1, 2.5):
        with pytest.raises(ValueError, match="bins"):
            CalibrationMetric(wrong)  # type: ignore[arg-type]
    metric, zeros = CalibrationMetric(), torch.zeros(1, 1, 4, 4)
    with pytest.raises(ValueError, match="not a probability"):
        metric(zeros + 2, zeros)
    with pytest.raises(ValueError, match="differ in shape"):
        metric(zeros, zeros[..., :2])
    with pytest.raises(ValueError, match="class indices 0 and 1"):
        metric(zeros, zeros + 7)
    with pytest.raises(ValueError, match="no image"):
        metric.aggregate()


def test_the_handler_from_a_config_saves_the_bins() -> None:
    entry = {
        "_target_": "bundle.metrics.Calibration",
        "bins": 4,
        "output_transform": "$monai.handlers.from_engine(['pred', 'label'])",
    }
    parser = ConfigParser({"imports": ["$import monai.handlers"], "metric": entry})
    probability, truth = torch.rand(2, 1, 5, 6), torch.ones(2, 1, 5, 6)
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=[{"image": p[None], "label": t[None]} for p, t in zip(probability, truth, strict=True)],
        network=torch.nn.Identity(),
        key_val_metric={"calibration_error": parser.get_parsed_content("metric")},
    )
    evaluator.run()
    expected = 1 - probability.double().mean().item()
    assert evaluator.state.metrics["calibration_error"] == pytest.approx(expected)
    details: Any = evaluator.state.metric_details
    assert details["calibration_error"]["count"].sum() == 60
