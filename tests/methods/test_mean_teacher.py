"""Mean Teacher: the moving average teaches, under noise of its own, and is what is evaluated."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from ignite.engine import Events
from monai.bundle import ConfigParser

from bundle.handlers import MovingAverage
from bundle.networks import UNet


def test_the_teacher_follows_the_student_and_is_never_taught(method):
    setup = method("mean_teacher", max_epochs=2)
    teacher: MovingAverage = setup.parser.get_parsed_content("train#ema")
    assert setup.step.consistency["teacher"].pseudo_labeler._teacher[0] is teacher.average
    learned = {id(parameter) for group in setup.trainer.optimizer.param_groups for parameter in group["params"]}
    inside = {id(parameter) for parameter in setup.step.parameters()}
    assert not (learned | inside) & {id(parameter) for parameter in teacher.average.parameters()}
    expected: list[torch.Tensor] = []

    def by_hand(engine: Any) -> None:
        student = setup.network.head.weight.detach().clone()
        decay = min(1 - 1 / (len(expected) + 1), 0.99)
        expected.append(student if not expected else decay * expected[-1] + (1 - decay) * student)
        assert torch.allclose(teacher.average.head.weight, expected[-1], atol=1e-6)
        assert not teacher.average.training

    setup.trainer.add_event_handler(Events.ITERATION_COMPLETED, by_hand)
    setup.trainer.run()
    assert teacher.updates == len(expected) == 4
    assert not torch.allclose(teacher.average.head.weight, setup.network.head.weight, atol=1e-5)
    assert all(parameter.grad is None for parameter in teacher.average.parameters())


def test_student_and_teacher_see_different_noise(method):
    """Were it the same, or none, a teacher that equals its student would find nothing to teach."""
    setup = method("mean_teacher")
    setup.open_up()
    term, batches = setup.step.consistency["teacher"], setup.batches()
    setup.step.eval()  # without batch statistics a student that equals its teacher answers the same
    recorded: dict[str, torch.Tensor] = {}
    teacher = term.pseudo_labeler._teacher[0]
    teacher.load_state_dict(setup.network.state_dict())
    teacher.encoder.register_forward_pre_hook(lambda module, given: recorded.update(teacher=given[0]))
    setup.network.encoder.register_forward_pre_hook(lambda module, given: recorded.update(student=given[0]))
    image = batches[1]["image"]
    assert setup.step(*batches, 1.0)["unlabeled/teacher/seg"].item() > 1e-8
    noise = {name: given - image for name, given in recorded.items()}
    for drawn in noise.values():
        assert drawn.abs().max().item() == pytest.approx(0.2, abs=1e-5)
        assert drawn.std().item() == pytest.approx(0.096, abs=0.005)
    assert abs(torch.corrcoef(torch.stack([drawn.flatten() for drawn in noise.values()]))[0, 1].item()) < 0.1
    term.student_view = term.source_view = None
    assert setup.step(*batches, 1.0)["unlabeled/teacher/seg"].item() == pytest.approx(0.0, abs=1e-10)


@pytest.mark.parametrize("last", ["evaluate.json", "methods/mean_teacher.yaml"])
def test_the_teacher_is_validated_saved_and_evaluated(last, method, tiny, repository_root, tmp_path):
    setup = method("mean_teacher")
    evaluator = setup.parser.get_parsed_content("validate#evaluator")
    teacher = setup.parser.get_parsed_content("train#ema").average
    assert evaluator.network is teacher
    setup.trainer.run()
    saved = torch.load(tmp_path / "models" / "model.pt", weights_only=True)
    assert all(torch.equal(value, teacher.state_dict()[name]) for name, value in saved.items())
    student = setup.network.state_dict()
    assert any(not torch.equal(value, student[name]) for name, value in saved.items())
    UNet(widths=tiny["network_def#widths"]).load_state_dict(saved)

    names = ["train.json", *sorted(["evaluate.json", "methods/mean_teacher.yaml"], key=lambda name: name == last)]
    parser = ConfigParser()
    parser.read_config([str(repository_root / "configs" / name) for name in names])
    parser.update(tiny)
    parser.get_parsed_content("evaluating")
    repeated = parser.get_parsed_content("validate#evaluator")
    assert all(torch.equal(value, saved[name]) for name, value in repeated.network.state_dict().items())
    assert repeated.state.metrics["pooled_dice"] > 0
