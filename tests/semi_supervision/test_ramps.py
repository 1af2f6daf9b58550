"""Ramps against points worked out by hand."""

from __future__ import annotations

import math

import pytest

from bundle.semi_supervision import ConstantRamp, CosineRamp, LinearRamp, SigmoidRamp
from bundle.types import Ramp

GRID = [step / 20 for step in range(21)]


def test_constant() -> None:
    assert {ConstantRamp(0.3)(progress) for progress in GRID} == {0.3}
    assert ConstantRamp()(0.5) == 1.0


@pytest.mark.parametrize(
    ("ramp", "points"),
    [
        (LinearRamp(maximum=5.0), {0.0: 0.0, 0.1: 0.5, 0.5: 2.5, 1.0: 5.0}),
        (LinearRamp(maximum=5.0, start=0.2, end=0.6), {0.0: 0.0, 0.2: 0.0, 0.3: 1.25, 0.6: 5.0, 0.9: 5.0, 1.0: 5.0}),
        # a threshold that falls: 0.95 to 0.25
        (LinearRamp(maximum=0.25, initial=0.95, end=0.5), {0.0: 0.95, 0.25: 0.6, 0.5: 0.25, 1.0: 0.25}),
        # a threshold that falls slowly first and last: (1 + cos(pi / 3)) / 2 is 3/4
        (CosineRamp(initial=0.95, final=0.25), {0.0: 0.95, 1 / 3: 0.775, 0.5: 0.6, 2 / 3: 0.425, 1.0: 0.25}),
        (CosineRamp(initial=0.0, final=2.0, start=0.2, end=0.6), {0.0: 0.0, 0.2: 0.0, 0.4: 1.0, 0.6: 2.0, 1.0: 2.0}),
        (SigmoidRamp(maximum=2.0), {0.0: 2 * math.exp(-5), 0.5: 2 * math.exp(-1.25), 1.0: 2.0}),
        (SigmoidRamp(maximum=2.0, end=0.4), {0.0: 2 * math.exp(-5), 0.2: 2 * math.exp(-1.25), 0.4: 2.0, 1.0: 2.0}),
        # a threshold that rises: from above 0.75 to 1
        (SigmoidRamp(maximum=1.0, initial=0.75), {0.0: 0.75 + 0.25 * math.exp(-5), 0.5: 0.75 + 0.25 * math.exp(-1.25)}),
    ],
)
def test_points_on_the_ramp(ramp: Ramp, points: dict[float, float]) -> None:
    assert {progress: ramp(progress) for progress in points} == pytest.approx(points, abs=1e-12)


@pytest.mark.parametrize(
    "ramp", [LinearRamp(3.0, 1.0, 0.1, 0.7), SigmoidRamp(3.0, 0.7), CosineRamp(1.0, 3.0, 0.1, 0.7)]
)
def test_a_rise_never_falls(ramp: Ramp) -> None:
    weights = [ramp(progress) for progress in GRID]
    assert weights == sorted(weights)
    assert weights[0] < weights[-1] == 3.0


@pytest.mark.parametrize(("start", "end"), [(0.5, 0.5), (0.6, 0.5), (-0.1, 1.0), (0.0, 1.1)])
def test_a_line_that_runs_backwards_or_outside_is_refused(start: float, end: float) -> None:
    with pytest.raises(ValueError, match=f"0 <= start < end <= 1, got start {start}, end {end}"):
        LinearRamp(start=start, end=end)
    with pytest.raises(ValueError, match=f"0 <= start < end <= 1, got start {start}, end {end}"):
        CosineRamp(0.95, 0.25, start=start, end=end)


@pytest.mark.parametrize("end", [0.0, -1.0, 1.5])
def test_an_end_outside_of_training_is_refused(end: float) -> None:
    with pytest.raises(ValueError, match=f"0 < end <= 1, got {end}"):
        SigmoidRamp(end=end)
