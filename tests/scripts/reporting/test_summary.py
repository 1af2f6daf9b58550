"""The summary of a report: methods, data, best method, and whether the difference may be chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.reporting.cells import Cell
from scripts.reporting.summary import Summary, summarize

IMAGES = [f"t{number}" for number in range(12)]
SMALL = [0.1, -0.1] * 6
"""Differences of images with the mean 0."""


def cell(method: str, value: float | None, labels: str = "10", seed: int = 0, **more: Any) -> Cell:
    """Return a finished cell with one score."""
    content = {"name": f"{method}-{labels}-seed{seed}", "method": method, "labels": labels, "seed": seed}
    content |= {"protocol": "heldout", "data": "phantom", "metrics": {} if value is None else {"pooled_dice": value}}
    content["counts"] = {"training": 10, "unlabeled": 90, "validation": 20, "test": 40}
    return Cell(Path(str(content["name"])), content | more)


def runs(scores: Mapping[str, Sequence[float]], labels: str = "10") -> list[Cell]:
    """Return one cell per method and seed."""
    return [cell(name, value, labels, seed) for name, values in scores.items() for seed, value in enumerate(values)]


def summary_of(cells: Sequence[Cell], metric: str | None = "pooled_dice", against: str = "supervised") -> Summary:
    return summarize(cells, metric, against)


def images(differences: Sequence[float]) -> dict[str, Any]:
    """Return scores of single images, around 0.5."""
    return {"per_image": {"image": IMAGES, "mean_dice": [0.5 + value for value in differences]}}


def test_one_seed_is_preliminary() -> None:
    base = cell("supervised", 0.8, **images([0.0] * 12))
    clear = summary_of([base, cell("semi_moe", 0.85, **images([0.1] * 12))])
    assert clear.title == "supervised and semi_moe on phantom: semi_moe leads by 0.050 pooled Dice (one seed)"
    assert clear.compared == (
        "This page compares 2 methods for training a segmentation network (supervised and semi_moe) on phantom: "
        "synthetic images of H&E-stained glands, not real tissue. 10 labeled and 90 unlabeled images are used for "
        "training, the checkpoint is chosen on 20 validation images, and scores are computed on 40 test images."
    )
    assert clear.results == (
        "With 10 % of the training images labeled, semi_moe is better: pooled Dice 0.850, 0.050 more than "
        "supervised (0.800; one seed).",
    )
    assert "preliminary" in clear.caution
    assert clear.meaning.startswith("Pooled Dice: Dice overlap of prediction and annotation")
    assert clear.meaning.endswith("Higher is better.")
    small = summary_of([base, cell("semi_moe", 0.801, **images(SMALL))])
    assert small.title.endswith("semi_moe leads by 0.001 pooled Dice (may be chance)")
    assert small.results[0].endswith("(0.800; one seed; a difference this small may be chance).")
    unknown = summary_of([cell("supervised", 0.8), cell("semi_moe", 0.801)])
    assert "chance" not in unknown.title + unknown.results[0], "unknown without scores of single images"


def test_several_seeds_have_an_interval() -> None:
    sure = summary_of(runs({"supervised": [0.80, 0.81, 0.82], "semi_moe": [0.90, 0.91, 0.925]}))
    assert sure.title == "supervised and semi_moe on phantom: semi_moe leads by 0.102 pooled Dice"
    assert "(0.810; 95 % interval of the difference over 3 seeds: +0.094 to +0.109)" in sure.results[0]
    assert sure.caution == ""
    open_ = summary_of(runs({"supervised": [0.80, 0.90], "semi_moe": [0.90, 0.84]}))
    assert open_.title.endswith("semi_moe leads by 0.020 pooled Dice (may be chance)")
    assert open_.results[0].endswith("over 2 seeds: -0.996 to +1.036, so this may be chance).")


def test_the_baseline_may_be_better() -> None:
    result = summary_of(runs({"supervised": [0.90], "semi_moe": [0.80]}))
    assert result.title.endswith("supervised leads by 0.100 pooled Dice (one seed)")
    assert "0.100 more than semi_moe (0.800; one seed)" in result.results[0]


def test_different_seeds_give_no_interval() -> None:
    result = summary_of([*runs({"supervised": [0.80, 0.82]}), cell("semi_moe", 0.9)])
    assert "0.090 more than supervised (0.810; the methods have different seeds, so no" in result.results[0]


def test_the_best_of_many_is_compared_with_the_next_and_the_baseline() -> None:
    scores = {"supervised": [0.80, 0.81], "cps": [0.85, 0.87], "fixmatch": [0.88, 0.87], "semi_moe": [0.7, 0.7]}
    result = summary_of(runs(scores))
    assert result.title.startswith("4 methods on phantom: fixmatch leads cps by 0.015 pooled Dice")
    assert "4 methods for training a segmentation network on phantom:" in result.compared
    assert "fixmatch is the best of 4 methods: pooled Dice 0.875, 0.015 more than cps" in result.results[0]
    assert "and 0.070 more than supervised (0.805;" in result.results[0]
    assert result.caution == "The intervals are not corrected for selecting the best of 4 methods."


def test_ties_have_no_winner() -> None:
    two = summary_of(runs({"supervised": [0.80004], "semi_moe": [0.80001]}))
    assert two.title == "supervised and semi_moe on phantom: supervised and semi_moe are tied"
    assert two.results[0].endswith("supervised and semi_moe are tied: pooled Dice 0.800.")
    three = summary_of(runs({"supervised": [0.7], "cps": [0.8], "semi_moe": [0.8]}))
    assert three.title.endswith("cps and semi_moe are tied")
    assert "cps and semi_moe are the best of 3 methods: pooled Dice 0.800" in three.results[0]
    assert "0.100 more than supervised (0.700; one seed)" in three.results[0]


def test_each_share_of_labels_has_a_sentence() -> None:
    few, many = {"supervised": [0.7], "semi_moe": [0.8]}, {"supervised": [0.9], "semi_moe": [0.85]}
    result = summary_of([*runs(few), *runs(many, "100")])
    assert result.title.endswith(
        "semi_moe leads at 10 % labels (one seed); supervised leads at 100 % labels (one seed)"
    )
    assert [sentence.split(" of the")[0] for sentence in result.results] == ["With 10 %", "With 100 %"]
    assert "10 % and 100 % of the training images are labeled; scores are computed on 40 test images" in result.compared
    same = summary_of([*runs(few), *runs(few, "100")])
    assert same.title.endswith("semi_moe leads at 10 % and 100 % labels (one seed)")


def test_one_method_and_missing_runs_have_no_winner() -> None:
    single = summary_of(runs({"supervised": [0.8, 0.9]}))
    assert single.title == "supervised on phantom: pooled Dice 0.850 at 10 % labels"
    assert single.compared.startswith("This page shows one method for training a segmentation network (supervised) on")
    assert single.results[0].endswith("the pooled Dice of supervised is 0.850 (mean of 2 seeds).")
    gone = summary_of([*runs({"supervised": [0.8], "semi_moe": [0.9]}), cell("supervised", 0.9, "100")])
    assert gone.title.endswith("semi_moe leads by 0.100 pooled Dice (one seed)")
    assert "supervised, the only method with a finished run, is 0.900" in gone.results[1]
    unscored = summary_of([cell("supervised", 0.8), cell("semi_moe", None)])
    assert unscored.title == "supervised and semi_moe on phantom"
    nothing = summary_of([cell("supervised", None)], None)
    assert (nothing.title, nothing.results, nothing.meaning) == ("supervised on phantom", (), "")


def test_smaller_distances_are_better_and_settings_have_no_winner() -> None:
    near, far = ({"metrics": {"object_hausdorff": value, "swept_threshold": 0.5}} for value in (12.0, 20.0))
    cells = [cell("supervised", None, **far), cell("semi_moe", None, **near)]
    result = summary_of(cells, "object_hausdorff")
    assert result.title.endswith("semi_moe leads by 8.0 px object Hausdorff (one seed)")
    assert "12.0 px, 8.0 px less than supervised (20.0 px; one seed)" in result.results[0]
    assert result.meaning.endswith("Lower is better.")
    assert summary_of(cells, "swept_threshold").title == "supervised and semi_moe on phantom"


def test_the_authors_protocol_is_called_optimistic() -> None:
    more = {"protocol": "authors", "data": "my own", "counts": {"training": 1, "unlabeled": 2, "test": 3}}
    result = summary_of([cell("supervised", 0.8, **more)])
    assert result.title.endswith("at 10 % labels (optimistic)")
    assert result.compared.endswith(
        "(supervised) on my own. 1 labeled and 2 unlabeled images are used for training, and scores are computed on 3 "
        "test images."
    )
