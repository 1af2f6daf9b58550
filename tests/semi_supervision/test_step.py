"""The step: who gets gradient, how often the network is asked, and that a view carries its pseudo-label."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from monai.losses import DiceLoss, MaskedDiceLoss
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from bundle.losses import SignedDistanceLoss
from bundle.networks import SemiMoE
from bundle.semi_supervision import (
    BalanceRegularizer,
    ConsistencyTerm,
    ConstantRamp,
    EntropyRegularizer,
    HeadPseudoLabeler,
    LinearRamp,
    Step,
    TeacherPseudoLabeler,
    WeightedSum,
)
from bundle.types import Batch, Heads, PseudoLabel, Scalars, View, Viewed

DICE = DiceLoss(softmax=True, to_onehot_y=True)
PEERS = {"seg": "peer", "peer": "seg"}
HARD = {"seg": "hard", "peer": "hard"}
PEER_LOSSES = {"seg": DICE, "peer": DICE}


class Toy(nn.Module):
    """Two branches, `seg` and `peer`, that share nothing; counts its passes and keeps what it was shown."""

    def __init__(self, kernel_size: int = 3) -> None:
        super().__init__()
        self.branches = nn.ModuleDict({name: self._branch(kernel_size) for name in ("seg", "peer")})
        self.shown: list[Tensor] = []
        self.graphs: list[bool] = []

    @staticmethod
    def _branch(kernel_size: int) -> nn.Sequential:
        first = nn.Conv2d(3, 4, kernel_size, padding="same", padding_mode="reflect")
        return nn.Sequential(first, nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))

    def forward(self, image: Tensor) -> Tensor:
        return self.branches["seg"](image)

    def heads(self, image: Tensor) -> Heads:
        answers = {name: branch(image) for name, branch in self.branches.items()}
        self.shown.append(image)
        self.graphs.append(answers["seg"].requires_grad)
        return answers


class Flip:
    """A view turned left to right; label and weight turn with it."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, batch: Batch) -> Viewed:
        self.calls += 1
        return Flipped({key: value.flip(-1) for key, value in batch.items()})


class Flipped:
    """What `Flip` shows."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def transform_label(self, label: PseudoLabel) -> PseudoLabel:
        return PseudoLabel(label.target.flip(-1), None if label.weight is None else label.weight.flip(-1))


class Noise:
    """A view with noise of its own for each draw; moves nothing."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, batch: Batch) -> Viewed:
        self.calls += 1
        return Noisy(batch | {"image": batch["image"] + torch.randn_like(batch["image"])})


class Noisy:
    """What `Noise` shows."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def transform_label(self, label: PseudoLabel) -> PseudoLabel:
        return label


class Told:
    """A pseudo-labeler that writes what it was told, and keeps what it was asked."""

    def __init__(self, labels: Mapping[str, PseudoLabel], needs_heads: bool = False) -> None:
        self.labels = dict(labels)
        self.needs_heads = needs_heads
        self.asked: list[tuple[Batch, Heads, float]] = []

    def __call__(self, batch: Batch, heads: Heads, progress: float) -> dict[str, PseudoLabel]:
        self.asked.append((batch, heads, progress))
        return self.labels


class OnlyConsistency(nn.Module):
    """An objective that counts the consistency terms alone, so that their gradient is seen."""

    def forward(self, labeled: Scalars, unlabeled: Scalars, progress: float) -> tuple[Tensor, Scalars]:
        return torch.stack(list(unlabeled.values())).sum(), {}


def batch(images: int = 2, side: int = 8) -> Batch:
    """Random images and labels."""
    return {"image": torch.randn(images, 3, side, side), "label": torch.randint(0, 2, (images, 1, side, side))}


def unlabeled_batch(images: int = 2, side: int = 8) -> Batch:
    """Random images."""
    return {"image": torch.randn(images, 3, side, side)}


def step_of(network: nn.Module, *consistency: ConsistencyTerm, **rest: Any) -> Step:
    """A step whose loss is that of its consistency terms, unless another objective is given."""
    settings: dict[str, Any] = {"objective": OnlyConsistency(), **rest}
    named = {f"term_{index}": term for index, term in enumerate(consistency)}
    return Step(network, {"seg": "label"}, {"seg": DICE}, consistency=named, **settings)


def gradients(module: nn.Module) -> dict[str, Tensor]:
    """Gradient of each parameter, 0 where there is none."""
    return {
        name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()
        for name, parameter in module.named_parameters()
    }


def backward(network: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    """Gradient of a loss in each parameter of the network alone."""
    network.zero_grad()
    loss.backward()
    return gradients(network)


def soft_mse(prediction: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean squared error of probabilities, weighted where there is a weight."""
    squared = (prediction.softmax(dim=1) - target) ** 2
    return squared.mean() if weight is None else (squared * weight).mean()


