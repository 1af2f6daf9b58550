"""Pooled overlap at the best threshold, compared with one threshold at a time."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing
from monai.bundle import ConfigParser
from monai.engines import SupervisedEvaluator
from torch import Tensor

from bundle.metrics import PooledOverlapMetric, SweptOverlap, SweptOverlapMetric

PAPER = [0.02 * step for step in range(45)]


def swept(probability: Any, truth: Any, thresholds: list[float], metric: str) -> float:
    handler = SweptOverlapMetric(thresholds, metric)  # type: ignore[arg-type]
    handler(probability, truth)
    return handler.aggregate().item()


def test_by_hand() -> None:
    """Above 0 all four are foreground, J 2/4; above 0.3 three of them, 2/3; above 0.6 one, 1/2."""
    probability, truth = torch.tensor([[[[0.2, 0.5, 0.6, 0.9, 0.0]]]]), torch.tensor([[[[0, 1, 0, 1, 0]]]])
    assert swept(probability, truth, [0, 0.3, 0.6], "jaccard") == pytest.approx(2 / 3)
    assert swept(probability, truth, [0, 0.3, 0.6], "dice") == pytest.approx(4 / 5)
    assert swept(probability, truth, [0, 0.3, 0.6], "threshold") == 0.3
    metric = SweptOverlapMetric([0, 0.3, 0.6])
    metric(probability, truth)
    assert metric.curves()["jaccard"].tolist() == pytest.approx([1 / 2, 2 / 3, 1 / 2])


def test_the_lowest_of_the_best_thresholds_and_a_strict_comparison() -> None:
    probability, truth = torch.tensor([[[[0.5, 0.5, 0.25]]]]), torch.tensor([[[[1, 1, 0]]]])
    assert swept(probability, truth, [0.0, 0.25, 0.3, 0.4, 0.5], "threshold") == 0.25
    assert swept(probability, truth, [0.5], "jaccard") == 0


def test_more_than_one_foreground_class_is_refused() -> None:
    with pytest.raises(ValueError, match="num_classes is 3, but a threshold needs exactly one foreground class"):
        SweptOverlapMetric([0.5], num_classes=3)
    with pytest.raises(ValueError, match="choose a protocol without thresholds"):
        SweptOverlap([0.5], num_classes=3)


def images(count: int) -> tuple[list[Tensor], list[Tensor]]:
    """Return rounded probabilities, many of them equal to a threshold, and labels that correlate with them."""
    generator = torch.Generator().manual_seed(0)
    sizes = [(1, 7 + index % 5, 9 + index % 3) for index in range(count)]
    truth = [(torch.rand(size, generator=generator) < 0.4).long() for size in sizes]
    noise = [torch.rand(size, generator=generator) for size in sizes]
    return [(25 * (0.6 * n + 0.4 * t)).round() / 25 for n, t in zip(noise, truth, strict=True)], truth


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_every_threshold_equals_the_comparison_in_torch(kind: torch.dtype) -> None:
    """A hundred images; J = D / (2 - D) at every threshold."""
    probability, truth = images(100)
    probability = [item.to(kind) for item in probability]
    metric = SweptOverlapMetric(PAPER)
    for item, label in zip(probability, truth, strict=True):
        metric(item[None], label[None])
    curves = metric.curves()
    assert curves["threshold"].tolist() == PAPER
    assert curves["dice"].unique().numel() > 20
    torch.testing.assert_close(curves["jaccard"], curves["dice"] / (2 - curves["dice"]), rtol=1e-12, atol=0)
    for name in ("dice", "jaccard"):
        for index, threshold in enumerate(PAPER):
            single = PooledOverlapMetric(name)  # type: ignore[arg-type]
            single([(item > threshold).long() for item in probability], truth)
            assert curves[name][index].item() == single.aggregate().item(), (name, threshold)
        assert swept(probability, truth, PAPER, name) == curves[name].max().item()


@pytest.mark.parametrize("name", ["dice", "jaccard"])
def test_defined_values(name: str) -> None:
    empty, full = torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4)
    assert swept(empty, empty, PAPER, name) == 1
    assert swept(full, empty, PAPER, name) == 0
    assert swept(empty, full, PAPER, name) == 0
    assert swept(full, full, PAPER, name) == 1


def test_wrong_inputs_are_refused() -> None:
    with pytest.raises(ValueError, match="metric is 'f1'; choose 'dice', 'jaccard' or 'threshold'"):
        SweptOverlapMetric(PAPER, "f1")  # type: ignore[arg-type]
    for wrong in ([], [0.5, 0.5], [0.5, 0.2], [-0.1], [1.0], [float("nan")]):
        with pytest.raises(ValueError, match="thresholds"):
            SweptOverlapMetric(wrong)
    metric, zeros = SweptOverlapMetric(PAPER), torch.zeros(1, 1, 4, 4)
    for probability in (zeros + 1.1, zeros - 0.1, zeros + float("nan"), zeros.long()):
        with pytest.raises(ValueError, match="not a probability"):
            metric(probability, zeros)
    for truth in (zeros + 255, zeros + 0.5, zeros[..., :3], zeros[0], None):
        with pytest.raises(ValueError, match="y"):
            metric(zeros, truth)


def test_the_handler_from_a_config_saves_the_sweep() -> None:
    entries = {
        name: {
            "_target_": "bundle.metrics.SweptOverlap",
            "metric": name,
            "thresholds": "$[0.02 * step for step in range(45)]",
            "save_details": name == "jaccard",
            "output_transform": "$monai.handlers.from_engine(['pred', 'label'])",
        }
        for name in ("jaccard", "threshold")
    }
    parser = ConfigParser({"imports": ["$import monai.handlers"], "metrics": entries})
    probability, truth = images(3)
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=[{"image": p[None], "label": t[None]} for p, t in zip(probability, truth, strict=True)],
        network=torch.nn.Identity(),
        key_val_metric=parser.get_parsed_content("metrics"),
    )
    evaluator.run()
    assert evaluator.state.metrics["jaccard"] == swept(probability, truth, PAPER, "jaccard")
    assert evaluator.state.metrics["threshold"] in PAPER
    details: Any = evaluator.state.metric_details
    assert list(details) == ["jaccard"]
    assert details["jaccard"]["jaccard"].max() == evaluator.state.metrics["jaccard"]


def _one_rank(rank: int, address: str, results: str) -> None:
    os.environ["LOCAL_RANK"] = str(rank)
    torch.set_num_threads(1)  # threads of the parent process could block a forked process
    torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    probability, truth = images(5)
    mine = slice(0, 2) if rank == 0 else slice(2, 5)
    value = [swept(probability[mine], truth[mine], PAPER, name) for name in ("dice", "threshold")]
    Path(results, str(rank)).write_text(" ".join(map(repr, value)))
    torch.distributed.destroy_process_group()


def test_ranks_share_one_threshold(tmp_path: Path) -> None:
    address = (tmp_path / "meeting").as_uri()
    torch.multiprocessing.start_processes(_one_rank, (address, str(tmp_path)), nprocs=2, start_method="fork")
    expected = [swept(*images(5), PAPER, name) for name in ("dice", "threshold")]
    for rank in ("0", "1"):
        assert [float(value) for value in (tmp_path / rank).read_text().split()] == expected
