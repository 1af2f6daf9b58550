"""Strong views: what they change, that each image is changed differently, and that labels are carried along."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage.color import hed2rgb, rgb2hed
from torch import Tensor

from bundle.transforms import (
    ColorChange,
    ColorJitter,
    ColorView,
    ConcatenateViews,
    CutMix,
    GaussianBlur,
    StainJitter,
    ViewChain,
)
from bundle.types import Batch, PseudoLabel, View

MEAN, DEVIATION = (0.788, 0.512, 0.785), (0.168, 0.248, 0.132)
LUMA = torch.tensor([0.299, 0.587, 0.114])


def normalized(colors: Tensor) -> Tensor:
    return (colors - torch.tensor(MEAN)[:, None, None]) / torch.tensor(DEVIATION)[:, None, None]


def colors_of(image: Tensor) -> Tensor:
    return image * torch.tensor(DEVIATION)[:, None, None] + torch.tensor(MEAN)[:, None, None]


def colored(*changes: ColorChange) -> ColorView:
    return ColorView({str(number): change for number, change in enumerate(changes)}, MEAN, DEVIATION)


def all_changes(amount: float = 1.0) -> list[ColorChange]:
    return [
        StainJitter(0.25 * amount, 0.03 * amount),
        ColorJitter(0.2 * amount, 0.3 * amount, 0.3 * amount, 0.05 * amount),
        GaussianBlur([0.0, 1.5 * amount]),
    ]


def strong() -> ViewChain:
    return ViewChain([colored(*all_changes()), CutMix([0.1, 0.4], [0.3, 3.3])])


def batch_of(images: int = 4) -> Batch:
    """Random rectangular images with black and white pixels, and a label."""
    colors = torch.rand(images, 3, 20, 28)
    colors[..., 0, 0], colors[..., 0, 1] = 0.0, 1.0
    return {"image": normalized(colors), "label": torch.randint(0, 3, (images, 1, 20, 28))}


VIEWS: dict[str, Callable[[], View]] = {
    "stain": lambda: colored(StainJitter(0.25, 0.03)),
    "color": lambda: colored(ColorJitter(0.2, 0.3, 0.3, 0.05)),
    "blur": lambda: colored(GaussianBlur([0.2, 1.5])),
    "cutmix": lambda: CutMix([0.1, 0.4], [0.3, 3.3]),
    "strong": strong,
    "together": lambda: ConcatenateViews([strong(), strong()]),
}
each_view = pytest.mark.parametrize("name", VIEWS)


# All views


@each_view
def test_the_same_seed_draws_the_same_and_another_does_not(name):
    view, batch = VIEWS[name](), batch_of()
    viewed = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        viewed.append(view(batch).batch["image"])
    assert torch.equal(viewed[0], viewed[1])
    assert not torch.equal(viewed[0], viewed[2])
    assert all(image.dtype == torch.float32 and image.isfinite().all() for image in viewed)


@each_view
def test_a_view_changes_every_image_and_no_argument(name):
    batch = batch_of()
    before = {key: value.clone() for key, value in batch.items()}
    viewed = VIEWS[name]()(batch).batch
    assert all(torch.equal(batch[key], value) for key, value in before.items())
    assert viewed.keys() == batch.keys()
    for index, image in enumerate(viewed["image"]):
        assert not torch.equal(image, batch["image"][index % 4])


@pytest.mark.parametrize("name", ["stain", "color", "blur"])
def test_each_image_is_changed_differently(name):
    alike = {"image": batch_of(1)["image"].expand(5, -1, -1, -1)}
    viewed = VIEWS[name]()(alike).batch["image"]
    assert len({round(float(image.sum()), 3) for image in viewed}) == 5


def test_a_color_view_works_in_float32_under_autocast():
    batch, view = batch_of(), colored(*all_changes())
    torch.manual_seed(1)
    plain = view(batch).batch["image"]
    torch.manual_seed(1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(view(batch).batch["image"], plain)


# Colors


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize(("amount", "probability"), [(0.0, 1.0), (1.0, 0.0)])
def test_zero_amounts_and_a_probability_of_0_leave_the_image(number, amount, probability):
    batch, change = batch_of(), all_changes(amount)[number]
    change.probability = probability
    torch.testing.assert_close(colored(change)(batch).batch["image"], batch["image"], atol=2e-5, rtol=0)


def test_the_probability_is_the_share_of_changed_images():
    batch = {"image": normalized(torch.rand(400, 3, 2, 2))}
    viewed = colored(StainJitter(0.2, 0.05, probability=0.25))(batch).batch["image"]
    changed = ((viewed - batch["image"]).abs() > 1e-4).flatten(1).any(dim=1)
    assert 0.15 < changed.float().mean().item() < 0.35


def test_stain_jitter_scales_and_shifts_the_stains_of_scikit_image():
    unit = -np.log(1e-6)  # of scikit-image's amounts, in optical densities
    amounts = np.random.default_rng(0).uniform(0.01, 0.05, (3, 16, 16, 3))
    image = torch.tensor(np.stack([hed2rgb(item) for item in amounts]), dtype=torch.float32).permute(0, 3, 1, 2)
    changed = StainJitter(scale=0.3, shift=0.1)(image)
    factors = []
    for before, after in zip(amounts, changed, strict=True):
        result = rgb2hed(after.permute(1, 2, 0).numpy().astype(np.float64))
        for stain in range(3):
            factor, shift = np.polyfit(before[..., stain].ravel(), result[..., stain].ravel(), 1)
            positive = result[..., stain] > 0
            expected = factor * before[..., stain] + shift
            np.testing.assert_allclose(result[..., stain][positive], expected[positive], atol=1e-3)
            assert 0.7 <= factor <= 1.3
            assert abs(shift) * unit <= 0.1 + 1e-3
            factors.append(round(float(factor), 3))
    assert len(set(factors)) == 9


def test_stain_jitter_without_shift_keeps_white_and_black():
    colors = torch.ones(2, 3, 4, 4)
    colors[:, :, :2] = 0.0
    assert torch.equal(StainJitter(scale=0.5, shift=0.0)(colors), colors)


def test_hue_and_saturation_keep_luma_and_grays():
    image = 0.4 + 0.2 * torch.rand(3, 3, 6, 6)
    changed = ColorJitter(0.0, 0.0, saturation=0.5, hue=0.5)(image)
    luma = [torch.einsum("c,bchw->bhw", LUMA, item) for item in (image, changed)]
    torch.testing.assert_close(luma[1], luma[0], atol=1e-5, rtol=0)
    assert (changed - image).abs().amax() > 0.01
    gray = torch.rand(3, 1, 6, 6).expand(-1, 3, -1, -1)
    torch.testing.assert_close(ColorJitter(0.0, 0.0, 0.5, 0.5)(gray), gray, atol=1e-5, rtol=0)


def test_brightness_is_a_factor_and_contrast_keeps_the_mean_luma():
    image = 0.4 + 0.2 * torch.rand(3, 3, 6, 6)
    ratio = (ColorJitter(0.4, 0.0, 0.0, 0.0)(image) / image).flatten(1)
    torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio), atol=1e-4, rtol=0)
    assert (ratio[:, 0] - 1.0).abs().max() > 0.01
    changed = ColorJitter(0.0, 0.4, 0.0, 0.0)(image)
    means = [torch.einsum("c,bchw->b", LUMA, item) / 36 for item in (image, changed)]
    torch.testing.assert_close(means[1], means[0], atol=1e-5, rtol=0)
    spread = changed.std(dim=(2, 3)) / image.std(dim=(2, 3))
    torch.testing.assert_close(spread, spread[:, :1].expand(-1, 3), atol=1e-4, rtol=0)


def test_blur_is_that_of_scipy_and_its_width_is_drawn_for_each_image():
    image = torch.rand(2, 3, 20, 28)
    blurred = GaussianBlur([1.3, 1.3])(image)
    expected = gaussian_filter(image.double().numpy(), (0, 0, 1.3, 1.3), mode="nearest", radius=4)
    np.testing.assert_allclose(blurred.numpy(), expected, atol=1e-5)
    points = torch.zeros(6, 3, 15, 15)
    points[..., 7, 7] = 1.0
    peaks = GaussianBlur([0.5, 2.0])(points)[:, 0, 7, 7]
    assert len({round(float(peak), 4) for peak in peaks}) == 6
    assert 1 / (2 * np.pi * 2.0**2) * 0.99 < peaks.min() < peaks.max() < 0.7


# CutMix


def soft_label(image: Tensor) -> Tensor:
    """A pseudo-labeler of single pixels, which gives the same label at any position."""
    return torch.cat([image[:, :1], -image[:, 1:2]], dim=1).softmax(dim=1)


PSEUDO_LABELERS: dict[str, Callable[[Tensor], PseudoLabel]] = {
    "hard": lambda image: PseudoLabel((image[:, :1] > image[:, 1:2]).long()),
    "soft": lambda image: PseudoLabel(soft_label(image)),
    "weighted": lambda image: PseudoLabel(
        soft_label(image).argmax(1, keepdim=True), (soft_label(image).amax(1, keepdim=True) > 0.8).float()
    ),
}


@pytest.mark.parametrize("view", ["cutmix", "twice", "together"])
@pytest.mark.parametrize("form", PSEUDO_LABELERS)
def test_carrying_the_label_equals_labeling_the_view(form, view):
    boxes = CutMix([0.1, 0.4], [0.3, 3.3])
    viewed = {"cutmix": boxes, "twice": ViewChain([boxes, boxes]), "together": ConcatenateViews([boxes, boxes])}[view](
        batch := batch_of()
    )
    carried, expected = (
        viewed.transform_label(PSEUDO_LABELERS[form](batch["image"])),
        PSEUDO_LABELERS[form](viewed.batch["image"]),
    )
    assert torch.equal(carried.target, expected.target)
    assert carried.target.dtype == expected.target.dtype
    if expected.weight is None:
        assert carried.weight is None
    else:
        assert carried.weight is not None
        assert torch.equal(carried.weight, expected.weight)
    moved = PSEUDO_LABELERS[form](batch["image"]).target
    assert not torch.equal(carried.target[: len(moved)], moved)


def test_all_maps_are_mixed_and_other_entries_kept():
    batch = batch_of()
    batch["copy"] = batch["image"][:, :1].clone()
    batch["number"] = torch.arange(4)
    viewed = CutMix([0.1, 0.4], [0.3, 3.3])(batch).batch
    assert torch.equal(viewed["copy"], viewed["image"][:, :1])
    assert torch.equal(viewed["number"], torch.arange(4))
    assert not torch.equal(viewed["label"], batch["label"])


def test_a_box_comes_from_another_image_and_has_the_right_size():
    numbers = torch.arange(6.0)[:, None, None, None].expand(-1, 3, 40, 60)
    areas = []
    for _ in range(20):
        viewed = CutMix([0.1, 0.2], [0.5, 2.0])({"image": numbers}).batch["image"][:, 0]
        for index, image in enumerate(viewed):
            result = image.unique().tolist()
            assert len(result) == 2
            assert index in result
            inside = image != index
            rows, columns = inside.any(dim=1).sum(), inside.any(dim=0).sum()
            assert inside.sum() == rows * columns  # one box
            assert 0.4 < (rows / 40) / (columns / 60) < 2.5
            areas.append(inside.float().mean().item())
        taken = [
            next(value for value in image.unique().tolist() if value != index) for index, image in enumerate(viewed)
        ]
        assert sorted(taken) == list(range(6))
    assert 0.08 < min(areas) < 0.13 < 0.17 < max(areas) < 0.23


def test_single_and_unselected_images_are_unchanged():
    for view, images in ((CutMix([0.1, 0.4], [0.3, 3.3]), 1), (CutMix([0.1, 0.4], [0.3, 3.3], probability=0.0), 4)):
        batch = batch_of(images)
        assert torch.equal(view(batch).batch["image"], batch["image"])
    batch = {"image": torch.arange(400.0)[:, None, None, None].expand(-1, 3, 8, 8)}
    viewed = CutMix([0.2, 0.4], [0.3, 3.3], probability=0.25)(batch).batch["image"]
    assert 0.15 < (viewed != batch["image"]).flatten(1).any(dim=1).float().mean().item() < 0.35


# Compositions


def test_views_together_concatenates_the_views_in_order():
    batch = batch_of(2)
    dark = colored(ColorJitter(1.0, 0.0, 0.0, 0.0))
    viewed = ConcatenateViews([ViewChain([]), dark])(batch)
    assert viewed.batch["image"].shape == (4, 3, 20, 28)
    assert torch.equal(viewed.batch["image"][:2], batch["image"])
    assert not torch.equal(viewed.batch["image"][2:], batch["image"])
    assert torch.equal(viewed.batch["label"], batch["label"].repeat(2, 1, 1, 1))
    weight = torch.rand(2, 1, 20, 28)
    carried = viewed.transform_label(PseudoLabel(batch["label"], weight))
    assert torch.equal(carried.target, batch["label"].repeat(2, 1, 1, 1))
    assert carried.weight is not None
    assert torch.equal(carried.weight, weight.repeat(2, 1, 1, 1))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StainJitter(1.5, 0.0), "scale must be in"),
        (lambda: StainJitter(0.1, -0.1), "shift 0 or more"),
        (lambda: StainJitter(0.1, 0.1, probability=1.5), "a probability must be in"),
        (lambda: ColorJitter(0.1, 0.1, 0.1, 0.6), r"hue in \[0, 0.5\]"),
        (lambda: ColorJitter(-0.1, 0.1, 0.1, 0.1), "amounts must be in"),
        (lambda: GaussianBlur([2.0, 1.0]), "the smaller first"),
        (lambda: ColorView({}, MEAN, (0.0, 1.0, 1.0)), "must be above 0, got"),
        (lambda: CutMix([0.4, 1.4], [0.5, 2.0]), "area must be a range"),
        (lambda: CutMix([0.1, 0.4], [0.0, 2.0]), "aspect one above 0"),
        (lambda: CutMix([0.1, 0.4], [0.5, 2.0], probability=-1.0), "a probability must be in"),
        (lambda: ConcatenateViews([]), "give at least one view"),
    ],
)
def test_invalid_amounts_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
