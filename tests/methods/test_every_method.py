"""Every method of configs/methods, found by glob: it trains, and its consistency terms reach only the student."""

from __future__ import annotations

import math
import traceback
from pathlib import Path

import pytest
import torch
import yaml
from ignite.engine import Events
from monai.bundle import ConfigParser
from torch import Tensor, nn

from bundle.engines import ModelCheckpointLoader
from bundle.semi_supervision import CrossTaskRegularizer
from bundle.types import PseudoLabel

METHODS = sorted(path.stem for path in (Path(__file__).resolve().parents[2] / "configs" / "methods").glob("*.yaml"))
WITH_ENCODER = {"supervised", "semi_moe", "semi_moe_shared_encoder", "cross_teaching", "k_experts"}
"""Methods whose networks use an encoder in different ways; with another encoder the others are slow tests."""
WITHOUT_CONSISTENCY = {"supervised"}
"""Methods without consistency terms."""
WITHOUT_UNLABELED = {*WITHOUT_CONSISTENCY, "weak_teacher"}
"""Methods that do not use unlabeled images. The term of ``weak_teacher`` is on sparsely labeled images."""
WITHOUT_ENCODERS = {"topo_semi_seg"}
"""Methods whose network takes no encoder."""
WITHOUT_PSEUDO_LABELERS = {"entropy"}
"""Methods that teach from unlabeled images by a term without a target: nobody writes pseudo-labels."""


def copied(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.named_parameters()}


def test_there_are_methods():
    assert {"semi_moe", *WITHOUT_UNLABELED} <= set(METHODS)


@pytest.mark.parametrize("name", METHODS)
def test_two_steps_teach_the_whole_network_and_its_folder_is_enough_to_use_it(
    name, method, tiny, repository_root, phantom_dir, tmp_path
):
    """Trained for two steps at demo size, it predicts and is evaluated without overlays: ``model.json`` has them."""
    configs = repository_root / "configs"
    size = yaml.safe_load((configs / "sizes" / "demo.yaml").read_text(encoding="utf-8"))
    setup = method(name, val_interval=1, **{key: size[key] for key in ("crop_size",)})
    groups = setup.trainer.optimizer.param_groups
    assert len(groups) == 2, "a plain encoder keeps the optimizer of older resume files"
    assert [id(parameter) for parameter in groups[0]["params"]] == [
        id(parameter) for parameter in setup.network.parameters()
    ]
    before = copied(setup.step)
    losses: list[float] = []
    setup.trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda engine: losses.append(float(engine.state.step["loss"]))
    )
    setup.trainer.run()
    assert setup.trainer.state.iteration == len(losses) == 2
    assert all(math.isfinite(loss) for loss in losses)
    after = copied(setup.step)
    assert all(torch.isfinite(value).all() for value in after.values())
    # biases before a batch normalization have no gradient but rounding, so ask for the weights
    unchanged = {name for name, value in after.items() if value.ndim > 1 and torch.equal(value, before[name])}
    assert unchanged == set()
    saved = torch.load(tmp_path / "models" / "model.pt", weights_only=True)
    assert saved.keys() == setup.network.state_dict().keys()
    assert 0 <= setup.parser.get_parsed_content("validate#evaluator").state.metrics["pooled_dice"] <= 1

    inference = ConfigParser()
    inference.read_config(str(configs / "inference.json"))
    given = ("bundle_root", "ckpt_dir", "device", "amp")
    paths = {"dataset_dir": str(next((phantom_dir / "image").glob("*.png"))), "output_dir": str(tmp_path / "masks")}
    inference.update({key: tiny[key] for key in given} | paths)
    inference.get_parsed_content("evaluator").run()
    assert len(list((tmp_path / "masks").glob("*_mask.png"))) == 1
    assert inference.get_parsed_content("crop_size") == [128, 128]

    evaluation = ConfigParser()
    evaluation.read_config([str(configs / "train.json"), str(configs / "evaluate.json")])
    given = ("bundle_root", "ckpt_dir", "dataset_dir", "device", "amp")
    evaluation.update({key: tiny[key] for key in given} | {"output_dir": str(tmp_path / "evaluation")})
    assert evaluation.get_parsed_content("data_list") == tiny["data_list"]
    same = [item.get_parsed_content("data#class_target") for item in (setup.parser, evaluation)]
    assert type(same[0]) is type(same[1])
    assert vars(same[0]).get("grades") == vars(same[1]).get("grades")
    evaluated = evaluation.get_parsed_content("validate#evaluator").network
    trained = setup.parser.get_parsed_content("validate#network")
    for network in (evaluated, trained):
        ModelCheckpointLoader(network, tmp_path / "models" / "model.pt").load()
    image = torch.randn(1, 3, 128, 128)
    with torch.no_grad():
        expected = trained.eval()(image)
        assert expected.shape == (1, setup.parser.get_parsed_content("classes"), 128, 128)
        assert torch.equal(inference.get_parsed_content("network").eval()(image), expected)
        assert torch.equal(evaluated.eval()(image), expected)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in WITH_ENCODER else pytest.mark.slow) for name in METHODS]
)
def test_two_steps_with_another_encoder(name, method):
    """Encoders in a group of the optimizer with a rate of their own; a U-Net++ says that it takes none."""
    settings = {"network_def#encoder#pretrained": False, "train#optimizer#params#encoder_learning_rate": 0.0}
    if name in WITHOUT_ENCODERS:
        with pytest.raises(RuntimeError) as refusal:
            method(name, encoder="lite0", **settings)
        assert "U-Net++ cannot use another encoder" in "".join(traceback.format_exception(refusal.value))
        return
    setup = method(name, encoder="lite0", **settings)
    groups = setup.trainer.optimizer.param_groups
    assert [group["lr"] for group in groups[2:]] == [0.0]
    learned = {id(parameter) for group in groups for parameter in group["params"]}
    assert learned == {id(parameter) for parameter in setup.step.parameters()}
    encoders = {id(parameter) for parameter in groups[2]["params"]}
    assert encoders == {id(parameter) for parameter in setup.network.encoder_parameters()} != set()
    before = copied(setup.network)
    setup.trainer.run()
    assert setup.trainer.state.iteration == 2
    assert math.isfinite(float(setup.trainer.state.step["loss"]))
    for key, value in setup.network.named_parameters():
        assert torch.isfinite(value).all()
        if value.ndim > 1:
            assert torch.equal(value, before[key]) == (id(value) in encoders), key


