"""The view with noise: standard deviation and limit, new noise at each call, and unchanged labels."""

from __future__ import annotations

import pytest
import torch

from bundle.transforms import GaussianNoiseView
from bundle.types import PseudoLabel


def test_noise_has_its_standard_deviation_and_limit() -> None:
    """Cut at two standard deviations, a spread of 0.1 becomes 0.0959."""
    image = torch.zeros(2, 3, 64, 64)
    noise = GaussianNoiseView(sd=0.1, limit=0.2)({"image": image}).batch["image"]
    assert not image.any(), "the input batch is unchanged"
    assert noise.abs().max().item() == pytest.approx(0.2)
    assert noise.mean().item() == pytest.approx(0.0, abs=0.003)
    assert noise.std().item() == pytest.approx(0.0959, abs=0.002)
    half = GaussianNoiseView(sd=0.05, limit=10.0)({"image": image}).batch["image"]
    assert half.std().item() == pytest.approx(0.05, abs=0.002)
    assert half.abs().max() > 0.15


def test_noise_is_added_and_new_at_each_call() -> None:
    image = torch.randn(1, 3, 8, 8)
    view = GaussianNoiseView(sd=0.1, limit=0.2)
    first, second = (view({"image": image}).batch["image"] for _ in range(2))
    assert (first - image).abs().max() <= 0.2 + 1e-6
    assert (first - second).abs().max() > 0.1
    torch.manual_seed(3)
    first = view({"image": image}).batch["image"]
    torch.manual_seed(3)
    assert torch.equal(view({"image": image}).batch["image"], first), "the noise depends only on torch's seed"


def test_labels_and_the_rest_of_the_batch_are_unchanged() -> None:
    batch = {"image": torch.zeros(1, 3, 4, 4), "label": torch.ones(1, 1, 4, 4)}
    shown = GaussianNoiseView()(batch)
    assert shown.batch["label"] is batch["label"]
    assert batch.keys() == shown.batch.keys()
    label = PseudoLabel(torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4))
    assert shown.transform_label(label) is label


@pytest.mark.parametrize(("sd", "limit"), [(-0.1, 0.2), (0.1, -0.2)])
def test_negative_noise_is_refused(sd: float, limit: float) -> None:
    with pytest.raises(ValueError, match="noise"):
        GaussianNoiseView(sd=sd, limit=limit)