# Gradient


@pytest.mark.parametrize("form", ["hard", "soft"])
def test_no_gradient_flows_through_a_pseudo_label(form: str) -> None:
    """Both peers write, so a leak would reach them: the gradient is that of the labels as constants."""
    network = Toy()
    loss: Callable = soft_mse if form == "soft" else DICE
    term = ConsistencyTerm(HeadPseudoLabeler(PEERS, dict.fromkeys(PEERS, form)), dict.fromkeys(PEERS, loss))
    images = unlabeled_batch()
    taught = backward(network, step_of(network, term)(batch(), images, 0.0)["loss"])
    answers = network.heads(images["image"])
    constant = {
        head: value.argmax(1, keepdim=True) if form == "hard" else value.softmax(1) for head, value in answers.items()
    }
    expected = loss(answers["seg"], constant["peer"].detach()) + loss(answers["peer"], constant["seg"].detach())
    torch.testing.assert_close(taught, backward(network, expected))
    assert any(gradient.any() for gradient in taught.values())


def test_parameters_that_only_the_source_uses_get_none() -> None:
    network = Toy()
    term = ConsistencyTerm(HeadPseudoLabeler({"seg": "peer"}, {"seg": "soft"}), {"seg": soft_mse})
    backward(network, step_of(network, term)(batch(), unlabeled_batch(), 0.0)["loss"])
    assert all(parameter.grad is None for parameter in network.branches["peer"].parameters())
    assert all(parameter.grad is not None for parameter in network.branches["seg"].parameters())


@dataclass
class Careless:
    """A pseudo-labeler that asks a network itself and forgets that nothing may flow back."""

    network: Toy
    needs_heads: bool = False

    def __call__(self, batch: Batch, heads: Heads, progress: float) -> dict[str, PseudoLabel]:
        return {"seg": PseudoLabel(self.network.heads(batch["image"])["peer"].softmax(dim=1))}


def test_a_pseudo_labeler_cannot_leak_gradient() -> None:
    network = Toy()
    term = ConsistencyTerm(Careless(network), {"seg": soft_mse})
    result = backward(network, step_of(network, term)(batch(), unlabeled_batch(), 0.0)["loss"])
    assert network.graphs == [True, False, True]
    assert all(gradient.any() == name.startswith("branches.seg.") for name, gradient in result.items())


def semi_moe_step(**arguments: Any) -> tuple[SemiMoE, Step]:
    """Semi-MoE as configs/train.json has it, with the loss of its consistency term alone."""
    network = SemiMoE(widths=(4, 4, 6, 6, 8), **arguments)
    heads = {"seg": "label", "sdf": "sdf", "boundary": "boundary"}
    losses = {"seg": DICE, "sdf": SignedDistanceLoss(), "boundary": DICE}
    targets = heads | {f"fused_{name}": key for name, key in heads.items()}
    all_losses = losses | {f"fused_{name}": loss for name, loss in losses.items()}
    pseudo_labeler = HeadPseudoLabeler(
        {name: f"fused_{name}" for name in heads}, {"seg": "hard", "sdf": "tanh", "boundary": "hard"}
    )
    return network, Step(
        network, targets, all_losses, OnlyConsistency(), {"gates": ConsistencyTerm(pseudo_labeler, losses)}
    )


def full_batch() -> Batch:
    """Images with all targets of Semi-MoE."""
    images = batch(side=32)
    distance = torch.rand(2, 1, 32, 32) * 2 - 1
    return images | {"sdf": distance, "boundary": (distance.abs() < 0.2).long()}