def test_a_training_with_another_encoder_resumes(method):
    settings = {"network_def#encoder#pretrained": False, "train#optimizer#params#encoder_learning_rate": 1e-4}
    first = method("supervised", encoder="lite0", **settings)
    first.parser.get_parsed_content("train#resume_file").attach(first.trainer)
    first.trainer.run()
    second = method("supervised", encoder="lite0", resume=True, max_epochs=2, **settings)
    second.parser.get_parsed_content("train#resume_file").attach(second.trainer)
    saved, loaded = first.trainer.optimizer, second.trainer.optimizer
    for before, after in zip(saved.param_groups, loaded.param_groups, strict=True):
        for left, right in zip(before["params"], after["params"], strict=True):
            assert torch.equal(left, right)
            assert torch.equal(saved.state[left]["exp_avg"], loaded.state[right]["exp_avg"])
    second.trainer.run()
    assert second.trainer.state.iteration == 4


@pytest.mark.parametrize("name", METHODS)
def test_consistency_terms_teach_the_student_and_no_source_in_steps_as_many_as_those_of_others(name, method):
    """Methods are compared after as many steps on as many labeled images; pseudo-labels carry no gradient."""
    setup = method(name, batch_size=1, data_list="heldout_20_seed0.json")
    assert setup.trainer.state.epoch_length == 6
    assert len(setup.trainer.data_loader.dataset) == 2
    used = setup.trainer.unlabeled_data_loader is not None
    assert setup.step.needs_unlabeled == used == (name not in WITHOUT_UNLABELED)
    if name in WITHOUT_CONSISTENCY:
        return
    setup.open_up()
    setup.only_taught()
    setup.step.train()
    labeled, unlabeled = setup.batches()
    heads = setup.network.heads((unlabeled or labeled)["image"])
    taught = {head for term in setup.step.consistency.values() for head in term.losses}
    for term in setup.step.regularizers.values():
        taught |= {term.seg, term.sdf} if isinstance(term, CrossTaskRegularizer) else {term.head}
    parameters = dict(setup.network.named_parameters())
    reached = torch.autograd.grad(
        sum(heads[head].sum() for head in sorted(taught)), list(parameters.values()), allow_unused=True
    )
    students = {name for name, gradient in zip(parameters, reached, strict=True) if gradient is not None}
    written: list[dict[str, PseudoLabel]] = []
    for term in setup.step.consistency.values():
        term.pseudo_labeler.register_forward_hook(lambda pseudo_labeler, given, labels: written.append(labels))

    setup.step(labeled, unlabeled, 0.5)["loss"].backward()
    size = {name: 0.0 if value.grad is None else float(value.grad.norm()) for name, value in parameters.items()}
    assert all(math.isfinite(norm) for norm in size.values())
    unmoved = {name for name in students if parameters[name].ndim > 1 and size[name] == 0.0}
    assert unmoved == set(), "the consistency terms leave a part of the student without gradient"
    moved = {name for name in parameters.keys() - students if size[name] != 0.0}
    assert moved == set(), "gradient reaches a part that only writes labels"
    assert bool(written) == (name not in WITHOUT_PSEUDO_LABELERS)
    for labels in written:
        for head, label in labels.items():
            for tensor in (label.target, label.weight):
                assert tensor is None or (not tensor.requires_grad and tensor.grad_fn is None), head
            assert torch.isfinite(label.target.float()).all()
