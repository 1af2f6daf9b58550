"""Stored predictions of an evaluator, scored again with other postprocessing."""

from __future__ import annotations

import pytest
import torch
from monai.engines import SupervisedEvaluator
from monai.handlers import IgniteMetricHandler, from_engine
from monai.metrics import DiceMetric
from monai.transforms import AsDiscreted

from bundle.inference import collect_predictions, postprocessing_scores


def records() -> list[dict]:
    """Return a perfect prediction, and one that covers half of the gland."""
    label = torch.zeros(1, 8, 8)
    label[:, :4] = 1
    return [{"pred": (torch.arange(8)[None, :, None] < rows) * torch.ones(1, 8, 8), "label": label} for rows in (4, 2)]


def dice(prediction: str) -> IgniteMetricHandler:
    return IgniteMetricHandler(
        metric_fn=DiceMetric(num_classes=2, include_background=False),
        output_transform=from_engine([prediction, "label"]),
    )


def test_a_postprocessing_is_scored_as_an_evaluator_scores_it_and_the_next_starts_anew():
    saved = records()
    metrics = {"overlap": dice("read")}
    whole = postprocessing_scores(saved, lambda record: {**record, "read": record["pred"]}, metrics)
    assert whole == {"overlap": pytest.approx((1 + 2 / 3) / 2)}
    none = postprocessing_scores(saved, lambda record: {**record, "read": torch.zeros(1, 8, 8)}, metrics)
    assert none == {"overlap": 0.0}
    assert all(set(record) == {"pred", "label"} for record in saved)


def test_no_image_is_no_score():
    with pytest.raises(ValueError, match="no image to score"):
        postprocessing_scores([], lambda record: record, {})


def test_answers_are_kept_after_postprocessing_and_in_order():
    loader = [{"image": torch.full((1, 1, 8, 8), float(number)), "label": torch.ones(1, 1, 8, 8)} for number in (1, -1)]
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=loader,
        network=torch.nn.Identity(),
        postprocessing=AsDiscreted("pred", threshold=0.5),
    )
    saved = collect_predictions(evaluator, without=("image",))
    assert [set(record) for record in saved] == [{"pred", "label"}] * 2
    assert [float(record["pred"].mean()) for record in saved] == [1.0, 0.0]
    assert saved[0]["pred"].shape == (1, 8, 8)
    assert len(collect_predictions(evaluator)) == 2, "a second run keeps its own answers alone"