@pytest.mark.parametrize("shared_encoder", [False, True])
def test_the_gates_of_semi_moe_teach_the_experts_and_learn_nothing_from_it(shared_encoder: bool) -> None:
    network, step = semi_moe_step(shared_encoder=shared_encoder)
    result = backward(network, step(full_batch(), unlabeled_batch(side=32), 1.0)["loss"])
    source = {name for name in result if name.startswith("tasks.")}
    assert source
    assert not any(result[name].any() for name in source)
    # a bias before batch normalization moves nothing; rounding is all that it gets
    experts = {name for name in result.keys() - source if not name.endswith("conv.bias")}
    assert {name.split(".")[0] for name in experts} == {"encoders", "decoders", "expert_heads"}
    assert all(result[name].isfinite().all() and result[name].any() for name in experts)


def test_semi_moe_logs_parts_and_gate_weights_of_both_streams() -> None:
    _, step = semi_moe_step()
    result = step(full_batch(), unlabeled_batch(side=32), 0.0)
    tasks = ("seg", "sdf", "boundary")
    expected = {f"labeled/{prefix}{task}" for prefix in ("", "fused_") for task in tasks}
    expected |= {f"{kind}/gates/{task}" for kind in ("unlabeled", "foreground") for task in tasks}
    expected |= {f"{stream}/gate_{task}" for stream in ("labeled", "unlabeled") for task in tasks}
    assert set(result) == expected | {"loss", "ramp/gates"}
    assert result["unlabeled/gate_seg"].shape == (2, 3)
    assert {name for name, value in result.items() if value.requires_grad} == {"loss"}


# Passes


def test_in_pass_labels_cost_no_second_pass() -> None:
    network = Toy()
    labeled, unlabeled = batch(), unlabeled_batch()
    term = ConsistencyTerm(HeadPseudoLabeler(PEERS, HARD), PEER_LOSSES)
    step_of(network, term)(labeled, unlabeled, 0.0)
    assert [id(image) for image in network.shown] == [id(labeled["image"]), id(unlabeled["image"])]
    assert network.graphs == [True, True]


def test_in_pass_labels_are_those_of_the_students_own_pass() -> None:
    """With batch statistics and dropout a second pass would answer otherwise."""
    network = Toy()
    network.branches["peer"].append(nn.Dropout(0.5))
    pseudo_labeler = Told({"seg": PseudoLabel(torch.zeros(2, 1, 8, 8, dtype=torch.long))}, needs_heads=True)
    answers: list[Heads] = []
    ask = network.heads

    def heads_kept(image: Tensor) -> Heads:
        answers.append(ask(image))
        return answers[-1]

    network.heads = heads_kept
    step_of(network, ConsistencyTerm(pseudo_labeler, {"seg": DICE}))(batch(), unlabeled_batch(), 0.25)
    ((_, heads, progress),) = pseudo_labeler.asked
    assert progress == 0.25
    assert set(heads) == {"seg", "peer"}
    for name, head in heads.items():
        assert torch.equal(head, answers[1][name])
        assert not head.requires_grad


def test_a_weak_source_and_a_strong_student_are_two_passes() -> None:
    """FixMatch: the label comes from the image as it is, the student sees a strong view."""
    network = Toy()
    strong = Noise()
    unlabeled = unlabeled_batch()
    term = ConsistencyTerm(
        HeadPseudoLabeler({"seg": "seg"}, {"seg": "hard"}, 0.95), {"seg": soft_mse}, student_view=strong
    )
    step_of(network, term)(batch(), unlabeled, 0.0)
    assert strong.calls == 1
    assert network.graphs == [True, False, True]
    assert network.shown[1] is unlabeled["image"]
    assert not torch.equal(network.shown[2], unlabeled["image"])


def test_two_strong_views_share_one_weak_pass() -> None:
    """UniMatch; with pseudo-labelers of their own too."""
    network = Toy()
    views = Noise(), Noise()
    consistency = [
        ConsistencyTerm(
            HeadPseudoLabeler({"seg": "seg"}, {"seg": "hard"}, confidence), {"seg": soft_mse}, student_view=view
        )
        for confidence, view in zip((0.5, 0.95), views, strict=True)
    ]
    step_of(network, *consistency)(batch(), unlabeled_batch(), 0.0)
    assert network.graphs.count(False) == 1
    assert network.graphs.count(True) == 3


