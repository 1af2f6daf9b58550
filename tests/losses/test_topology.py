"""Persistence of components and topological consistency loss, compared with slow reference implementations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from bundle.losses import TopologicalConsistency
from bundle.losses.persistent_homology import components_of

Points = list[tuple[float, float]]


def points_of(plane: np.ndarray) -> Points:
    """Return birth and death of all components, by labeling the map at each of its levels."""
    points: Points = []
    peaks: list[tuple[int, int]] = []
    for level in np.unique(plane)[::-1]:
        pieces, count = ndimage.label(plane >= level)
        old, peaks = peaks, []
        for piece in range(1, count + 1):
            inside = sorted((peak for peak in old if pieces[peak] == piece), key=lambda peak: -plane[peak])
            peaks.append(inside[0] if inside else tuple(np.argwhere(pieces == piece)[0]))
            points += [(float(plane[peak]), float(level)) for peak in inside[1:]]
    return sorted(points + [(float(plane[peak]), 0.0) for peak in peaks])


def matchings(own: Points, others: Points) -> list[list[tuple[int, int]]]:
    """Return all partial matchings of two lists."""
    if not own:
        return [[]]
    result = matchings(own[1:], others)
    shifted = [[(i + 1, j) for i, j in pairs] for pairs in result]
    return shifted + [
        [(0, j), *pairs] for j in range(len(others)) for pairs in shifted if j not in dict(pairs).values()
    ]


def plain_loss(student: np.ndarray, teacher: np.ndarray, size: int, signal: float) -> float:
    """Return the loss of one image, by trying all matchings of each patch."""
    total = 0.0
    for row in range(0, student.shape[0], size):
        for column in range(0, student.shape[1], size):
            own, others = (points_of(plane[row : row + size, column : column + size]) for plane in (student, teacher))
            noise = [point for point in own if point[0] - point[1] <= signal]
            own, others = ([point for point in some if point[0] - point[1] > signal] for some in (own, others))

            def distance(pairs, own=own, others=others):
                left = [point for index, point in enumerate(own) if index not in dict(pairs)]
                left += [point for index, point in enumerate(others) if index not in dict(pairs).values()]
                apart = [(own[i][0] - others[j][0]) ** 2 + (own[i][1] - others[j][1]) ** 2 for i, j in pairs]
                return sum(apart) + sum((birth - death) ** 2 / 2 for birth, death in left)

            best = min(matchings(own, others), key=distance)
            total += sum((own[i][0] - others[j][0]) ** 2 for i, j in best)
            noise += [point for index, point in enumerate(own) if index not in dict(best)]
            total += sum((birth - death) ** 2 for birth, death in noise)
    return total


def logits_of(foreground: Tensor) -> Tensor:
    """Return two-class logits (B, 2, H, W) for foreground probabilities (B, H, W)."""
    return torch.stack([1.0 - foreground, foreground], dim=1).clamp_min(1e-30).log()


def soft(foreground: Tensor) -> Tensor:
    """Return class probabilities (B, 2, H, W)."""
    return torch.stack([1.0 - foreground, foreground], dim=1)


def loss_of(student: Tensor, teacher: Tensor, **settings: float) -> float:
    return float(TopologicalConsistency(**{"patch_size": 16} | settings)(logits_of(student), soft(teacher)))


def bumps(*paths: tuple[int, int, float]) -> Tensor:
    """Return a map (1, 16, 16) with square glands of 3 px, each given as (row, column, probability)."""
    plane = torch.zeros(1, 16, 16)
    for row, column, height in paths:
        plane[:, row - 1 : row + 2, column - 1 : column + 2] = height
    return plane


@pytest.mark.parametrize("levels", [2, 5, 1000])
def test_components_equal_labeling_each_level(levels):
    """Also with ties, on patches that do not divide the map, and on maps of one row."""
    random = np.random.default_rng(levels)
    for height, width, size in ((9, 11, 4), (8, 8, 8), (1, 7, 3), (6, 1, 20), (7, 5, 1)):
        maps = (random.integers(0, levels + 1, (3, height, width)) / levels).astype(np.float32)
        components = components_of(maps, size)
        values = np.append(maps.ravel(), np.float32(0.0))
        assert np.array_equal(components.birth, values[components.peak])
        assert np.array_equal(components.death, values[components.saddle])
        patches = [
            plane[row : row + size, column : column + size]
            for plane in maps
            for row in range(0, height, size)
            for column in range(0, width, size)
        ]
        assert components.patch.max() < len(patches)
        for index, patch in enumerate(patches):
            here = components.patch == index
            result = sorted(zip(components.birth[here].tolist(), components.death[here].tolist(), strict=True))
            assert result == [point for point in points_of(patch) if point[0] > 0.0]


@pytest.mark.parametrize(("size", "signal"), [(4, 0.02), (5, 0.3), (12, 0.6)])
def test_the_loss_equals_trying_all_matchings(size, signal):
    random = torch.Generator().manual_seed(size)
    for _ in range(5):
        student, teacher = torch.rand(2, 2, 7, 8, generator=random) ** 6  # few high peaks over low ground
        images = zip(student.numpy(), teacher.numpy(), strict=True)
        expected = np.mean([plain_loss(*maps, size, signal) for maps in images])
        assert loss_of(student, teacher, patch_size=size, signal=signal) == pytest.approx(expected, rel=1e-4)


def test_equal_maps_have_no_loss():
    clean = bumps((3, 3, 0.9), (10, 10, 0.95))
    assert loss_of(clean, clean) == pytest.approx(0.0, abs=1e-10)
    assert loss_of(clean, 1.0 - clean) > 0.1
    noisy = torch.rand(2, 16, 16)
    assert loss_of(noisy, noisy, noise_weight=0.0) == pytest.approx(0.0, abs=1e-10)
    assert loss_of(noisy, torch.rand(2, 16, 16), noise_weight=0.0, signal=0.5) > 0.0


def test_a_false_component_costs_less_the_lower_it_is():
    """As signal it has no partner, below the threshold it is noise; in both cases it is moved to the diagonal."""
    teacher = bumps((3, 3, 0.9))
    losses = [loss_of(bumps((3, 3, 0.9), (10, 10, height)), teacher) for height in (0.95, 0.8, 0.6, 0.3, 0.0)]
    # the higher of the two survives: in the first case the false one
    assert losses == pytest.approx([0.9**2 + 0.05**2, 0.8**2, 0.6**2, 0.3**2, 0.0], abs=1e-5)


def test_a_bridge_between_two_components():
    """A peak without partner is moved to its saddle."""
    student = bumps((3, 3, 0.9), (3, 9, 0.8))
    student[:, 3, 5:8] = 0.05
    assert loss_of(student, bumps((3, 3, 0.9))) == pytest.approx(0.75**2, abs=1e-5)


def test_a_matched_peak_moves_to_that_of_the_teacher():
    student = bumps((3, 3, 0.8)).requires_grad_()
    teacher = bumps((10, 10, 0.95)).requires_grad_()
    loss = TopologicalConsistency(16)(logits_of(student), soft(teacher))
    assert float(loss.detach()) == pytest.approx(0.15**2, abs=1e-6)
    loss.backward()
    assert teacher.grad is None
    moved = student.grad.nonzero().tolist()
    assert moved == [[0, 2, 2]]
    assert student.grad[0, 2, 2] == pytest.approx(-2 * 0.15, abs=1e-4)


def test_only_points_of_one_patch_are_matched():
    student, teacher = bumps((3, 3, 0.9)), bumps((3, 12, 0.9))
    assert loss_of(student, teacher, patch_size=16) == pytest.approx(0.0, abs=1e-10)
    assert loss_of(student, teacher, patch_size=8) == pytest.approx(0.9**2, abs=1e-5)


def test_a_distant_pair_is_not_matched():
    """Two points that are closer to the diagonal than to each other are not matched."""
    student, teacher = torch.full((1, 4, 4), 0.5), torch.full((1, 4, 4), 0.0)
    student[0, 1, 1], teacher[0, 1, 1] = 0.6, 0.05  # signal with a low threshold
    assert loss_of(student, teacher, signal=0.01) == pytest.approx(0.6**2, abs=1e-5)


def test_the_gradient_equals_finite_differences():
    random = torch.Generator().manual_seed(0)
    values = torch.zeros(1, 2, 6, 6)
    values[0, 1] = torch.linspace(-3.0, 3.0, 36)[torch.randperm(36, generator=random)].reshape(6, 6)
    teacher = torch.rand(1, 6, 6, generator=random)
    loss = TopologicalConsistency(patch_size=4, signal=0.6)
    logits = values.clone().requires_grad_()
    loss(logits, soft(teacher)).backward()
    result = torch.zeros_like(values)
    for index in range(values.numel()):
        step = torch.zeros_like(values).flatten().index_fill(0, torch.tensor(index), 1e-3).reshape(values.shape)
        result.view(-1)[index] = (loss(values + step, soft(teacher)) - loss(values - step, soft(teacher))) / 2e-3
    assert (result != 0).sum() > 20
    assert torch.allclose(logits.grad, result, atol=2e-3)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_empty_and_full_maps_have_no_loss(value):
    same = torch.full((2, 16, 16), value)
    assert loss_of(same, same) == pytest.approx(0.0, abs=1e-10)


def test_flat_maps_and_patches_without_signal():
    flat = torch.full((1, 5, 7), 0.5)
    assert loss_of(flat, flat) == pytest.approx(0.25)  # one component, which is noise
    assert loss_of(flat, torch.zeros(1, 5, 7), noise_weight=0.0) == 0.0
    assert loss_of(torch.ones(1, 1, 1), torch.ones(1, 1, 1)) == pytest.approx(0.0, abs=1e-10)


def test_components_have_the_weight_at_their_peak():
    student, teacher = bumps((3, 3, 0.9), (10, 10, 0.8)), bumps((3, 3, 0.9))
    weight = torch.ones(1, 1, 16, 16)
    weight[:, :, 9, 9] = 0.25
    logits = logits_of(student).requires_grad_()
    loss = TopologicalConsistency(16)
    assert float(loss(logits, soft(teacher), weight).detach()) == pytest.approx(0.25 * 0.8**2, abs=1e-5)
    nothing = loss(logits, soft(teacher), 0.0 * weight)
    nothing.backward()
    assert nothing == 0.0
    assert not logits.grad.any()


def test_foreground_is_everything_but_background():
    student, teacher = bumps((3, 3, 0.9), (10, 10, 0.8)), bumps((3, 3, 0.9))
    three = torch.stack([1.0 - student, 0.75 * student, 0.25 * student], dim=1).clamp_min(1e-30).log()
    hard = (teacher > 0.5).long()[:, None]
    result = TopologicalConsistency(16)(three, hard)
    assert float(result) == pytest.approx(0.1**2 + 0.8**2, abs=1e-5)


def test_a_patch_without_pixels_is_refused():
    with pytest.raises(ValueError, match="at least 1 px"):
        TopologicalConsistency(patch_size=0)
