"""Class losses with pixel weights, compared with values computed by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from monai.losses import DiceLoss
from torch import Tensor, nn

from bundle.losses import CrossEntropy, CrossEntropyDice, Dice, PixelContrast, SoftmaxSquaredError
from bundle.types import IGNORE

# Three classes, two pixels: probabilities (0.5, 0.25, 0.25) and (0.2, 0.3, 0.5), classes 0 and 1.
PROBABILITIES = torch.tensor([[0.5, 0.25, 0.25], [0.2, 0.3, 0.5]]).T.reshape(1, 3, 1, 2)
PREDICTION = PROBABILITIES.log() + 7.0
HARD = torch.tensor([0, 1], dtype=torch.uint8).reshape(1, 1, 1, 2)
SOFT = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]]).T.reshape(1, 3, 1, 2)
WEIGHT = torch.tensor([1.0, 0.5]).reshape(1, 1, 1, 2)

LOSSES = [
    SoftmaxSquaredError,
    CrossEntropy,
    Dice,
    lambda: Dice(squared=False),
    lambda: Dice(batch=True),
    CrossEntropyDice,
]
each_loss = pytest.mark.parametrize("make", LOSSES, ids=["squared", "entropy", "dice", "plain", "pooled", "both"])
Make = Callable[[], nn.Module]


def random_case(classes: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    """Return logits, class indices with some ``IGNORE``, and weights with some zeros."""
    prediction = torch.randn(2, classes, 6, 5, requires_grad=True)
    target = torch.randint(0, classes, (2, 1, 6, 5))
    target[:, :, 0] = IGNORE
    weight = torch.rand(2, 1, 6, 5)
    weight[:, :, 1] = 0.0
    return prediction, target, weight


def gradient_of(loss: nn.Module, prediction: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
    (gradient,) = torch.autograd.grad(loss(prediction, target, weight), prediction)
    return gradient


def test_squared_error_by_hand() -> None:
    """Squares 0.375 and 0.78 for the classes, 0.04 + 0.04 + 0 for the soft second pixel; a third of each."""
    loss = SoftmaxSquaredError()
    assert loss(PREDICTION, HARD).item() == pytest.approx((0.375 + 0.78) / 3 / 2)
    assert loss(PREDICTION, HARD, WEIGHT).item() == pytest.approx((0.375 + 0.5 * 0.78) / 3 / 1.5)
    assert loss(PREDICTION, SOFT).item() == pytest.approx((0.375 + 0.08) / 3 / 2)
    assert loss(PREDICTION, PROBABILITIES).item() == pytest.approx(0.0, abs=1e-12)


def test_cross_entropy_by_hand() -> None:
    loss = CrossEntropy()
    first, second, soft = math.log(2), -math.log(0.3), 0.5 * (math.log(2) - math.log(0.3))
    assert loss(PREDICTION, HARD).item() == pytest.approx((first + second) / 2)
    assert loss(PREDICTION, HARD, WEIGHT).item() == pytest.approx((first + 0.5 * second) / 1.5)
    assert loss(PREDICTION, SOFT, WEIGHT).item() == pytest.approx((first + 0.5 * soft) / 1.5)


def test_dice_by_hand() -> None:
    """Numerators and denominators of the classes, with smoothing 1."""
    values = [2 / 2.29, 1.6 / 2.1525, 1 / 1.3125]
    assert Dice()(PREDICTION, HARD).item() == pytest.approx(1 - sum(values) / 3)
    assert Dice(include_background=False)(PREDICTION, HARD).item() == pytest.approx(1 - sum(values[1:]) / 2)
    weighted = [2 / 2.27, 1.3 / 1.6075, 1 / 1.1875]
    assert Dice()(PREDICTION, HARD, WEIGHT).item() == pytest.approx(1 - sum(weighted) / 3)
    plain = [2 / 2.6, 1.3 / 1.9, 1 / 1.5]
    assert Dice(squared=False)(PREDICTION, HARD, WEIGHT).item() == pytest.approx(1 - sum(plain) / 3)
    smooth = [1.5 / 1.79, 1.1 / 1.6525, 0.5 / 0.8125]
    assert Dice(smooth=0.5)(PREDICTION, HARD).item() == pytest.approx(1 - sum(smooth) / 3)


@pytest.mark.parametrize("squared", [True, False])
def test_dice_of_a_hard_target_equals_monai(squared: bool) -> None:
    prediction, target, _ = random_case()
    target = target.clamp_max(3)
    known = DiceLoss(softmax=True, to_onehot_y=True, squared_pred=squared, smooth_nr=1.0, smooth_dr=1.0)
    assert Dice(squared=squared)(prediction, target).item() == pytest.approx(known(prediction, target).item(), abs=1e-6)
    soft = prediction.detach().softmax(dim=1)
    assert Dice(squared=squared)(prediction, soft).item() == pytest.approx(0.0, abs=1e-6)


def test_dice_per_image_or_over_the_batch() -> None:
    """An image without known pixels halves the mean over images, and does not change the pooled sums."""
    prediction, target, _ = random_case()
    target[1] = IGNORE
    alone = Dice()(prediction[:1], target[:1]).item()
    assert Dice()(prediction, target).item() == pytest.approx(alone / 2, abs=1e-6)
    assert Dice(batch=True)(prediction, target).item() == pytest.approx(alone, abs=1e-6)


def test_cross_entropy_and_dice_are_added() -> None:
    prediction, target, weight = random_case()
    entropy, dice = (loss(prediction, target, weight).item() for loss in (CrossEntropy(), Dice()))
    assert CrossEntropyDice()(prediction, target, weight).item() == pytest.approx(entropy + dice)
    assert CrossEntropyDice(dice_weight=0.3)(prediction, target, weight).item() == pytest.approx(entropy + 0.3 * dice)
    other = CrossEntropyDice(dice=Dice(smooth=0.1))(prediction, target, weight).item()
    assert other == pytest.approx(entropy + Dice(smooth=0.1)(prediction, target, weight).item())


@each_loss
def test_ignored_pixels_are_left_out(make: Make) -> None:
    """Pixels with weight 0 or IGNORE do not change the loss and have gradient 0."""
    prediction, target, weight = random_case()
    loss = make()
    out = (target == IGNORE) | (weight == 0)
    gradient = gradient_of(loss, prediction, target, weight)
    assert not gradient[out.expand_as(gradient)].any()
    assert gradient[~out.expand_as(gradient)].all()
    changed = torch.where(out, 5.0 * torch.randn_like(prediction), prediction)
    other = torch.where(out & (target != IGNORE), (target + 1) % 4, target)
    value = loss(prediction, target, weight).item()
    assert loss(changed, other, weight).item() == pytest.approx(value, abs=1e-6)
    assert loss(prediction, target).item() != pytest.approx(value, abs=1e-4), "the weight has no effect"


@each_loss
def test_the_loss_is_zero_without_counted_pixels(make: Make) -> None:
    prediction, target, weight = random_case()
    for held, counted in ((target, 0 * weight), (torch.full_like(target, IGNORE), None)):
        assert make()(prediction, held, counted).item() == 0.0
        assert not gradient_of(make(), prediction, held, counted).any()


@each_loss
def test_class_indices_equal_one_hot_probabilities(make: Make) -> None:
    prediction, target, weight = random_case(classes=3)
    target = target.clamp_max(2)
    soft = nn.functional.one_hot(target[:, 0], 3).movedim(-1, 1).float()
    for counted in (None, weight):
        assert make()(prediction, target, counted).item() == pytest.approx(make()(prediction, soft, counted).item())


@each_loss
def test_autocast_computes_in_float32(make: Make) -> None:
    """Sums of 65,536 values in half precision are inaccurate; half-precision logits must give the float32 loss."""
    prediction = torch.randn(1, 2, 256, 256).half()
    target, weight = torch.randint(0, 2, (1, 1, 256, 256)), torch.rand(1, 1, 256, 256)
    expected = make()(prediction.float(), target, weight)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = make()(prediction, target, weight.half())
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(expected.item(), rel=1e-4)


@each_loss
def test_shapes_never_broadcast(make: Make) -> None:
    prediction, target, weight = random_case()
    with pytest.raises(ValueError, match="target"):
        make()(prediction, target[:, 0])
    with pytest.raises(ValueError, match="target"):
        make()(prediction, torch.rand(2, 3, 6, 5))
    with pytest.raises(ValueError, match="weight"):
        make()(prediction, target, weight[:, 0])
    with pytest.raises(ValueError, match="weight"):
        make()(prediction, target, torch.ones(1, 1, 6, 5))
    with pytest.raises(ValueError, match="integers"):
        make()(prediction, target.float())
    with pytest.raises(ValueError, match="two classes"):
        make()(prediction[:, :1], target)


def test_dice_needs_smoothing() -> None:
    with pytest.raises(ValueError, match="smooth"):
        Dice(smooth=0.0)


# Contrast of embeddings: classes 0, 0 and 1; the mean directions are (1, 0) and (0, 1).
EMBEDDINGS = torch.tensor([[3.0, 0.0], [1.0, 0.0], [0.0, 2.0]]).T.reshape(1, 2, 1, 3)
CLASSES = torch.tensor([0, 0, 1]).reshape(1, 1, 1, 3)


def test_contrast_by_hand() -> None:
    """Every pixel has cosine 1 to its own class and 0 to the other, whatever its length: log(1 + exp(-1 / t))."""
    for temperature in (1.0, 0.1):
        expected = math.log1p(math.exp(-1.0 / temperature))
        assert PixelContrast(temperature)(EMBEDDINGS, CLASSES).item() == pytest.approx(expected, abs=1e-6)


def test_contrast_counts_classes_equally_and_pixels_by_weight() -> None:
    """The third pixel of class 0 lies on the mean of class 1; with weight 0 it does not exist."""
    prediction = torch.cat([EMBEDDINGS, torch.tensor([0.0, 1.0]).reshape(1, 2, 1, 1)], dim=3)
    target = torch.cat([CLASSES, torch.zeros(1, 1, 1, 1, dtype=torch.int64)], dim=3)
    weight = torch.tensor([1.0, 1.0, 1.0, 0.0]).reshape(1, 1, 1, 4)
    loss = PixelContrast(1.0)
    assert loss(prediction, target, weight).item() == pytest.approx(math.log1p(math.exp(-1.0)), abs=1e-6)
    ignored = target.clone()
    ignored[..., 3] = IGNORE
    assert loss(prediction, ignored).item() == pytest.approx(math.log1p(math.exp(-1.0)), abs=1e-6)
    length = math.sqrt(5.0)  # mean of class 0: (2, 1) / sqrt(5)
    first = math.log1p(math.exp((0.0 - 2.0) / length))
    wrong = math.log1p(math.exp(1.0 - 1.0 / length))
    second = math.log1p(math.exp(1.0 / length - 1.0))
    assert loss(prediction, target).item() == pytest.approx(((2 * first + wrong) / 3 + second) / 2, abs=1e-6)


def test_contrast_separates_the_classes() -> None:
    embeddings = torch.randn(2, 4, 6, 5, requires_grad=True)
    target = torch.randint(0, 3, (2, 1, 6, 5))
    loss = PixelContrast(0.5)
    optimizer = torch.optim.SGD([embeddings], lr=5.0)
    first = loss(embeddings, target).item()
    for _ in range(20):
        optimizer.zero_grad()
        loss(embeddings, target).backward()
        optimizer.step()
    assert loss(embeddings, target).item() < 0.5 * first


@pytest.mark.parametrize("value", [0, IGNORE])
def test_contrast_of_one_class_or_none_is_zero_without_gradient(value: int) -> None:
    prediction = torch.randn(1, 4, 3, 3, requires_grad=True)
    result = PixelContrast()(prediction, torch.full((1, 1, 3, 3), value))
    (gradient,) = torch.autograd.grad(result, prediction)
    assert result.item() == 0.0
    assert not gradient.any()


def test_contrast_refuses_soft_targets_and_a_temperature_of_zero() -> None:
    with pytest.raises(ValueError, match="the target of a contrastive loss is"):
        PixelContrast()(EMBEDDINGS, EMBEDDINGS)
    with pytest.raises(ValueError, match="must be above 0, got 0"):
        PixelContrast(0.0)
