"""Pooled overlap, and MONAI's overlap per image, compared with values computed by hand."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.engines import SupervisedEvaluator
from monai.handlers import IgniteMetricHandler, MetricsSaver, from_engine
from monai.metrics import DiceMetric, MeanIoU
from torch import Tensor
from torch.nn.functional import one_hot

from bundle.metrics import PooledOverlap, PooledOverlapMetric


def images() -> tuple[list[Tensor], list[Tensor]]:
    """Return three images of different sizes as class indices (1, H, W): prediction and label.

    By image: intersection, predicted, true pixels are (2, 4, 3), (0, 0, 0) and (3, 3, 9).
    """
    predicted = [torch.zeros(1, 4, 4, dtype=torch.uint8), torch.zeros(1, 2, 5), torch.zeros(1, 3, 3, dtype=torch.int64)]
    truth = [torch.zeros(1, 4, 4), torch.zeros(1, 2, 5, dtype=torch.int64), torch.ones(1, 3, 3, dtype=torch.uint8)]
    predicted[0][0, 0] = 1
    truth[0][0, 0, 2:] = 1
    truth[0][0, 1, 0] = 1
    predicted[2][0, 1] = 1
    return predicted, truth


def as_one_hot(index: Tensor, classes: int = 2) -> Tensor:
    """Convert class indices (1, H, W) to (classes, H, W)."""
    return one_hot(index[0].long(), classes).permute(2, 0, 1)


def pooled(predicted: Any, truth: Any, **settings: Any) -> float:
    """Compute the metric of one batch."""
    metric = PooledOverlapMetric(**settings)
    metric(predicted, truth)
    return metric.aggregate().item()


def test_pooled_by_hand() -> None:
    """Sums 5, 7, 12: Dice 10 / 19, Jaccard 5 / 14, and J = D / (2 - D)."""
    dice, jaccard = pooled(*images()), pooled(*images(), metric="jaccard")
    assert dice == pytest.approx(10 / 19, abs=1e-12)
    assert jaccard == pytest.approx(5 / 14, abs=1e-12)
    assert jaccard == pytest.approx(dice / (2 - dice), abs=1e-12)


def test_the_mean_over_classes_with_background() -> None:
    """Of 35 pixels, the background has intersection 21, 28 predicted and 23 true pixels."""
    assert pooled(*images(), include_background=True) == pytest.approx((10 / 19 + 42 / 51) / 2)
    assert pooled(*images(), metric="jaccard", include_background=True) == pytest.approx((5 / 14 + 21 / 30) / 2)


def test_batches_types_and_order_do_not_matter() -> None:
    """One by one, one-hot, scores, MetaTensors and batch-first tensors give the same number."""
    predicted, truth = images()
    metric = PooledOverlapMetric()
    for prediction, label in zip(predicted, truth, strict=True):
        metric(as_one_hot(prediction).mul(3.0).sub(1.0)[None], MetaTensor(label)[None])
    assert metric.aggregate().item() == pooled(predicted, truth)
    assert metric.per_image().squeeze(1).tolist() == [pytest.approx(4 / 7), 1.0, pytest.approx(0.5)]
    metric.reset()
    with pytest.raises(ValueError, match="no image"):
        metric.aggregate()


@pytest.mark.parametrize("metric", ["dice", "jaccard"])
def test_defined_values(metric: str) -> None:
    """Both empty is 1; one empty is 0; equal is 1."""
    empty, full = torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4)
    assert pooled(empty, empty, metric=metric) == 1
    assert pooled(full, empty, metric=metric) == 0
    assert pooled(empty, full, metric=metric) == 0
    assert pooled(full, full, metric=metric) == 1


def test_three_classes() -> None:
    """Class 1 has 1 of 2 and 1, class 2 has no pixels: (2/3 + 1) / 2."""
    predicted, truth = torch.tensor([[[[1, 1, 0]]]]), torch.tensor([[[[1, 0, 0]]]])
    assert pooled(predicted, truth, num_classes=3) == pytest.approx((2 / 3 + 1) / 2)


def test_a_hundred_random_maps_pixel_by_pixel() -> None:
    """Compared with sets of pixels, for gland and class mean; J = D / (2 - D) holds only for the gland."""
    predicted, truth = [], []
    for number in range(100):
        size = (1, int(torch.randint(1, 9, ())), int(torch.randint(1, 9, ())))
        predicted.append((torch.rand(size) < number / 100).long())
        truth.append((torch.rand(size) < 0.4).long())
    here, there = (
        [
            {(n, *position) for n, item in enumerate(maps) for position in (item == index).nonzero().tolist()}
            for index in (0, 1)
        ]
        for maps in (predicted, truth)
    )
    dice = [2 * len(p & t) / (len(p) + len(t)) for p, t in zip(here, there, strict=True)]
    jaccard = [len(p & t) / len(p | t) for p, t in zip(here, there, strict=True)]
    assert pooled(predicted, truth) == pytest.approx(dice[1], abs=1e-12)
    assert pooled(predicted, truth, metric="jaccard") == pytest.approx(jaccard[1], abs=1e-12)
    assert jaccard[1] == pytest.approx(dice[1] / (2 - dice[1]), abs=1e-12)
    assert pooled(predicted, truth, include_background=True) == pytest.approx(sum(dice) / 2, abs=1e-12)
    assert pooled(predicted, truth, metric="jaccard", include_background=True) == pytest.approx(sum(jaccard) / 2)


def test_an_error_names_the_image() -> None:
    named = MetaTensor(torch.zeros(1, 4, 5), meta={"filename_or_obj": "tile.png"})
    with pytest.raises(ValueError, match=r"differ in shape in tile\.png; resize the prediction"):
        pooled([torch.zeros(1, 4, 4)], [named])
    with pytest.raises(ValueError, match=r"class indices 0\.\.1 in tile\.png"):
        pooled([torch.zeros(1, 4, 5)], [named + 7])


def test_wrong_inputs_are_refused() -> None:
    """Labels 0/255, instances, probabilities, one-sided and unequal shapes raise ValueError."""
    zeros = torch.zeros(1, 1, 4, 4)
    for wrong in (zeros + 255, zeros + 0.3, zeros - 1, torch.zeros(1, 3, 4, 4), zeros[..., :3], None):
        with pytest.raises(ValueError, match="y"):
            pooled(zeros, wrong)
    with pytest.raises(ValueError, match="metric"):
        PooledOverlapMetric("f1")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="num_classes"):
        PooledOverlapMetric(num_classes=1)


def evaluated(handlers: dict[str, Any], extra: list[Any] | None = None) -> Any:
    """Run MONAI's evaluator on the three images with the identity as network, and return its state."""
    predicted, truth = images()
    records = [{"image": p[None].float(), "label": t[None]} for p, t in zip(predicted, truth, strict=True)]
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=records,
        network=torch.nn.Identity(),
        key_val_metric=handlers,
        val_handlers=extra,
    )
    evaluator.run()
    return evaluator.state