def test_a_view_is_drawn_once_a_step_though_two_consistency_terms_use_it() -> None:
    network = Toy()
    noise = Noise()
    first, second = (
        Told({"seg": PseudoLabel(torch.zeros(2, 2, 8, 8))}),
        HeadPseudoLabeler({"peer": "seg"}, {"peer": "hard"}),
    )
    consistency = (
        ConsistencyTerm(first, {"seg": soft_mse}, noise, noise),
        ConsistencyTerm(second, {"peer": DICE}, noise, noise),
    )
    step = step_of(network, *consistency)
    step(batch(), unlabeled_batch(), 0.0)
    assert noise.calls == 1
    assert len(network.shown) == 2
    assert first.asked[0][0]["image"] is network.shown[1]
    step(batch(), unlabeled_batch(), 0.0)
    assert noise.calls == 2
    assert not torch.equal(network.shown[1], network.shown[3])


def test_two_consistency_terms_that_share_a_pseudo_labeler_ask_it_once() -> None:
    """One label, carried into two views: the loss of each is worked out with the label that belongs there."""
    network = Toy()
    target = torch.randint(0, 2, (2, 1, 8, 8))
    pseudo_labeler = Told({"seg": PseudoLabel(target)})
    consistency = (
        ConsistencyTerm(pseudo_labeler, {"seg": DICE}),
        ConsistencyTerm(pseudo_labeler, {"seg": DICE}, student_view=Flip()),
    )
    unlabeled = unlabeled_batch()
    result = step_of(network, *consistency)(batch(), unlabeled, 0.0)
    assert len(pseudo_labeler.asked) == 1
    image = unlabeled["image"]
    for index, flip in enumerate((lambda value: value, lambda value: value.flip(-1))):
        expected = DICE(network.heads(flip(image))["seg"], flip(target))
        torch.testing.assert_close(result[f"unlabeled/term_{index}/seg"], expected.detach())


def test_consistency_terms_that_share_a_pseudo_labeler_may_read_labels_of_other_names() -> None:
    """One pseudo-labeler, asked once, gives one head two labels."""
    network = Toy()
    zeros = torch.zeros(2, 1, 8, 8, dtype=torch.long)
    pseudo_labeler = Told({"seg": PseudoLabel(zeros), "agreed": PseudoLabel(zeros + 1)})
    consistency = (
        ConsistencyTerm(pseudo_labeler, {"seg": DICE}),
        ConsistencyTerm(pseudo_labeler, {"seg": DICE}, labels={"seg": "agreed"}),
    )
    result = step_of(network, *consistency)(batch(), unlabeled_batch(), 0.0)
    assert len(pseudo_labeler.asked) == 1
    assert result["foreground/term_0/seg"].item() == 0.0
    assert result["foreground/term_1/seg"].item() == 1.0
    assert result["unlabeled/term_0/seg"] != result["unlabeled/term_1/seg"]


# Views


class Twice:
    """Two noisy copies of a batch, one after the other."""

    @dataclass
    class Shown:
        batch: Batch

        def transform_label(self, label: PseudoLabel) -> PseudoLabel:
            return PseudoLabel(torch.cat([label.target, label.target]))

    def __call__(self, batch: Batch) -> Viewed:
        image = batch["image"]
        return self.Shown({"image": torch.cat([image + torch.randn_like(image) for _ in range(2)])})


def test_a_view_may_show_each_image_more_than_once() -> None:
    network = Toy()
    target = torch.randint(0, 2, (2, 1, 8, 8))
    term = ConsistencyTerm(Told({"seg": PseudoLabel(target)}), {"seg": DICE}, student_view=Twice())
    result = step_of(network, term)(batch(), unlabeled_batch(), 0.0)
    assert network.shown[1].shape == (4, 3, 8, 8)
    expected = DICE(network.heads(network.shown[1])["seg"], torch.cat([target, target]))
    assert result["loss"].item() == pytest.approx(expected.item())


