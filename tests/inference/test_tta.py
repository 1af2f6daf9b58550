"""Test-time augmentation: invariance of the mean prediction to the orientation of the image."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from monai.inferers import SimpleInferer, SlidingWindowInferer
from torch import nn

from bundle.inference import TTAInferer
from bundle.inference.tta import MEMBERS, _rotate, _rotate_back


@pytest.fixture
def crooked() -> nn.Module:
    """Network that is not invariant to flips."""
    torch.manual_seed(3)
    return nn.Conv2d(3, 2, 3, padding=1)


@pytest.fixture
def even() -> nn.Module:
    """Pixelwise network, equivariant to flips and rotations."""
    torch.manual_seed(3)
    return nn.Conv2d(3, 2, 1)


def test_the_views_are_different_and_come_back():
    image = torch.arange(12.0).reshape(1, 1, 3, 4)
    for number, members in MEMBERS.items():
        views = [_rotate(image, *member) for member in members]
        assert len({tuple(view.flatten().tolist()) for view in views}) == number == len(members)
        assert all(torch.equal(_rotate_back(view, *m), image) for view, m in zip(views, members, strict=True))


@pytest.mark.parametrize("views", list(MEMBERS))
def test_it_does_not_matter_how_the_image_lies(crooked, views):
    inferer = TTAInferer(SlidingWindowInferer((8, 8), overlap=0.5, mode="gaussian"), views)
    image = torch.randn(2, 3, 13, 18)
    output = inferer(image, crooked)
    assert output.shape == (2, 2, 13, 18)
    for member in MEMBERS[views]:
        torch.testing.assert_close(_rotate_back(inferer(_rotate(image, *member), crooked), *member), output)
    if views < 8:
        turned = _rotate_back(inferer(_rotate(image, False, 1), crooked), False, 1)
        assert not torch.allclose(turned, output, atol=1e-3), "a quarter turn is none of these views"


@pytest.mark.parametrize("views", list(MEMBERS))
def test_a_network_without_left_and_right_answers_as_ever(even, views):
    plain = SlidingWindowInferer((8, 8), overlap=0.5)
    image = torch.randn(1, 3, 12, 20)
    torch.testing.assert_close(TTAInferer(plain, views)(image, even), plain(image, even))


def test_one_view_is_the_plain_answer_and_more_are_not(crooked):
    image = torch.randn(1, 3, 10, 10)
    plain = SimpleInferer()(image, crooked)
    assert torch.equal(TTAInferer(SimpleInferer(), 1)(image, crooked), plain)
    assert not torch.allclose(TTAInferer(SimpleInferer(), 2)(image, crooked), plain, atol=1e-3)


def test_the_mean_is_of_what_the_network_answers(crooked):
    image = torch.randn(1, 3, 6, 9)
    mirrored = crooked(image.flip(-1)).flip(-1)
    result = TTAInferer(SimpleInferer(), 2)(image, crooked)
    torch.testing.assert_close(result, (crooked(image) + mirrored) / 2)


def test_the_image_and_the_answers_stay_as_they_are():
    image = torch.randn(1, 3, 6, 9)
    before = image.clone()
    result = TTAInferer(SimpleInferer(), 8)(image, nn.Identity())
    torch.testing.assert_close(result, before)
    assert torch.equal(image, before)


def test_it_has_what_the_inner_inferer_has():
    inferer = TTAInferer(SlidingWindowInferer((8, 16), overlap=0.25), 4)
    assert (inferer.roi_size, inferer.overlap, inferer.views) == ((8, 16), 0.25, 4)
    for other in (copy.deepcopy(inferer), pickle.loads(pickle.dumps(inferer))):
        assert (other.roi_size, other.views) == ((8, 16), 4)
    with pytest.raises(AttributeError, match="'SimpleInferer' object has no attribute 'roi_size'"):
        _ = TTAInferer(SimpleInferer()).roi_size


def test_half_precision_is_averaged_in_full(even):
    result = TTAInferer(SimpleInferer(), 2)(torch.randn(1, 3, 4, 4), lambda image: even(image).half())
    assert result.dtype == torch.float32


def test_what_it_cannot_do_is_one_sentence(even):
    with pytest.raises(ValueError, match="views is 3; choose from 1, 2, 4, 8"):
        TTAInferer(SimpleInferer(), 3)
    with pytest.raises(TypeError, match="the network returns dict; test-time augmentation needs one tensor"):
        TTAInferer(SimpleInferer(), 2)(torch.zeros(1, 3, 4, 4), lambda image: {"seg": even(image)})