def test_handler_from_a_config(tmp_path: Path) -> None:
    """The handler is created from a config, and MONAI's report accepts its details."""
    entry = {
        "_target_": "bundle.metrics.PooledOverlap",
        "metric": "dice",
        "output_transform": "$monai.handlers.from_engine(['pred', 'label'])",
        "save_details": True,
    }
    parser = ConfigParser({"imports": ["$import monai.handlers"], "dice": entry})
    saver = MetricsSaver(str(tmp_path), metrics="*", metric_details="*", summary_ops="mean")
    state = evaluated({"dice": parser.get_parsed_content("dice")}, [saver])
    assert state.metrics["dice"] == pytest.approx(10 / 19)
    torch.testing.assert_close(state.metric_details["dice"], torch.tensor([[4 / 7], [1], [0.5]], dtype=torch.float64))
    assert "0.5000" in (tmp_path / "dice_raw.csv").read_text()


def test_overlap_of_each_image_from_monai() -> None:
    """MONAI's per-image means take class indices as they are: Dice 4/7, 1, 1/2; Jaccard 2/5, 1, 1/3."""
    pair = from_engine(["pred", "label"])
    handlers = {
        "dice": IgniteMetricHandler(DiceMetric(False, num_classes=2, ignore_empty=False), output_transform=pair),
        "jaccard": IgniteMetricHandler(MeanIoU(False, ignore_empty=False), output_transform=pair),
        "pooled": PooledOverlap(output_transform=pair),
    }
    state = evaluated(handlers)
    assert list(state.metric_details) == ["dice", "jaccard"], "a pooled score has no values per image by default"
    assert state.metrics["dice"] == pytest.approx((4 / 7 + 1 + 1 / 2) / 3)
    assert state.metrics["jaccard"] == pytest.approx((2 / 5 + 1 + 1 / 3) / 3)
    assert state.metrics["pooled"] == pytest.approx(10 / 19)
    predicted, truth = images()
    jaccard = MeanIoU(include_background=False, ignore_empty=False)
    jaccard([as_one_hot(p) for p in predicted], [as_one_hot(t) for t in truth])
    assert jaccard.get_buffer().mean().item() == pytest.approx((2 / 5 + 1 + 1 / 3) / 3)


def _one_rank(rank: int, address: str, results: str) -> None:
    os.environ["LOCAL_RANK"] = str(rank)
    torch.set_num_threads(1)  # threads of the parent process could block a forked process
    torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    predicted, truth = images()
    mine = slice(0, 1) if rank == 0 else slice(1, 3)
    value = pooled(predicted[mine], truth[mine])
    Path(results, str(rank)).write_text(repr(value))
    torch.distributed.destroy_process_group()


def test_ranks_are_pooled(tmp_path: Path) -> None:
    """Two processes with one and two images both get the score of all three."""
    address = (tmp_path / "meeting").as_uri()
    torch.multiprocessing.start_processes(_one_rank, (address, str(tmp_path)), nprocs=2, start_method="fork")
    for rank in ("0", "1"):
        assert float((tmp_path / rank).read_text()) == pytest.approx(10 / 19, abs=1e-12)