@pytest.mark.parametrize("kernel_size", [1, 3])
def test_a_view_carries_its_pseudo_label(kernel_size: int) -> None:
    """Teaching in a flipped view equals teaching the flipped image with the flipped label and weight."""
    network = Toy(kernel_size)
    images = unlabeled_batch()
    label = PseudoLabel(torch.rand(2, 2, 8, 8), torch.rand(2, 1, 8, 8))
    term = ConsistencyTerm(Told({"seg": label}), {"seg": soft_mse}, student_view=Flip())
    result = step_of(network, term)(batch(), images, 0.0)
    assert label.weight is not None
    expected = soft_mse(network.heads(images["image"].flip(-1))["seg"], label.target.flip(-1), label.weight.flip(-1))
    not_carried = soft_mse(network.heads(images["image"].flip(-1))["seg"], label.target, label.weight)
    assert result["loss"].item() == pytest.approx(expected.item())
    assert result["loss"].item() != pytest.approx(not_carried.item())


def test_warping_the_label_equals_labeling_the_warped_image() -> None:
    """For a writer that looks at one pixel at a time, the flip may come before or after."""
    network = Toy(kernel_size=1)
    images = unlabeled_batch()
    pseudo_labeler = HeadPseudoLabeler({"seg": "peer"}, {"seg": "hard"}, confidence=0.6)
    result = step_of(network, ConsistencyTerm(pseudo_labeler, {"seg": soft_mse}, student_view=Flip()))(
        batch(), images, 0.0
    )
    heads = network.heads(images["image"].flip(-1))
    warped = pseudo_labeler({}, heads, 0.0)["seg"]
    assert warped.weight is not None
    assert 0 < warped.weight.mean() < 1
    assert result["loss"].item() == pytest.approx(soft_mse(heads["seg"], warped.target, warped.weight).item())


# Teachers


def test_a_teacher_is_asked_and_left_alone() -> None:
    network, teacher = Toy(), Toy()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    noise = Noise()
    pseudo_labeler = TeacherPseudoLabeler(teacher, {"seg": "peer"}, {"seg": "soft"})
    step = step_of(network, ConsistencyTerm(pseudo_labeler, {"seg": soft_mse}, source_view=noise)).train()
    result = step(batch(), unlabeled_batch(), 0.0)
    result["loss"].backward()
    assert not teacher.training
    assert teacher.graphs == [False]
    assert len(network.shown) == 2  # the student does not see the teacher's view
    assert all(parameter.grad is None for parameter in teacher.parameters())
    inside = {id(parameter) for parameter in step.parameters()}
    assert not inside & {id(parameter) for parameter in teacher.parameters()}
    assert inside == {id(parameter) for parameter in network.parameters()}
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


# Streams, losses, regularizers


def test_a_consistency_term_on_the_labeled_stream() -> None:
    """The pseudo-labeler sees the labeled batch, its label too; the labeled images pass through the network once."""
    network = Toy()
    labeled = batch()
    pseudo_labeler = Told({"peer": PseudoLabel(1 - labeled["label"])}, needs_heads=True)
    step = step_of(network, ConsistencyTerm(pseudo_labeler, {"peer": DICE}, stream="labeled"))
    result = step(labeled, None, 0.0)
    assert pseudo_labeler.asked[0][0] is labeled
    assert len(network.shown) == 1
    assert not step.needs_unlabeled
    expected = DICE(network.heads(labeled["image"])["peer"], 1 - labeled["label"])
    assert result["labeled/term_0/peer"].item() == pytest.approx(expected.item())
    assert result["loss"].item() == pytest.approx(expected.item())


def test_without_unlabeled_images_the_consistency_terms_on_them_rest() -> None:
    network = Toy()
    term = ConsistencyTerm(HeadPseudoLabeler(PEERS, HARD), PEER_LOSSES)
    terms = {"entropy": EntropyRegularizer("seg", ConstantRamp())}
    labeled = batch()
    step = step_of(network, term, objective=WeightedSum(), regularizers=terms)
    result = step(labeled, None, 0.5)
    assert step.needs_unlabeled
    assert len(network.shown) == 1
    assert set(result) == {"loss", "labeled/seg"}
    expected = DICE(network.heads(labeled["image"])["seg"], labeled["label"])
    assert result["loss"].item() == pytest.approx(expected.item())


