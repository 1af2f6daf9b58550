"""Targets of label maps with unknown pixels, on hand-drawn 7 x 7 masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray

from bundle.transforms import (
    Boundaryd,
    ClassIndexd,
    ForegroundClassd,
    SignedDistanced,
    SmallestIntegerd,
    boundary_band,
    foreground_class,
    signed_distance,
)
from bundle.transforms.distance import UNKNOWN
from bundle.types import IGNORE


def drawn(text: str) -> NDArray[np.int64]:
    """Convert a drawing to (1, H, W): one digit for each pixel, a dot for 0, a question mark for unknown."""
    values = {".": 0, "?": UNKNOWN}
    return np.array([[values[mark] if mark in values else int(mark) for mark in row] for row in text.split()])[None]


def rows(row: str) -> NDArray[np.int64]:
    """Seven equal rows."""
    return drawn(" ".join([row] * 7))


def marks(target: Any) -> list[str]:
    """Drawing of a target of 0 and 1, row by row."""
    return ["".join({0: ".", 1: "1", IGNORE: "?"}[int(value)] for value in row) for row in np.asarray(target)[0]]


GLAND = drawn("??????? ?.....? ?.111.? ?.111.? ?.111.? ?.....? ???????")
NOTHING_KNOWN = rows("???????")


def test_classes_are_known_at_known_pixels() -> None:
    assert " ".join(marks(foreground_class(GLAND))) == "??????? ?.....? ?.111.? ?.111.? ?.111.? ?.....? ???????"
    assert foreground_class(GLAND).dtype == np.uint8
    assert (foreground_class(NOTHING_KNOWN) == IGNORE).all()


def test_a_distance_is_known_up_to_where_an_unknown_gland_could_be_nearer() -> None:
    """Gland to column 1, background to column 3: column 3 is 2 px from the gland and 1 px from the unknown."""
    distance = signed_distance(rows("11..???"), "clip", 10.0)[0]
    np.testing.assert_allclose(distance, np.tile([0.15, 0.05, -0.05, *[IGNORE] * 4], (7, 1)), rtol=1e-6)
    assert distance.dtype == np.float32


def test_a_distance_beyond_the_maximum_is_known() -> None:
    """The edge of the gland is unknown, but columns 0 and 6 are at least one pixel from any."""
    distance = signed_distance(rows("11???.."), "clip", 1.0)[0]
    np.testing.assert_allclose(distance, np.tile([1, *[IGNORE] * 5, -1], (7, 1)))


def test_the_maximum_is_that_of_the_distances_that_are_known() -> None:
    """Distances 2, 1 inside and 1 outside are known; the edge pixel is 0, as without unknown pixels."""
    distance = signed_distance(rows("11..???"), "maximum")[0]
    np.testing.assert_allclose(distance, np.tile([1, 0, -1, *[IGNORE] * 4], (7, 1)))


def test_a_gland_with_its_margin_has_its_distance() -> None:
    """All is known inside, and on the margin where the gland is nearer than unknown pixels."""
    distance = signed_distance(GLAND, "clip", 4.0)[0] * 4
    np.testing.assert_allclose(distance[3], [IGNORE * 4, -0.5, 0.5, 1.5, 0.5, -0.5, IGNORE * 4])
    np.testing.assert_allclose(distance[1], [IGNORE * 4, IGNORE * 4, -0.5, -0.5, -0.5, IGNORE * 4, IGNORE * 4])


@pytest.mark.parametrize(
    ("label", "instances", "expected"),
    [
        ("11..???", True, "..11???"),
        ("1...???", True, ".11????"),  # column 3 has no gland within 2 px, and may have an unknown one
        ("11?....", True, "???1?.."),  # touching, the unknown may be another gland
        ("11?....", False, "..?1?.."),  # without instances a gland is never a boundary
        ("1112...", True, ".11111."),
    ],
)
def test_a_boundary_is_known_where_no_unknown_gland_could_make_one(label: str, instances: bool, expected: str) -> None:
    assert marks(boundary_band(rows(label), radius=2, instances=instances)) == [expected] * 7


@pytest.mark.parametrize("mode", ["clip", "maximum"])
def test_targets_of_an_unknown_label_are_unknown(mode: Any) -> None:
    assert (signed_distance(NOTHING_KNOWN, mode) == IGNORE).all()
    assert (boundary_band(NOTHING_KNOWN) == IGNORE).all()
    touching = rows("???....")
    assert (signed_distance(touching, mode, 500.0) == IGNORE).all()
    glands = rows("1111???")
    assert (signed_distance(glands, mode, 500.0) == IGNORE).all(), "there may be no background at all"


def test_every_known_value_is_that_of_the_full_label() -> None:
    """Known values of the targets of a sparse label equal those of the full label."""
    generator = np.random.default_rng(0)
    functions = {
        "class": foreground_class,
        "near": lambda label: signed_distance(label, "clip", 6.0),
        "far": lambda label: signed_distance(label, "clip", 500.0),
        "boundary": boundary_band,
        "outer boundary": lambda label: boundary_band(label, instances=False),
    }
    for _ in range(10):
        full = generator.integers(0, 4, (1, 10, 8)).repeat(4, 1).repeat(5, 2)
        known = generator.random((1, 5, 5)).repeat(8, 1).repeat(8, 2) < 0.6
        sparse = np.where(known, full, UNKNOWN)
        for name, target in functions.items():
            result = target(sparse)
            assert (result[~known] == IGNORE).all(), name
            counted = result != IGNORE
            np.testing.assert_array_equal(result[counted], target(full)[counted], err_msg=name)
            assert counted.sum() > 100, name


@pytest.mark.parametrize("dtype", [torch.int8, torch.int16, torch.int32, torch.float32])
def test_the_pipeline_carries_unknown_pixels_in_every_type(dtype: torch.dtype) -> None:
    record = {"label": MetaTensor(torch.as_tensor(GLAND).to(dtype))}
    result = ForegroundClassd()(Boundaryd()(SignedDistanced()(record)))
    for key in ("label", "boundary", "sdf"):
        assert (result[key][torch.as_tensor(GLAND < 0)] == IGNORE).all(), key
    assert torch.equal(result["label"] == IGNORE, torch.as_tensor(GLAND < 0))
    classes = ClassIndexd()(record)["label"]
    assert torch.equal(classes.as_tensor(), result["label"].as_tensor())


def test_gland_255_is_a_gland() -> None:
    """255 means unknown only in targets; in a label it is a gland, also next to unknown pixels."""
    for numbers, dtype in (([0, 255, 254], torch.uint8), ([0, 255, 300, UNKNOWN], torch.int16)):
        label = MetaTensor(torch.tensor(numbers).repeat_interleave(3).repeat(6, 1)[None])
        result = ForegroundClassd()(Boundaryd()(SmallestIntegerd()({"label": label})))
        assert SmallestIntegerd()({"label": label})["label"].dtype == dtype
        assert torch.equal(result["label"] == 1, label > 0)
        assert torch.equal(result["label"] == IGNORE, label < 0)
        assert result["boundary"][0, 0, 5] == 1, "glands 255 and 254, or 300, touch"
