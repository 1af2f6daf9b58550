"""TopoSemiSeg: one teacher, asked once, is followed pixel by pixel and, late, in its components."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bundle.networks import UNetPlusPlus


def gradient(setup, term: str) -> Tensor:
    """What one consistency term alone asks of the student's logits on unlabeled images, a pixel."""
    setup.open_up()
    setup.only_taught()
    setup.step.consistency = torch.nn.ModuleDict({term: setup.step.consistency[term]})
    labeled, unlabeled = setup.batches()
    answers: list[Tensor] = []
    heads = setup.network.heads

    def kept(image: Tensor) -> dict[str, Tensor]:
        output = heads(image)
        output["seg"].retain_grad()
        answers.append(output["seg"])
        return output

    setup.network.heads = kept
    setup.step.train()(labeled, unlabeled, 0.5)["loss"].backward()
    assert answers[0].grad is None  # the labeled images
    return answers[1].grad.abs().sum(dim=1)


def test_two_consistency_terms_ask_one_teacher_once(method):
    setup = method("topo_semi_seg")
    assert type(setup.network) is UNetPlusPlus
    teacher = setup.parser.get_parsed_content("teacher")
    assert teacher.decay == 0.999
    pixels, topology = setup.step.consistency["pixels"], setup.step.consistency["topology"]
    assert pixels.pseudo_labeler is topology.pseudo_labeler
    requested: list[Tensor] = []
    teacher.average.nested.register_forward_hook(lambda module, given, output: requested.append(given[0]))
    labeled, unlabeled = setup.batches()
    setup.step.train()(labeled, unlabeled, 1.0)
    assert len(requested) == 1
    assert torch.equal(requested[0], unlabeled["image"])


def test_the_topology_sets_in_late(method):
    setup = method("topo_semi_seg")
    labeled, unlabeled = setup.batches()
    for progress, pixels, topology in ((0.75, 0.1 * 0.7316, 0.0), (1.0, 0.1, 0.002)):
        result = {name: value.detach() for name, value in setup.step.train()(labeled, unlabeled, progress).items()}
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
    setup = method("topo_semi_seg")
    setup.step.eval()
    loss = setup.step.consistency["topology"].losses["seg"]
    loss.signal, loss.noise_weight = 0.05, 0.0  # an untrained network is sure of nothing
    labeled, unlabeled = setup.batches()
    with torch.no_grad():
        same = setup.step(labeled, unlabeled, 1.0)["unlabeled/topology/seg"]
        setup.network.nested.final_conv_0_4.bias += torch.tensor([-0.5, 0.5])
        apart = setup.step(labeled, unlabeled, 1.0)["unlabeled/topology/seg"]
    assert float(same) == pytest.approx(0.0, abs=1e-9)
    assert float(apart) > 1e-3