@pytest.mark.parametrize(
    ("consistency_stream", "regularizer_stream", "needed"),
    [
        *((None, None, False), ("labeled", None, False), (None, "labeled", False)),
        *(("unlabeled", None, True), (None, "unlabeled", True), ("labeled", "unlabeled", True)),
    ],
)
def test_needs_unlabeled(consistency_stream: str | None, regularizer_stream: str | None, needed: bool) -> None:
    consistency = (
        [ConsistencyTerm(HeadPseudoLabeler(PEERS, HARD), PEER_LOSSES, stream=consistency_stream)]
        if consistency_stream
        else []
    )
    terms = {"entropy": EntropyRegularizer("seg", ConstantRamp(), regularizer_stream)} if regularizer_stream else {}
    assert step_of(Toy(), *consistency, regularizers=terms).needs_unlabeled is needed


def test_a_ramp_weighs_the_loss_and_not_what_is_logged() -> None:
    network = Toy()
    labeled, unlabeled = batch(), unlabeled_batch()
    term = ConsistencyTerm(HeadPseudoLabeler({"seg": "peer"}, {"seg": "hard"}), {"seg": DICE}, ramp=LinearRamp(4.0))
    step = step_of(network, term, objective=WeightedSum())
    for progress, weight in ((0.0, 0.0), (0.25, 1.0), (1.0, 4.0)):
        result = step(labeled, unlabeled, progress)
        expected = result["labeled/seg"] + weight * result["unlabeled/term_0/seg"]
        assert result["loss"].item() == pytest.approx(expected.item())
        assert result["ramp/term_0"].item() == weight


def test_losses_get_a_weight_only_where_there_is_one() -> None:
    given: dict[str, int] = {}

    def counting(name: str) -> Callable:
        def loss(prediction: Tensor, target: Tensor, *rest: Tensor) -> Tensor:
            given[name] = len(rest)
            return cross_entropy(prediction, target[:, 0])

        return loss

    target = torch.zeros(2, 1, 8, 8, dtype=torch.long)
    half = torch.zeros(2, 1, 8, 8)
    half[..., :2] = 1.0
    pseudo_labeler = Told({"seg": PseudoLabel(target, half), "peer": PseudoLabel(target)})
    term = ConsistencyTerm(pseudo_labeler, {name: counting(name) for name in ("seg", "peer")})
    result = step_of(Toy(), term)(batch(), unlabeled_batch(), 0.0)
    assert given == {"seg": 1, "peer": 0}
    assert result["counted/term_0/seg"].item() == 0.25
    assert "counted/term_0/peer" not in result


def test_monais_masked_dice_works_as_such() -> None:
    network = Toy()
    unlabeled = unlabeled_batch()
    loss = MaskedDiceLoss(softmax=True, to_onehot_y=True, include_background=False)
    pseudo_labeler = HeadPseudoLabeler({"seg": "peer"}, {"seg": "hard"}, confidence=0.55)
    result = step_of(network, ConsistencyTerm(pseudo_labeler, {"seg": loss}))(batch(), unlabeled, 0.0)
    heads = network.heads(unlabeled["image"])
    sure = (heads["peer"].softmax(1).amax(1, keepdim=True) >= 0.55).float()
    assert 0 < sure.mean() < 1
    expected = loss(heads["seg"], heads["peer"].argmax(1, keepdim=True), sure)
    assert result["loss"].item() == pytest.approx(expected.item())
    assert result["counted/term_0/seg"].item() == pytest.approx(sure.mean().item())


def test_labeled_targets_go_to_their_heads() -> None:
    network = Toy()
    labeled = batch()
    labeled["other"] = 1 - labeled["label"]
    step = Step(network, {"seg": "label", "peer": "other"}, PEER_LOSSES, WeightedSum({"peer": 0.5}))
    result = step(labeled, None, 0.0)
    heads = network.heads(labeled["image"])
    seg, peer = DICE(heads["seg"], labeled["label"]), DICE(heads["peer"], labeled["other"])
    assert result["loss"].item() == pytest.approx((seg + 0.5 * peer).item())
    assert result["labeled/peer"].item() == pytest.approx(peer.item())


