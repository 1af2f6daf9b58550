"""Weak teacher: annotations and a snapshot of the student's moving average, fused on the labeled images."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from ignite.engine import Events

from bundle.networks import UNet
from bundle.types import IGNORE

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
OVERLAY = (CONFIGS / "methods" / "weak_teacher.yaml").read_text(encoding="utf-8")
SPARSE: dict[str, Any] = yaml.safe_load((CONFIGS / "annotations" / "sparse.yaml").read_text(encoding="utf-8"))
ABLATIONS = re.findall(r"^#   [^:\n]*: --(\S+) '?([^'\n]+)'?$", OVERLAY, flags=re.M)
NOT_JUDGED: dict[str, Any] = {"validate#dataset#data": []}


def weights(network: torch.nn.Module) -> torch.Tensor:
    return torch.cat([value.detach().flatten() for value in network.parameters()])


def test_the_teacher_follows_slowly_and_its_snapshot_less_and_less_often(method):
    """Renewed at the end of epochs 1 and 3, it holds the average of then; the student has gone on."""
    setup = method("weak_teacher", max_epochs=4, **SPARSE, **NOT_JUDGED)
    teacher, snapshot = (setup.parser.get_parsed_content(name) for name in ("teacher", "snapshot"))
    teacher_network = setup.step.consistency["fused"].pseudo_labeler.teacher._teacher[0]
    assert teacher_network is snapshot.network
    assert teacher_network is not teacher.average
    assert type(teacher_network) is UNet
    averages, copies = [], [weights(snapshot.network)]

    @setup.trainer.on(Events.EPOCH_COMPLETED)
    def keep() -> None:
        averages.append(weights(teacher.average))
        copies.append(weights(snapshot.network))

    setup.trainer.run()
    renewed = [not torch.equal(before, after) for before, after in pairwise(copies)]
    assert renewed == [True, False, True, False]
    assert torch.equal(copies[1], averages[0])
    assert torch.equal(copies[3], averages[2])
    assert not torch.equal(averages[3], weights(setup.network))


def test_momentum_rises_and_the_threshold_falls_over_training(method):
    setup = method("weak_teacher")
    decay = setup.parser.get_parsed_content("teacher").decay
    threshold = setup.step.consistency["fused"].pseudo_labeler.confidence
    for progress, momentum, tau in ((0.0, 0.99, 0.95), (0.5, 0.9945, 0.6), (1.0, 0.999, 0.25)):
        assert decay(progress) == pytest.approx(momentum)
        assert threshold(progress) == pytest.approx(tau)


def test_annotations_teach_and_the_teacher_more_and_more(method):
    """The target is the annotation wherever there is one; other pixels count as the threshold falls."""
    setup = method("weak_teacher", **SPARSE, **{"sparse_annotation#keep": "50%"})
    labeled, unlabeled = setup.batches()
    assert unlabeled is None
    known = labeled["label"] != IGNORE
    assert 0 < known.float().mean() < 1
    counted = []
    for progress in (0.0, 0.1, 0.45, 0.7):
        label = setup.step.consistency["fused"].pseudo_labeler(labeled, {}, progress)["seg"]
        assert torch.equal(label.target[known], labeled["label"][known].long())
        assert label.target.max() <= 1
        assert (label.weight[known] == 1).all()
        counted.append(label.weight.mean().item())
    assert counted == sorted(counted)
    assert counted[0] == pytest.approx(known.float().mean().item()), "annotations alone during the warm-up"
    assert counted[1] < counted[3] == 1.0


def test_with_full_labels_it_is_supervised_learning(method):
    setup = method("weak_teacher", **{"train#step#labeled_view": None})
    labeled, _ = setup.batches()
    result = setup.step.train()(labeled, None, 0.0)
    assert result["counted/fused/seg"] == 1.0
    loss = setup.step.consistency["fused"].losses["seg"]
    assert result["loss"].item() == pytest.approx(
        loss(setup.network(labeled["image"]), labeled["label"]).item(), rel=1e-5
    )


def test_a_resumed_training_goes_on_with_teacher_and_snapshot(method, tmp_path):
    """Stopped after epoch 2, when the snapshot is one epoch behind the average: the rest is as it would have been."""

    def train(folder: str, **changes: Any) -> dict[str, torch.Tensor]:
        setup = method("weak_teacher", max_epochs=4, ckpt_dir=str(tmp_path / folder), **changes, **SPARSE, **NOT_JUDGED)
        networks = {"student": setup.network}
        networks["teacher"] = setup.parser.get_parsed_content("teacher").average
        networks["snapshot"] = setup.parser.get_parsed_content("snapshot").network
        setup.parser.get_parsed_content("train#resume_file").attach(setup.trainer)
        if folder == "stopped" and not changes:
            setup.trainer.add_event_handler(Events.EPOCH_COMPLETED(once=2), setup.trainer.terminate)
        setup.trainer.run()
        return {name: weights(network) for name, network in networks.items()}

    whole, half = train("whole"), train("stopped")
    resumed = train("stopped", resume=True)
    for name, expected in whole.items():
        assert torch.equal(resumed[name], expected), name
        assert not torch.equal(half[name], expected), name


def test_the_header_lists_the_ablations():
    assert len(ABLATIONS) == 7


@pytest.mark.parametrize(("key", "value"), ABLATIONS)
def test_an_ablation_of_the_header_is_a_setting(key, value, method):
    setup = method("weak_teacher", **NOT_JUDGED, **{key: value if value.startswith("$") else yaml.safe_load(value)})
    pseudo_labeler = setup.step.consistency["fused"].pseudo_labeler
    teacher = setup.parser.get_parsed_content("teacher")
    if key == "validate#network":
        assert setup.parser.get_parsed_content("validate#evaluator").network is teacher.average
    elif key == "teacher#decay":
        setup.trainer.run()
        assert torch.equal(weights(teacher.average), weights(setup.network))
    elif key == "consistency#fused#pseudo_labeler#teacher":
        assert pseudo_labeler.teacher._teacher[0] is teacher.average
    else:
        assert key in ("consistency#fused#pseudo_labeler#confidence", "consistency#fused#pseudo_labeler#warm_up")
        assert getattr(pseudo_labeler, key.rpartition("#")[2]) == float(value)
