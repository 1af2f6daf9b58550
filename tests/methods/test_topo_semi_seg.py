"""TopoSemiSeg: one teacher, asked once, is followed pixel by pixel and, late, in its components."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bundle.networks import UNetPlusPlus


def gradient(made, term: str) -> Tensor:
    """What one consistency term alone asks of the student's logits on unlabeled images, a pixel."""
    made.open_up()
    made.only_taught()
    made.step.consistency = torch.nn.ModuleDict({term: made.step.consistency[term]})
    labeled, unlabeled = made.batches()
    answers: list[Tensor] = []
    heads = made.network.heads

    def kept(image: Tensor) -> dict[str, Tensor]:
        answer = heads(image)
        answer["seg"].retain_grad()
        answers.append(answer["seg"])
        return answer

    made.network.heads = kept
    made.step.train()(labeled, unlabeled, 0.5)["loss"].backward()
    assert answers[0].grad is None  # the labeled images
    return answers[1].grad.abs().sum(dim=1)


def test_two_consistency_terms_ask_one_teacher_once(method):
    made = method("topo_semi_seg")
    assert type(made.network) is UNetPlusPlus
    teacher = made.parser.get_parsed_content("teacher")
    assert teacher.decay == 0.999
    pixels, topology = made.step.consistency["pixels"], made.step.consistency["topology"]
    assert pixels.pseudo_labeler is topology.pseudo_labeler
    asked: list[Tensor] = []
    teacher.average.nested.register_forward_hook(lambda module, given, answer: asked.append(given[0]))
    labeled, unlabeled = made.batches()
    made.step.train()(labeled, unlabeled, 1.0)
    assert len(asked) == 1
    assert torch.equal(asked[0], unlabeled["image"])


def test_the_topology_sets_in_late(method):
    made = method("topo_semi_seg")
    labeled, unlabeled = made.batches()
    for progress, pixels, topology in ((0.75, 0.1 * 0.7316, 0.0), (1.0, 0.1, 0.002)):
        result = {name: value.detach() for name, value in made.step.train()(labeled, unlabeled, progress).items()}
        assert result["unlabeled/topology/seg"] > 0.0
        expected = result["labeled/seg"] + pixels * result["unlabeled/pixels/seg"]
        expected += topology * result["unlabeled/topology/seg"]
        assert float(result["loss"]) == pytest.approx(float(expected), abs=1e-5)


def test_topology_teaches_peaks_and_saddles_and_the_other_consistency_term_all_pixels(method):
    assert gradient(method("topo_semi_seg"), "pixels").ne(0).float().mean() > 0.9
    share = gradient(method("topo_semi_seg"), "topology").ne(0).float().mean()
    assert 0.0 < share < 0.5


def test_a_student_that_equals_its_teacher_has_nothing_to_match(method):
    """The same network, the same pass: what is left of the topological loss is the student's own noise."""
    made = method("topo_semi_seg")
    made.step.eval()
    loss = made.step.consistency["topology"].losses["seg"]
    loss.signal, loss.noise_weight = 0.05, 0.0  # an untrained network is sure of nothing
    labeled, unlabeled = made.batches()
    with torch.no_grad():
        same = made.step(labeled, unlabeled, 1.0)["unlabeled/topology/seg"]
        made.network.nested.final_conv_0_4.bias += torch.tensor([-0.5, 0.5])
        apart = made.step(labeled, unlabeled, 1.0)["unlabeled/topology/seg"]
    assert float(same) == pytest.approx(0.0, abs=1e-9)
    assert float(apart) > 1e-3
