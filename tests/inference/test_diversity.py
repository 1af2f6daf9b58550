"""Diverse selection of pictures to label."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bundle.inference import EncoderFeatures, next_diverse
from bundle.networks import UNet


def three_groups() -> dict[str, np.ndarray]:
    """Return ten, six and three points around three centers; those named ``..._0`` are at the centers."""
    random = np.random.default_rng(0)
    features = {}
    for name, center, count in (("a", (0, 0), 10), ("b", (9, 0), 6), ("c", (0, 9), 3)):
        for index in range(count):
            features[f"{name}_{index}"] = np.array(center) + (random.uniform(0.5, 1, 2) * (-1) ** index if index else 0)
    return features


def test_the_first_pictures_are_typical_of_the_largest_clusters():
    features, labeled = three_groups(), []
    for _ in range(3):
        labeled.append(next_diverse(features, labeled, seed=1))
    assert {name[0] for name in labeled} == {"a", "b", "c"}
    assert next_diverse(features, ["a_1", "c_1"]) == "b_0", "the center of the cluster without a label"
    assert next_diverse(dict(reversed(features.items())), ["c_1", "a_1"]) == "b_0", "the order has no effect"


def test_scores_select_within_the_cluster():
    features = three_groups()
    scores = {name: 0.1 + 0.8 * (name == "b_4") for name in features} | {"a_7": 1.0}
    assert next_diverse(features, ["a_1", "c_1"], scores=scores) == "b_4"
    del scores["b_2"]
    assert next_diverse(features, ["a_1", "c_1"], scores=scores) == "b_0", "a picture has no score yet"


def test_patients_without_a_label_come_first():
    features = three_groups()
    patients = dict.fromkeys(features, "one") | {"b_3": "two"}
    assert next_diverse(features, ["a_1", "c_1"], patients) == "b_3"


def test_equal_pictures_and_the_end():
    features = {name: np.ones(3) for name in "abcd"}
    labeled: list[str] = []
    while len(labeled) < 4:
        labeled.append(next_diverse(features, labeled))
    assert sorted(labeled) == list("abcd")
    with pytest.raises(ValueError, match="all pictures are labeled"):
        next_diverse(features, labeled)


def test_features_are_those_of_the_deepest_level():
    torch.manual_seed(0)
    encoder = UNet(widths=(4, 8, 8, 8, 8)).encoder
    read = EncoderFeatures(encoder, lambda record: record)
    image = torch.randn(3, 64, 96)
    with torch.no_grad():
        deepest = encoder.eval()(image[None])[-1][0].flatten(1)
    np.testing.assert_allclose(
        read({"image": image}), torch.cat([deepest.mean(1), deepest.std(1, correction=0)]).numpy(), rtol=1e-5
    )
    large = image.repeat_interleave(20, 1).repeat_interleave(20, 2)
    reduced = torch.nn.functional.avg_pool2d(large, 4, ceil_mode=True)
    np.testing.assert_allclose(read({"image": large}), read({"image": reduced}), rtol=1e-5)
    assert np.isfinite(read({"image": image[:, :43, :50]})).all()
    assert np.isfinite(read({"image": image[:, :16, :16]})).all(), "one position has no spread"