def test_regularizers_add_with_their_ramp() -> None:
    network = Toy()
    terms = {
        "entropy": EntropyRegularizer("seg", LinearRamp(4.0)),
        "sure": EntropyRegularizer("peer", ConstantRamp(-0.5), "labeled"),
    }
    labeled, unlabeled = batch(), unlabeled_batch()
    step = step_of(network, objective=WeightedSum(), regularizers=terms)
    result = step(labeled, unlabeled, 0.75)
    assert len(network.shown) == 2
    entropy = terms["entropy"](network.heads(unlabeled["image"]), 0.75)
    sure = terms["sure"](network.heads(labeled["image"]), 0.75)
    assert result["regularizer/entropy"].item() == pytest.approx(entropy.item())
    assert result["regularizer/sure"].item() == pytest.approx(sure.item())
    expected = result["labeled/seg"] + 3.0 * entropy - 0.5 * sure
    assert result["loss"].item() == pytest.approx(expected.item())


def test_balance_teaches_the_gates() -> None:
    network, _ = semi_moe_step()
    terms = {"balance": BalanceRegularizer("gate_seg", ConstantRamp(1.0))}
    step = Step(network, {"seg": "label"}, {"seg": DICE}, WeightedSum({"seg": 0.0}), regularizers=terms)
    result = backward(network, step(full_batch(), unlabeled_batch(side=32), 0.0)["loss"])
    assert result["tasks.seg.gate.rest.2.weight"].any()
    assert not result["tasks.sdf.gate.rest.2.weight"].any()


def test_targets_and_losses_name_the_same_heads() -> None:
    with pytest.raises(ValueError, match=r"targets name the heads \['seg'\], losses \['peer', 'seg'\]"):
        Step(Toy(), {"seg": "label"}, PEER_LOSSES, WeightedSum())


def test_labeled_images_must_teach() -> None:
    """By targets, or by a consistency term from sparse labels."""
    term = {"own": ConsistencyTerm(HeadPseudoLabeler(PEERS, HARD), PEER_LOSSES)}
    sparse = {
        "sparse": ConsistencyTerm(
            Told({"peer": PseudoLabel(torch.rand(2, 2, 8, 8))}), {"peer": soft_mse}, stream="labeled"
        )
    }
    for consistency in (None, term):
        with pytest.raises(ValueError, match="nothing is learned from labeled images"):
            Step(Toy(), {}, {}, WeightedSum(), consistency)
    result = Step(Toy(), {}, {}, WeightedSum(), term | sparse)(batch(), None, 0.0)
    assert result["loss"].item() == pytest.approx(result["labeled/sparse/peer"].item())


def test_the_unlabeled_pass_may_come_first_for_the_running_statistics() -> None:
    network = Toy()
    labeled, unlabeled = batch(), {"image": torch.randn(2, 3, 8, 8) + 1.0}
    losses, shown = {}, {}
    for first in (False, True):
        network.shown.clear()
        term = ConsistencyTerm(HeadPseudoLabeler(PEERS, HARD), PEER_LOSSES)
        step = step_of(copy.deepcopy(network), term, objective=WeightedSum(), unlabeled_first=first)
        losses[first] = step(labeled, unlabeled, 1.0)["loss"]
        shown[first] = [id(image) for image in step.network.shown]
    assert torch.equal(losses[False], losses[True])
    assert shown[True] == shown[False][::-1] == [id(unlabeled["image"]), id(labeled["image"])]


def test_views_and_toys_keep_their_protocols() -> None:
    """What the tests above rely on: a view draws anew each time and leaves the batch as it is."""
    images = unlabeled_batch()
    saved = images["image"].clone()
    views: list[View] = [Flip(), Noise()]
    for view in views:
        assert not torch.equal(view(images).batch["image"], saved)
    assert torch.equal(images["image"], saved)
    assert mse_loss(Noise()(images).batch["image"], Noise()(images).batch["image"]) > 0


def test_the_view_of_labeled_images_changes_them_and_keeps_their_targets() -> None:
    network, labeled = Toy(), batch()

    def loss(batch: Batch, view: Noise | None = None) -> Tensor:
        torch.manual_seed(3)
        return step_of(network, objective=WeightedSum(), labeled_view=view)(batch, None, 0.0)["loss"]

    view = Noise()
    assert not torch.equal(loss(labeled, view), loss(labeled))
    assert view.calls == 1
    torch.manual_seed(3)
    changed = Noise()(labeled).batch
    assert torch.equal(loss(labeled, view), loss(changed))
