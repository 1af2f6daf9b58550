"""Unknown pixels: every metric scores the known pixels as if the others were not there."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor
from monai.metrics import CumulativeIterationMetric, DiceMetric, MeanIoU
from monai.networks import one_hot
from torch import Tensor

from bundle.metrics import (
    CalibrationMetric,
    MeanOverlap,
    ObjectScoresMetric,
    PooledOverlapMetric,
    SweptOverlapMetric,
    known_from_engine,
)
from bundle.metrics.pooled import OverlapName
from bundle.types import IGNORE

Images = list[Tensor]


def images(classes: int = 2) -> tuple[Images, Images]:
    """Return probabilities (classes, H, W) and labels (1, H, W) of three images, a third of the pixels unknown."""
    sizes = [(9, 12), (7, 5), (10, 10)]
    truths = [torch.randint(0, classes, (1, *size)) for size in sizes]
    for truth in truths:
        truth[torch.rand(truth.shape) < 0.33] = IGNORE
    return [torch.randn(classes, *size).softmax(0) for size in sizes], truths


def without_unknown(maps: Images, truths: Images) -> Images:
    """Return the known pixels of each image, in one row."""
    return [item[:, truth[0] != IGNORE][:, None] for item, truth in zip(maps, truths, strict=True)]


def score(metric: CumulativeIterationMetric, predicted: Images, truths: Images) -> Tensor:
    metric(predicted, truths)
    return metric.aggregate()


@pytest.mark.parametrize(
    ("make", "classes"),
    [
        *((lambda classes: PooledOverlapMetric("dice", classes), n) for n in (2, 3)),
        *((lambda classes: PooledOverlapMetric("jaccard", classes, include_background=True), n) for n in (2, 3)),
        *((lambda classes: CalibrationMetric(10, classes), n) for n in (2, 3)),
        (lambda classes: SweptOverlapMetric([0.2, 0.4, 0.6], "jaccard"), 2),
    ],
)
def test_unknown_pixels_change_no_score(make: Callable[[int], CumulativeIterationMetric], classes: int) -> None:
    metric = make(classes)
    probabilities, truths = images(classes)
    pooled = isinstance(metric, PooledOverlapMetric)
    answers = [item.argmax(0, keepdim=True) if pooled else item[1:] for item in probabilities]
    expected = score(make(classes), without_unknown(answers, truths), without_unknown(truths, truths))
    assert torch.equal(score(metric, answers, truths), expected)
    full = [truth.masked_fill(truth == IGNORE, 0) for truth in truths]
    assert not torch.isclose(score(make(classes), answers, full), expected), "these pixels would count as background"


def test_metrics_of_monai_get_background_at_unknown_pixels() -> None:
    """Prediction 1 1 1 0, label 1 0 ? ?: Dice 2/3 and Jaccard 1/2 of the two known pixels."""
    output = [{"pred": torch.tensor([[[1, 1, 1, 0]]]), "label": torch.tensor([[[1, 0, IGNORE, IGNORE]]])}]
    predicted, truth = known_from_engine(["pred", "label"])(output)
    assert score(DiceMetric(include_background=False, num_classes=2), predicted, truth).item() == pytest.approx(2 / 3)
    channels = [[one_hot(item, 2, dim=0) for item in items] for items in (predicted, truth)]
    assert score(MeanIoU(include_background=False), *channels).item() == pytest.approx(1 / 2)
    assert output[0]["label"].max() == IGNORE, "the output is not changed"


@pytest.mark.parametrize(("name", "expected"), [("dice", (2 / 3 + 1) / 2), ("jaccard", (1 / 2 + 1) / 2)])
def test_a_mean_overlap_is_that_of_monai_on_the_known_pixels(name: OverlapName, expected: float) -> None:
    """As above, and an image without glands in prediction and label, which scores 1."""
    empty = torch.zeros(1, 1, 4, dtype=torch.int64)
    pairs = [(torch.tensor([[[1, 1, 1, 0]]]), torch.tensor([[[1, 0, IGNORE, IGNORE]]])), (empty, empty)]
    engine = Engine(lambda engine, batch: [dict(zip(("pred", "label"), pair, strict=True)) for pair in batch])
    MeanOverlap(name).attach(engine, name)
    assert engine.run([pairs]).metrics[name] == pytest.approx(expected)
    with pytest.raises(ValueError, match="metric is 'f1'; choose 'dice' or 'jaccard'"):
        MeanOverlap("f1")  # type: ignore[arg-type]


@pytest.mark.parametrize("metric", [PooledOverlapMetric(), SweptOverlapMetric([0.5]), CalibrationMetric()])
def test_a_mask_of_0_and_255_is_refused(metric: CumulativeIterationMetric) -> None:
    """If it is not converted to class indices, all its glands would be ignored without an error."""
    mask = MetaTensor(torch.zeros(1, 4, 4), meta={"filename_or_obj": "mask.png"})
    mask[..., :2] = 255
    with pytest.raises(ValueError, match=r"y has the value 255 .* no foreground in mask\.png; convert masks"):
        metric([torch.zeros(1, 4, 4)], [mask])


def test_object_scores_refuse_unknown_pixels_but_not_object_255() -> None:
    truth = torch.zeros(1, 4, 4, dtype=torch.int32)
    truth[..., :2] = 255
    assert score(ObjectScoresMetric("f1"), [truth], [truth]) == 1
    truth[..., 3] = -1
    with pytest.raises(ValueError, match=r"y has values below 0 \(unknown pixels\); object scores need every object"):
        ObjectScoresMetric("f1")([truth.clamp_min(0)], [truth])
