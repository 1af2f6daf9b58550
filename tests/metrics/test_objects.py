"""Object F1, Dice and Hausdorff distance, compared with values computed by hand."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.multiprocessing
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.engines import SupervisedEvaluator
from torch import Tensor

from bundle.metrics import ObjectScoresMetric

SCORES = ("f1", "dice", "hausdorff")


def drawn(*rows: str) -> Tensor:
    """Return a label map (1, H, W): a digit is the number of an object, a dot is background."""
    return torch.tensor([[[int(sign.replace(".", "0")) for sign in row] for row in rows]])


def scores(predicted: Any, truth: Any, **settings: Any) -> list[float]:
    """Return F1, Dice and Hausdorff distance of one image (1, H, W) or a list of images."""
    images = [item if isinstance(item, list) else [item] for item in (predicted, truth)]
    result = []
    for score in SCORES:
        metric = ObjectScoresMetric(score, **settings)  # type: ignore[arg-type]
        metric(*images)
        result.append(metric.aggregate().item())
    return result


MERGED = (drawn("11111.", "11111."), drawn("11222.", "11222."))
"""Two touching glands of 4 and 6 px, predicted as one of 10."""
SPLIT = (drawn("111122", "111122"), drawn("111111", "111111"))
"""One gland of 12 px, predicted as two of 8 and 4."""
MISSED = (drawn("11......", "11......"), drawn("11....22", "11....22"))
"""Two glands of 4 px, of which the first is predicted exactly."""

BY_HAND = {
    "equal, touching": (MERGED[1], MERGED[1], (1, 1, 0)),
    "merged": (*MERGED, (2 / 3, (12 / 16 + (4 * 8 / 14 + 6 * 12 / 16) / 10) / 2, (2 + (4 * 3 + 6 * 2) / 10) / 2)),
    "split": (*SPLIT, (2 / 3, ((8 * 16 / 20 + 4 * 8 / 16) / 12 + 16 / 20) / 2, ((8 * 2 + 4 * 4) / 12 + 2) / 2)),
    "split in halves": (drawn("1122"), drawn("1111"), (2 / 3, 2 / 3, 2)),
    "missed": (*MISSED, (2 / 3, (1 + 1 / 2) / 2, (0 + 6 / 2) / 2)),
    "false": (*MISSED[::-1], (2 / 3, (1 / 2 + 1) / 2, (6 / 2 + 0) / 2)),
    "less than half": (drawn("1..."), drawn("111."), (0, 1 / 2, 2)),
    "shifted away": (drawn("..11"), drawn("11.."), (0, 0, 2)),
    "one pixel, equal": (drawn("...", ".1.", "..."), drawn("...", ".1.", "..."), (1, 1, 0)),
    "one pixel, beside": (drawn("...", ".1.", "..."), drawn("..1", "...", "..."), (0, 0, math.sqrt(2))),
    "one pixel in a gland": (drawn("....1"), drawn("11111"), (0, 2 / 6, 4)),
    "both empty": (drawn(".....", "....."), drawn(".....", "....."), (1, 1, 0)),
    "empty prediction": (torch.zeros(1, 4, 5), drawn("11...", ".....", "..2..", "....."), (0, 0, 5)),
    "empty truth": (drawn("11...", ".....", "..2..", "....."), torch.zeros(1, 4, 5), (0, 0, 5)),
    "full image": (torch.ones(1, 4, 5), torch.ones(1, 4, 5), (1, 1, 0)),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_scores_by_hand(name: str) -> None:
    predicted, truth, expected = BY_HAND[name]
    assert scores(predicted, truth) == pytest.approx(expected, abs=1e-12)


def test_the_farthest_pixel_may_be_inside() -> None:
    """A ring, predicted as a full square: its center is 2 px from the ring, although the contours are the same."""
    ring = drawn("11111", "1...1", "1...1", "1...1", "11111")
    assert scores(torch.ones(1, 5, 5), ring) == pytest.approx([1, 32 / 41, 2])


def test_without_partner_the_smallest_hausdorff_distance_is_used() -> None:
    """A small object next to a long gland is closer to a distant small one: 11 px and 3 px."""
    truth = drawn("1111111111....2")
    predicted = drawn("1111111111.2..3")
    assert scores(predicted, truth)[2] == pytest.approx((10 * 0 + 1 * 3 + 1 * 0) / 12 / 2)


def test_of_two_equal_overlaps_the_lower_number_is_the_partner() -> None:
    """A gland of 4 px that shares 2 px with the prediction is detected; one of 6 px that shares 2 px is not."""
    predicted = drawn("..1111....")
    assert scores(predicted, drawn("1111222222"))[0] == 1 / 1.5
    assert scores(predicted, drawn("2222111111"))[0] == 0


def test_reductions_over_the_set_and_over_images() -> None:
    """Image 1 has two true objects, one of them detected; image 2 is 4 px wide with one gland, predicted exactly."""
    predicted, truth = [MISSED[0], drawn("1111")], [MISSED[1], drawn("1111")]
    assert scores(predicted, truth) == pytest.approx(
        [2 * 2 / (2 + 3), ((4 + 4) / 8 + (4 + 4) / 12) / 2, (0 + 4 * 6 / 12) / 2]
    )
    assert scores(predicted, truth, reduction="image") == pytest.approx([(2 / 3 + 1) / 2, (3 / 4 + 1) / 2, 1.5 / 2])


def test_a_set_with_empty_images() -> None:
    """Two empty maps add nothing to the set and 1, 1, 0 to the mean; an empty prediction scores the diagonal."""
    nothing = torch.zeros(1, 4, 5)
    gland = drawn("11...", "11...", ".....", ".....")
    assert scores([nothing, gland], [nothing, gland], reduction="image") == [1, 1, 0]
    assert scores([nothing, gland], [nothing, gland]) == [1, 1, 0]
    assert scores([nothing, gland], [gland, gland]) == pytest.approx([2 / 3, (1 + 1 / 2) / 2, (0 + 5 / 2) / 2])
    assert scores([nothing, nothing], [gland, nothing]) == [0, 0, 5]


def test_connected_components_of_one_number() -> None:
    """By default a number is one object, even in pieces; optionally, 8-connected components are objects."""
    pieces = drawn("1..11", ".1.11")
    apart = drawn("1..22", ".1.22")
    assert scores(apart, pieces)[0] == 2 / 3
    assert scores(apart, pieces, connected_truth=True) == [1, 1, 0]
    assert scores(pieces, apart, connected_prediction=True) == [1, 1, 0]
    touching = drawn("1122", "1122")
    assert scores(touching, touching, connected_prediction=True, connected_truth=True) == [1, 1, 0]
    assert scores(touching > 0, touching, connected_prediction=True)[0] == 2 / 3


def test_numbers_types_and_batches_do_not_matter() -> None:
    predicted, truth = SPLIT
    expected = scores(predicted, truth)
    odd = torch.tensor([0, 7, 3])[predicted]
    assert scores(odd, (truth * 10**12).double()) == pytest.approx(expected)
    assert scores(MetaTensor(predicted.to(torch.uint8)), truth.float()) == pytest.approx(expected)
    metric = ObjectScoresMetric("dice")
    metric(torch.stack([predicted, truth]), torch.stack([truth, truth]))
    assert metric.per_image().tolist() == [[pytest.approx(expected[1])], [1.0]]
    metric.reset()
    with pytest.raises(ValueError, match="no image"):
        metric.aggregate()


def test_wrong_inputs_are_refused() -> None:
    with pytest.raises(ValueError, match="score is 'f2'; choose 'f1', 'dice' or 'hausdorff'"):
        ObjectScoresMetric("f2")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="reduction"):
        ObjectScoresMetric("f1", "mean")  # type: ignore[arg-type]
    metric, zeros = ObjectScoresMetric("f1"), torch.zeros(1, 1, 4, 4)
    for wrong in (zeros - 1, zeros + 0.5, zeros + math.nan, torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 4), None):
        with pytest.raises(ValueError, match="y"):
            metric(zeros, wrong)
    named = MetaTensor(torch.zeros(1, 4, 5), meta={"filename_or_obj": "testA_1.png"})
    with pytest.raises(ValueError, match=r"differ in shape in testA_1\.png; resize the prediction"):
        metric([torch.zeros(1, 4, 4)], [named])
    metric(zeros, zeros)
    assert metric.aggregate() == 1, "refused images are not counted"


def test_a_tile_with_thirty_glands_takes_less_than_half_a_second() -> None:
    """All three scores of 775 x 522 px, in CPU time of this process."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:522, :775]
    truth, predicted = np.zeros((522, 775), int), np.zeros((522, 775), int)
    for number in range(30):
        middle = np.array([(number // 5 + 0.5) * 87, (number % 5 + 0.5) * 155])
        radii = rng.uniform((25, 40), (43, 75))
        for plane, (y, x), (h, w) in (
            (truth, middle, radii),
            (predicted, middle + rng.normal(0, 8, 2), radii * rng.uniform(0.8, 1.2, 2)),
        ):
            plane[((rows - y) / h) ** 2 + ((columns - x) / w) ** 2 < 1] = number + 1
    predicted[np.isin(predicted, (3, 9, 20))] = 0
    images = [torch.from_numpy(plane)[None] for plane in (predicted, truth)]
    seconds = []
    for _ in range(3):
        start = time.process_time()
        result = scores(*images)
        seconds.append(time.process_time() - start)
    assert 0.8 < result[1] < 0.95
    assert min(seconds) < 0.5


def _one_rank(rank: int, address: str, results: str) -> None:
    os.environ["LOCAL_RANK"] = str(rank)
    torch.set_num_threads(1)  # threads of the parent process could block a forked process
    torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    pairs = [MERGED, SPLIT, MISSED][:1] if rank == 0 else [MERGED, SPLIT, MISSED][1:]
    Path(results, str(rank)).write_text(repr(scores(*map(list, zip(*pairs, strict=True)))))
    torch.distributed.destroy_process_group()


def test_ranks_are_one_set(tmp_path: Path) -> None:
    address = (tmp_path / "meeting").as_uri()
    torch.multiprocessing.start_processes(_one_rank, (address, str(tmp_path)), nprocs=2, start_method="fork")
    expected = scores(*map(list, zip(MERGED, SPLIT, MISSED, strict=True)))
    for rank in ("0", "1"):
        assert eval((tmp_path / rank).read_text()) == pytest.approx(expected, abs=1e-12)


def test_the_handler_from_a_config_saves_the_score_of_each_image() -> None:
    parser = ConfigParser(
        {
            "imports": ["$import monai.handlers"],
            "metrics": {
                f"object_{score}": {
                    "_target_": "bundle.metrics.ObjectScores",
                    "score": score,
                    "output_transform": "$monai.handlers.from_engine(['pred', 'label'])",
                }
                for score in SCORES
            },
        }
    )
    records = [{"image": item[0][None].float(), "label": item[1][None]} for item in (MERGED, SPLIT)]
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=records,
        network=torch.nn.Identity(),
        key_val_metric=parser.get_parsed_content("metrics"),
    )
    evaluator.run()
    both = scores(*map(list, zip(MERGED, SPLIT, strict=True)))
    assert [evaluator.state.metrics[f"object_{score}"] for score in SCORES] == pytest.approx(both)
    details: Any = evaluator.state.metric_details
    values = np.array([scores(*MERGED), scores(*SPLIT)])
    for column, score in enumerate(SCORES):
        np.testing.assert_allclose(details[f"object_{score}"], values[:, column : column + 1], rtol=1e-12)
