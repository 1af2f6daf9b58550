"""Every method of configs/methods, found by glob: it trains, its lessons teach the student, and nobody else."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Events
from monai.bundle import ConfigParser
from torch import Tensor, nn

from bundle.engines import SemiSupervisedTrainer
from bundle.engines.trainer import tensors_of
from bundle.networks import SemiMoE, UNet
from bundle.teaching import ConstantRamp, Step
from bundle.types import Batch, PseudoLabel, Scalars

METHODS = sorted((Path(__file__).resolve().parents[1] / "configs" / "methods").glob("*.yaml"))
WITHOUT_LESSONS = {"supervised"}
"""Methods that leave the unlabeled images alone; every other must teach from them."""
TEACHING = [path for path in METHODS if path.stem not in WITHOUT_LESSONS]


class OnlyTaught(nn.Module):
    """An objective that counts the unlabeled images alone."""

    def forward(self, labeled: Scalars, unlabeled: Scalars, progress: float) -> tuple[Tensor, Scalars]:
        return torch.stack(list(unlabeled.values())).sum(), {}


@dataclass
class Method:
    """A method as its overlay makes it."""

    parser: ConfigParser
    trainer: SemiSupervisedTrainer
    step: Step
    network: nn.Module

    def batches(self) -> tuple[Batch, Batch | None]:
        """The first batch of each stream, as plain tensors."""
        cpu, other = torch.device("cpu"), self.trainer.unlabeled_data_loader
        labeled = tensors_of(next(iter(self.trainer.data_loader)), cpu)
        return labeled, None if other is None else tensors_of(next(iter(other)), cpu)

    def open_up(self) -> None:
        """All lessons at full weight from the first step on, and no pixel left out."""
        for part in (self.step.objective, *self.step.lessons.values(), *self.step.regularizers.values()):
            if hasattr(part, "ramp"):
                part.ramp = ConstantRamp(1.0)
        for lesson in self.step.lessons.values():
            if hasattr(lesson.labeler, "confidence"):
                lesson.labeler.confidence = 0.0


@pytest.fixture
def method(tiny: dict[str, Any], repository_root: Path) -> Callable[..., Method]:
    """Makes a method by its overlay, tiny, from the same random numbers."""

    def make(overlay: Path, **changes: Any) -> Method:
        torch.manual_seed(0)
        parser = ConfigParser()
        parser.read_config([str(repository_root / "configs" / "train.json"), str(overlay)])
        parser.update(tiny | {"max_epochs": 1} | changes)
        trainer = parser.get_parsed_content("train#trainer")
        return Method(parser, trainer, trainer.step, trainer.network)

    return make


def copied(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.named_parameters()}


def test_there_are_methods():
    assert {"semi_moe", *WITHOUT_LESSONS} <= {path.stem for path in METHODS}
    assert TEACHING


@pytest.mark.parametrize("overlay", METHODS, ids=lambda path: path.stem)
def test_two_steps_of_training_teach_the_whole_network(overlay, method, tmp_path):
    made = method(overlay, val_interval=1)
    before = copied(made.step)
    losses: list[float] = []
    made.trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda engine: losses.append(float(engine.state.step["loss"]))
    )
    made.trainer.run()
    assert made.trainer.state.iteration == len(losses) == 2
    assert all(math.isfinite(loss) for loss in losses)
    after = copied(made.step)
    assert all(torch.isfinite(value).all() for value in after.values())
    # biases before a batch normalisation have no gradient but rounding, so ask for the weights
    still = {name for name, value in after.items() if value.ndim > 1 and torch.equal(value, before[name])}
    assert still == set()
    saved = torch.load(tmp_path / "models" / "model.pt", weights_only=True)
    assert saved.keys() == made.network.state_dict().keys()
    assert 0 <= made.parser.get_parsed_content("validate#evaluator").state.metrics["pooled_dice"] <= 1


@pytest.mark.parametrize("overlay", METHODS, ids=lambda path: path.stem)
def test_the_answer_is_one_tensor_of_logits_and_scripts(overlay, method):
    network = method(overlay).network.eval()
    image = torch.randn(2, 3, 32, 48)
    with torch.no_grad():
        answer = network(image)
        assert answer.shape == (2, 2, 32, 48)
        assert torch.allclose(torch.jit.script(network)(image), answer, atol=1e-6)


@pytest.mark.parametrize("overlay", METHODS, ids=lambda path: path.stem)
def test_all_methods_make_the_same_steps(overlay, method):
    """Methods are compared after as many optimiser steps, on as many labeled images."""
    made = method(overlay, batch_size=1, data_list="heldout_20_seed0.json")
    assert made.trainer.state.epoch_length == 6
    assert len(made.trainer.data_loader.dataset) == 2
    used = made.trainer.unlabeled_data_loader is not None
    assert made.step.needs_unlabeled == used == (overlay.stem not in WITHOUT_LESSONS)


@pytest.mark.parametrize("overlay", TEACHING, ids=lambda path: path.stem)
def test_the_lessons_teach_the_student_and_no_source(overlay, method):
    made = method(overlay)
    made.open_up()
    made.step.objective = OnlyTaught()
    made.step.train()
    labeled, unlabeled = made.batches()
    heads = made.network.heads(unlabeled["image"])
    taught = {head for lesson in made.step.lessons.values() for head in lesson.losses}
    parameters = dict(made.network.named_parameters())
    reached = torch.autograd.grad(
        sum(heads[head].sum() for head in sorted(taught)), list(parameters.values()), allow_unused=True
    )
    students = {name for name, gradient in zip(parameters, reached, strict=True) if gradient is not None}

    made.step(labeled, unlabeled, 0.5)["loss"].backward()
    size = {name: 0.0 if value.grad is None else float(value.grad.norm()) for name, value in parameters.items()}
    assert all(math.isfinite(norm) for norm in size.values())
    unmoved = {name for name in students if parameters[name].ndim > 1 and size[name] == 0.0}
    assert unmoved == set(), "the lessons leave a part of the student without gradient"
    moved = {name for name in parameters.keys() - students if size[name] != 0.0}
    assert moved == set(), "gradient reaches a part that only writes labels"


@pytest.mark.parametrize("overlay", TEACHING, ids=lambda path: path.stem)
def test_a_pseudo_label_carries_no_gradient(overlay, method):
    made = method(overlay)
    made.open_up()
    labeled, unlabeled = made.batches()
    written: list[dict[str, PseudoLabel]] = []
    for lesson in made.step.lessons.values():
        lesson.labeler.register_forward_hook(lambda labeler, given, labels: written.append(labels))
    made.step.train()(labeled, unlabeled, 0.5)
    assert written
    for labels in written:
        for head, label in labels.items():
            for tensor in (label.target, label.weight):
                assert tensor is None or (not tensor.requires_grad and tensor.grad_fn is None), head
            assert torch.isfinite(label.target.float()).all()


# Semi-MoE


def test_semi_moe_leaves_gates_and_fused_heads_to_the_labeled_images(method, repository_root):
    """Only the experts learn from the gates' answers: what writes the labels gets exactly nothing back."""
    made = method(repository_root / "configs" / "methods" / "semi_moe.yaml")
    assert isinstance(made.network, SemiMoE)
    made.open_up()
    labeled, unlabeled = made.batches()
    made.step.train()
    writers = [name for name, _ in made.network.named_parameters() if name.startswith("tasks.")]
    assert len(writers) >= 6

    def gradients(unlabeled_batch: Batch | None, objective: nn.Module) -> dict[str, Tensor]:
        made.step.zero_grad()
        made.step.objective = objective
        made.step(labeled, unlabeled_batch, 0.5)["loss"].backward()
        return {name: value.grad for name, value in made.network.named_parameters() if value.grad is not None}

    whole = made.step.objective
    taught = gradients(unlabeled, OnlyTaught())
    assert all(name not in taught or not taught[name].any() for name in writers)
    assert all(taught[f"expert_heads.{task}.weight"].abs().max() > 0 for task in ("seg", "sdf", "boundary"))
    held = gradients(None, whole)
    assert all(held[name].any() for name in writers if name.endswith("weight"))


# Supervised


def test_supervised_is_a_u_net_on_the_labeled_images_alone(method, repository_root):
    made = method(repository_root / "configs" / "methods" / "supervised.yaml")
    assert type(made.network) is UNet
    assert len(made.step.lessons) == len(made.step.regularizers) == 0
    assert list(made.step.objective.parameters()) == []
    labeled, unlabeled = made.batches()
    assert unlabeled is None
    result = made.step.train()(labeled, None, 0.5)
    expected = made.parser.get_parsed_content("loss_seg")(made.network(labeled["image"]), labeled["label"])
    assert torch.allclose(result["loss"].detach(), expected.detach(), atol=1e-6)
