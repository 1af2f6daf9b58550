"""Shared types: switches from the command line, and the share of foreground of pseudo-labels."""

from __future__ import annotations

import pytest
import torch

from bundle.types import PseudoLabel, detached, to_bool


@pytest.mark.parametrize("value", [True, 1, "1", "true", "True", "TRUE", " yes ", "on", "On"])
def test_a_switch_is_on(value: bool | str | int) -> None:
    assert to_bool(value) is True


@pytest.mark.parametrize("value", [False, 0, "0", "false", "False", " FALSE", "no", "off\n", "OFF"])
def test_a_switch_is_off(value: bool | str | int) -> None:
    assert to_bool(value) is False


@pytest.mark.parametrize("value", ["", "maybe", "2", 2, -1, "None", "truee"])
def test_a_switch_is_neither(value: str | int) -> None:
    with pytest.raises(ValueError, match=r"resume is .*; write True or False"):
        to_bool(value, "resume")


def test_foreground_of_class_indices_counts_every_class_but_background() -> None:
    target = torch.tensor([[[[0, 1], [2, 0]]], [[[0, 0], [0, 1]]]])
    assert PseudoLabel(target).foreground().item() == pytest.approx(3 / 8)


def test_foreground_of_probabilities_is_what_background_leaves() -> None:
    background = torch.tensor([[[[0.9, 0.1], [0.5, 0.7]]]])
    target = torch.cat([background, (1 - background) / 4, (1 - background) * 3 / 4], dim=1)
    assert PseudoLabel(target).foreground().item() == pytest.approx((0.1 + 0.9 + 0.5 + 0.3) / 4)


def test_foreground_of_signed_distances_is_the_inside() -> None:
    target = torch.tensor([[[[-1.0, -0.1, 0.0, 0.3, 1.0]]]])
    assert PseudoLabel(target).foreground().item() == pytest.approx(2 / 5)


@pytest.mark.parametrize(
    ("weight", "share"),
    [([1.0, 1.0, 0.0, 0.0], 1 / 2), ([0.2, 0.0, 0.9, 0.1], 2 / 3), ([0.0, 0.0, 0.0, 0.0], 0.0)],
)
def test_foreground_is_that_of_the_pixels_that_count(weight: list[float], share: float) -> None:
    """Weights above 0 count equally."""
    label = PseudoLabel(torch.tensor([1, 0, 1, 0]).view(1, 1, 2, 2), torch.tensor(weight).view(1, 1, 2, 2))
    assert label.foreground().item() == pytest.approx(share)


def test_foreground_of_weighted_probabilities() -> None:
    target = torch.tensor([[[[0.2, 0.6]], [[0.8, 0.4]]]])
    label = PseudoLabel(target, torch.tensor([[[[1.0, 0.0]]]]))
    assert label.foreground().item() == pytest.approx(0.8)


def test_detached_maps_share_values_and_carry_no_gradient() -> None:
    head = torch.ones(2, requires_grad=True) * 3
    (copy,) = detached({"seg": head}).values()
    assert head.requires_grad
    assert not copy.requires_grad
    assert copy.data_ptr() == head.data_ptr()
