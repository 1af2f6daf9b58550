"""Several heads write one label together."""

from __future__ import annotations

import pytest
import torch

from bundle.teaching import MeanLabeler


def heads() -> dict[str, torch.Tensor]:
    """Three heads of one pixel, of which two say 0.9 and 0.2 for class 1."""
    chances = {"one": 0.9, "two": 0.2, "other": 0.5}
    return {
        name: torch.tensor([1 - chance, chance]).log().view(1, 2, 1, 1).add(3.0).requires_grad_()
        for name, chance in chances.items()
    }


def test_the_mean_of_probabilities_teaches_those_that_write() -> None:
    """And not that of logits, which says 0.6 here."""
    written = MeanLabeler(["one", "two"])({}, heads(), 0.5)
    assert set(written) == {"one", "two"}
    for label in written.values():
        assert label.weight is None
        assert not label.target.requires_grad
        torch.testing.assert_close(label.target.flatten(), torch.tensor([0.45, 0.55]))


def test_others_may_be_taught() -> None:
    written = MeanLabeler(["one", "two"], taught=["other"])({}, heads(), 0.5)
    assert set(written) == {"other"}
    torch.testing.assert_close(written["other"].target.sum(dim=1), torch.ones(1, 1, 1))


def test_nobody_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one head"):
        MeanLabeler([])
