"""Federated learning: MONAI's client trains one round with the unchanged bundle."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.fl.client import MonaiAlgo
from monai.fl.utils.constants import ExtraItems, ModelType, WeightType
from monai.fl.utils.exchange_object import ExchangeObject

from bundle.networks import EfficientNetLite, SemiMoE, UNet


@pytest.fixture(scope="module")
def client(copy_bundle) -> Any:
    """A client that has trained one round, and the weights that the server had sent."""
    bundle_copy = copy_bundle("federated")
    small = {"device": "cpu", "amp": False}
    best = "runs/semi_moe_plus/model.pt"
    algo = MonaiAlgo(
        bundle_copy.root.name,
        local_epochs=1,
        train_kwargs=dict(small),
        eval_kwargs=dict(small),
        best_model_filepath=best,
    )
    algo.initialize({ExtraItems.CLIENT_NAME: "hospital", ExtraItems.APP_ROOT: str(bundle_copy.root.parent)})
    torch.manual_seed(5)
    sent = {name: value.clone() for name, value in SemiMoE(widths=(4, 8, 8, 8, 8)).state_dict().items()}
    algo.train(ExchangeObject(weights={name: value.clone() for name, value in sent.items()}))
    return algo, sent


def test_a_round_starts_from_the_servers_weights_and_returns_what_changed(client):
    algo, sent = client
    returned = algo.get_weights()
    assert returned.weight_type == WeightType.WEIGHT_DIFF
    assert returned.weights.keys() == sent.keys()
    learned = {name: value for name, value in returned.weights.items() if sent[name].ndim == 4}
    assert all(0 < float(value.abs().max()) < 0.1 for value in learned.values())
    assert algo.trainer.state.epoch == 1
    assert returned.statistics["num_executed_iterations"] == 2


def test_the_weights_load_into_the_network(client, monkeypatch):
    algo, sent = client
    monkeypatch.setattr(algo, "send_weight_diff", False)
    returned = algo.get_weights()
    assert returned.weight_type == WeightType.WEIGHTS
    network = algo.train_workflow.network_def
    assert returned.weights.keys() == network.state_dict().keys()
    network.load_state_dict(returned.weights)
    assert any(not torch.equal(value, sent[name]) for name, value in returned.weights.items())
    fresh = SemiMoE(widths=(4, 8, 8, 8, 8))
    fresh.load_state_dict(returned.weights)


def test_a_client_evaluates_the_servers_weights(client):
    algo, sent = client
    metrics = algo.evaluate(ExchangeObject(weights={name: value.clone() for name, value in sent.items()})).metrics
    assert 0 <= metrics["pooled_dice"] <= 1
    loaded = algo.evaluator.network.state_dict()
    assert all(torch.equal(value, sent[name]) for name, value in loaded.items())


def test_the_best_model_of_a_round_is_given_out(client):
    algo, sent = client
    best = algo.get_weights({ExtraItems.MODEL_TYPE: ModelType.BEST_MODEL})
    assert best.weights.keys() == sent.keys()


def test_a_client_trains_another_encoder(copy_bundle):
    """Overlays set another encoder, with its own learning rate (here 0) and batch statistics of its own data."""
    bundle_copy = copy_bundle("encoder")
    files = [f"configs/{name}" for name in ("train.json", "methods/supervised.yaml", "encoders/lite0.yaml")]
    settings = {"device": "cpu", "amp": False, "network_def#widths": [4, 8, 8, 8, 8]}
    settings |= {"network_def#encoder#pretrained": False, "train#optimizer#params#encoder_learning_rate": 0.0}
    algo = MonaiAlgo(
        bundle_copy.root.name,
        local_epochs=1,
        config_train_filename=files,
        config_evaluate_filename=[*files, "configs/evaluate.json"],
        train_kwargs=settings,
        eval_kwargs={key: value for key, value in settings.items() if "encoder" not in key},
    )
    algo.initialize({ExtraItems.CLIENT_NAME: "hospital", ExtraItems.APP_ROOT: str(bundle_copy.root.parent)})
    sent = UNet(widths=(4, 8, 8, 8, 8), encoder=EfficientNetLite(pretrained=False)).state_dict()
    algo.train(ExchangeObject(weights={name: value.clone() for name, value in sent.items()}))
    changed = algo.get_weights().weights
    assert changed.keys() == sent.keys()
    moved = {name.split(".")[0] for name, value in changed.items() if sent[name].ndim == 4 and value.any()}
    assert moved == {"decoder", "head"}
