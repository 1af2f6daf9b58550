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
    made = method(name, val_interval=1, **{key: size[key] for key in ("crop_size",)})
    groups = made.trainer.optimizer.param_groups
    assert len(groups) == 2, "a plain encoder keeps the optimizer of older resume files"
    assert [id(one) for one in groups[0]["params"]] == [id(one) for one in made.network.parameters()]
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
    # biases before a batch normalization have no gradient but rounding, so ask for the weights
    still = {name for name, value in after.items() if value.ndim > 1 and torch.equal(value, before[name])}
    assert still == set()
    saved = torch.load(tmp_path / "models" / "model.pt", weights_only=True)
    assert saved.keys() == made.network.state_dict().keys()
    assert 0 <= made.parser.get_parsed_content("validate#evaluator").state.metrics["pooled_dice"] <= 1

    inference = ConfigParser()
    inference.read_config(str(configs / "inference.json"))
    given = ("bundle_root", "ckpt_dir", "device", "amp")
    places = {"dataset_dir": str(next((phantom_dir / "image").glob("*.png"))), "output_dir": str(tmp_path / "masks")}
    inference.update({key: tiny[key] for key in given} | places)
    inference.get_parsed_content("evaluator").run()
    assert len(list((tmp_path / "masks").glob("*_mask.png"))) == 1
    assert inference.get_parsed_content("crop_size") == [128, 128]

    evaluation = ConfigParser()
    evaluation.read_config([str(configs / "train.json"), str(configs / "evaluate.json")])
    given = ("bundle_root", "ckpt_dir", "dataset_dir", "device", "amp")
    evaluation.update({key: tiny[key] for key in given} | {"output_dir": str(tmp_path / "evaluation")})
    assert evaluation.get_parsed_content("data_list") == tiny["data_list"]
    same = [one.get_parsed_content("data#class_target") for one in (made.parser, evaluation)]
    assert type(same[0]) is type(same[1])
    assert vars(same[0]).get("grades") == vars(same[1]).get("grades")
    evaluated = evaluation.get_parsed_content("validate#evaluator").network
    trained = made.parser.get_parsed_content("validate#network")
    for network in (evaluated, trained):
        ModelCheckpointLoader(network, tmp_path / "models" / "model.pt").load()
    image = torch.randn(1, 3, 128, 128)
    with torch.no_grad():
        expected = trained.eval()(image)
        assert expected.shape == (1, made.parser.get_parsed_content("classes"), 128, 128)
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
    made = method(name, encoder="lite0", **settings)
    groups = made.trainer.optimizer.param_groups
    assert [group["lr"] for group in groups[2:]] == [0.0]
    learned = {id(parameter) for group in groups for parameter in group["params"]}
    assert learned == {id(parameter) for parameter in made.step.parameters()}
    encoders = {id(parameter) for parameter in groups[2]["params"]}
    assert encoders == {id(parameter) for parameter in made.network.encoder_parameters()} != set()
    before = copied(made.network)
    made.trainer.run()
    assert made.trainer.state.iteration == 2
    assert math.isfinite(float(made.trainer.state.step["loss"]))
    for key, value in made.network.named_parameters():
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
        for one, other in zip(before["params"], after["params"], strict=True):
            assert torch.equal(one, other)
            assert torch.equal(saved.state[one]["exp_avg"], loaded.state[other]["exp_avg"])
    second.trainer.run()
    assert second.trainer.state.iteration == 4


@pytest.mark.parametrize("name", METHODS)
def test_consistency_terms_teach_the_student_and_no_source_in_steps_as_many_as_those_of_others(name, method):
    """Methods are compared after as many steps on as many labeled images; pseudo-labels carry no gradient."""
    made = method(name, batch_size=1, data_list="heldout_20_seed0.json")
    assert made.trainer.state.epoch_length == 6
    assert len(made.trainer.data_loader.dataset) == 2
    used = made.trainer.unlabeled_data_loader is not None
    assert made.step.needs_unlabeled == used == (name not in WITHOUT_UNLABELED)
    if name in WITHOUT_CONSISTENCY:
        return
    made.open_up()
    made.only_taught()
    made.step.train()
    labeled, unlabeled = made.batches()
    heads = made.network.heads((unlabeled or labeled)["image"])
    taught = {head for term in made.step.consistency.values() for head in term.losses}
    for term in made.step.regularizers.values():
        taught |= {term.seg, term.sdf} if isinstance(term, CrossTaskRegularizer) else {term.head}
    parameters = dict(made.network.named_parameters())
    reached = torch.autograd.grad(
        sum(heads[head].sum() for head in sorted(taught)), list(parameters.values()), allow_unused=True
    )
    students = {name for name, gradient in zip(parameters, reached, strict=True) if gradient is not None}
    written: list[dict[str, PseudoLabel]] = []
    for term in made.step.consistency.values():
        term.pseudo_labeler.register_forward_hook(lambda pseudo_labeler, given, labels: written.append(labels))

    made.step(labeled, unlabeled, 0.5)["loss"].backward()
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
