"""Semi-MoE with a moving average: the averaged gates write what the experts learn, and the average is evaluated."""

from __future__ import annotations

from typing import Any

import torch
from monai.engines.utils import IterationEvents

from bundle.semi_supervision import HeadPseudoLabeler, TeacherPseudoLabeler, to_target


def test_the_average_writes_what_semi_moe_writes_itself(method):
    """In four steps; in the first two the average is, but for rounding, the student itself."""
    plain = method("semi_moe").step.consistency["gates"].pseudo_labeler
    setup = method("semi_moe_ema", max_epochs=2)
    pseudo_labeler = setup.step.consistency["gates"].pseudo_labeler
    assert type(plain) is HeadPseudoLabeler
    assert type(pseudo_labeler) is TeacherPseudoLabeler
    assert (pseudo_labeler.sources, pseudo_labeler.forms) == (plain.sources, plain.forms)
    teacher = setup.parser.get_parsed_content("train#ema")
    average = teacher.average
    assert setup.parser.get_parsed_content("validate#evaluator").network is average
    last: dict[str, Any] = {}
    pseudo_labeler.register_forward_hook(lambda module, given, labels: last.update(batch=given[0], labels=labels))
    from_student: list[float] = []

    @torch.no_grad()
    def compare() -> None:
        """The labels of this step against what average and student say of the same images."""
        prediction, own = (network.eval().heads(last["batch"]["image"]) for network in (average, setup.network))
        for task, form in plain.forms.items():
            assert torch.equal(last["labels"][task].target, to_target(prediction[f"fused_{task}"], form))
        difference = last["labels"]["sdf"].target - to_target(own["fused_sdf"], "tanh")
        from_student.append(difference.abs().max().item())

    setup.trainer.add_event_handler(IterationEvents.FORWARD_COMPLETED, compare)
    setup.trainer.run()
    assert len(from_student) == teacher.updates == 4
    assert min(from_student[2:]) > 1e-3
