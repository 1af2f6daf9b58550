"""Model file: saving of the best or last network of a training, and loading into a network."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events
from ignite.metrics import Accuracy
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator
from torch import Tensor, nn

from bundle.engines import BestModel, LastModel, ModelCheckpointLoader, save_whole
from bundle.engines.model_file import weights_of
from bundle.networks import UNet


def validate(best_model: BestModel, *scores: float, metric: str = "dice") -> None:
    """Run an evaluator once per score; the score is also the weight of the network, unless it is NaN."""
    for epoch, score in enumerate(scores, start=1):
        engine: Any = Engine(lambda engine, batch: None)
        engine.state.key_metric_name = "dice"
        best_model.attach(engine)

        @engine.on(Events.STARTED)
        def number(engine: Any, epoch: int = epoch, score: float = score) -> None:
            engine.state.epoch = epoch - 1
            engine.state.max_epochs = epoch
            engine.state.metrics = {"dice": -1.0, metric: score}

        nn.init.constant_(best_model.network.weight, 0.0 if math.isnan(score) else score)
        engine.run([0])


@pytest.mark.parametrize(
    ("scores", "best", "epoch"),
    [
        ((0.5, 0.7, 0.6), 0.7, 2),
        ((0.5, 0.5, 0.4), 0.5, 1),  # no better: the earlier stays
        ((-0.5, -0.2), -0.2, 2),
        ((0.0,), 0.0, 1),
        ((float("nan"), 0.3, 0.2), 0.3, 2),  # no number is no best
        ((0.3, float("nan"), 0.2), 0.3, 1),
    ],
)
@pytest.mark.parametrize("metric", [None, "jaccard"])
def test_the_best_model_stays(
    tmp_path: Path, scores: tuple[float, ...], best: float, epoch: int, metric: str | None
) -> None:
    best_model = BestModel(nn.Linear(1, 1), tmp_path / "models" / "model.pt", metric)
    validate(best_model, *scores, metric=metric or "dice")
    state = torch.load(tmp_path / "models" / "model.pt", weights_only=True)
    assert state["weight"].item() == pytest.approx(best)
    assert best_model.state_dict() == {"score": best, "epoch": epoch}


def test_the_best_model_is_a_plain_state_dict(tmp_path: Path) -> None:
    network = nn.Linear(1, 1)
    validate(BestModel(network, tmp_path / "model.pt"), 0.5)
    state = torch.load(tmp_path / "model.pt", weights_only=True)
    assert list(state) == ["weight", "bias"]
    assert all(type(value) is Tensor for value in state.values())
    nn.Linear(1, 1).load_state_dict(state)


def test_monais_log_of_the_best_score_goes_on_after_a_restart(tmp_path: Path) -> None:
    engine: Any = Engine(lambda engine, batch: None)
    best_model = BestModel(nn.Linear(1, 1), tmp_path / "model.pt")
    best_model.attach(engine)
    best_model.load_state_dict({"score": 0.75, "epoch": 3})
    assert (engine.state.best_metric, engine.state.best_metric_epoch) == (0.75, 3)


@pytest.mark.parametrize("kind", [BestModel, LastModel])
def test_what_a_killed_run_left_beside_the_model_is_taken_away(tmp_path: Path, kind: Any) -> None:
    (tmp_path / ".model.pt.1.partial").touch()
    engine: Any = Engine(lambda engine, batch: None)
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: setattr(engine.state, "metrics", {"dice": 0.5}))
    engine.state.key_metric_name = "dice"
    kind(nn.Linear(1, 1), tmp_path / "model.pt").attach(engine)
    engine.run([0])
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]


def test_without_validation_the_last_model_is_kept(tmp_path: Path) -> None:
    network = nn.Linear(2, 1)
    engine: Any = Engine(lambda engine, batch: network.weight.data.add_(1.0))
    LastModel(network, tmp_path / "models" / "model.pt").attach(engine)
    after: list[float] = []

    @engine.on(Events.EPOCH_COMPLETED)
    def look() -> None:
        after.append(float(torch.load(tmp_path / "models" / "model.pt", weights_only=True)["weight"][0, 0]))

    engine.run([0, 0], max_epochs=2)
    assert after[1] == pytest.approx(after[0] + 2), "it is there after each epoch, when the resume file is written"
    saved = torch.load(tmp_path / "models" / "model.pt", weights_only=True)
    assert torch.equal(saved["weight"], network.weight.data)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_a_diverged_training_leaves_the_last_good_model(tmp_path: Path, value: float) -> None:
    """Of such outputs, argmax makes background everywhere, with a score."""
    network = UNet(widths=(3, 3, 4, 4, 4))

    def validated() -> None:
        evaluator = SupervisedEvaluator(
            device=torch.device("cpu"),
            val_data_loader=DataLoader(Dataset([{"image": torch.rand(3, 16, 16), "label": torch.zeros(1, 16, 16)}])),
            network=network,
            key_val_metric={"dice": Accuracy(output_transform=lambda _: (torch.ones(2), torch.ones(2)))},
            val_handlers=[BestModel(network, tmp_path / "model.pt")],
        )
        evaluator.run(1)

    validated()
    saved = (tmp_path / "model.pt").read_bytes()
    for parameter in network.parameters():
        parameter.data.fill_(value)
    with pytest.raises(
        ValueError, match=r"^the network's output .*; its training diverged: use other weights, or train"
    ):
        validated()
    assert (tmp_path / "model.pt").read_bytes() == saved
    (tmp_path / "model.pt").unlink()
    with pytest.raises(ValueError, match="its training diverged"):
        validated()
    assert not (tmp_path / "model.pt").exists()


@pytest.mark.parametrize("value", [float("nan"), 1e30])
def test_a_training_without_validation_leaves_no_diverged_model(tmp_path: Path, value: float) -> None:
    network = nn.Conv2d(3, 2, 1)

    def step(engine: Engine, batch: int) -> dict[str, Tensor]:
        if engine.state.epoch == 2:
            network.weight.data.fill_(value)
        return {"image": torch.ones(2, 3, 4, 4)}

    engine: Any = Engine(step)
    LastModel(network, tmp_path / "model.pt").attach(engine)
    with pytest.raises(ValueError, match="training diverged: use other weights, or train"):
        engine.run([0], max_epochs=2)
    assert torch.isfinite(torch.load(tmp_path / "model.pt", weights_only=True)["weight"]).all()


def test_weights_are_saved_from_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors are copied to the CPU and the network stays on its device; the test needs no GPU."""
    fetched: list[tuple[int, ...]] = []
    original = Tensor.cpu
    monkeypatch.setattr(Tensor, "cpu", lambda tensor: fetched.append(tuple(tensor.shape)) or original(tensor))
    network = nn.Linear(2, 1)
    saved = weights_of(network)
    assert fetched == [(1, 2), (1,)]
    assert torch.equal(saved["weight"], network.weight.data)
    assert not saved["weight"].requires_grad


# Loading


def load(network: nn.Module, path: Path) -> None:
    """Load as evaluation and inference do at their start."""
    engine = Engine(lambda engine, batch: None)
    ModelCheckpointLoader(network, path).attach(engine)
    engine.run([0])


def test_a_model_goes_back_into_its_network(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first, second = UNet(widths=(3, 3, 4, 4, 4)), UNet(widths=(3, 3, 4, 4, 4))
    save_whole(weights_of(first), tmp_path / "model.pt")
    with caplog.at_level(logging.INFO, logger="bundle.engines"):
        load(second, tmp_path / "model.pt")
    assert all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())
    assert f"Model: {tmp_path / 'model.pt'}" in caplog.text


def test_the_prefix_of_a_parallel_network_is_removed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first, second = UNet(widths=(3, 3, 4, 4, 4)), UNet(widths=(3, 3, 4, 4, 4))
    save_whole(nn.DataParallel(first).state_dict(), tmp_path / "model.pt")
    with caplog.at_level(logging.INFO, logger="bundle.engines"):
        load(second, tmp_path / "model.pt")
    assert all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())
    assert "removed the prefix module. of all names" in caplog.text
    load(nn.DataParallel(second), tmp_path / "model.pt")


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_weights_that_are_no_numbers_are_refused(tmp_path: Path, value: float) -> None:
    network = nn.Linear(2, 1)
    torch.save({"weight": torch.full((1, 2), value), "bias": torch.zeros(1)}, tmp_path / "model.pt")
    with pytest.raises(
        ValueError, match=r"model.pt: the weights hold NaN or infinite values; their training diverged: use other"
    ):
        load(network, tmp_path / "model.pt")
    assert torch.isfinite(network.weight).all()


def test_no_model_is_said_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        load(nn.Linear(1, 1), tmp_path / "model.pt")
    assert str(caught.value) == (
        f"no model at {tmp_path / 'model.pt'}; train first, or give --ckpt_dir, the folder that holds model.pt"
    )


@pytest.mark.parametrize(
    ("weights", "text"),
    [
        (
            UNet(widths=(3, 3, 4, 4, 8)).state_dict(),
            r"does not fit this UNet: encoder\.down_4\.convs\.conv_0\.conv\.weight "
            r"has shape \(8, 4, 3, 3\), expected \(4, 4, 3, 3\), .* and 10 more; "
            r"give the overlays and sizes \(such as --network_def#widths\)",
        ),
        (
            {"weight": torch.zeros(1), "bias": torch.zeros(1)},
            r"does not fit this UNet: it lacks encoder\.conv_0\..* and \d+ more, it also has weight, bias; give",
        ),
        ({"network": {}, "trainer": {"epoch": 3}}, r"is a resume file, not a model; give the model\.pt in the"),
        ({"epoch": 3}, r"is not a state dict; give the model\.pt that a training wrote"),
        ([torch.zeros(1)], "is not a state dict"),
    ],
    ids=["widths", "names", "resume file", "no weights", "no names"],
)
def test_another_file_is_refused_and_changes_nothing(tmp_path: Path, weights: Any, text: str) -> None:
    path = tmp_path / "model.pt"
    torch.save(weights, path)
    network = UNet(widths=(3, 3, 4, 4, 4))
    before = weights_of(network)
    with pytest.raises(ValueError, match=rf"{path} .*{text}"):
        load(network, path)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda weights: {0: weights["weight"]}, "is not a state dict; give the model.pt that a training wrote"),
        (
            lambda weights: weights | {"weight": torch.ones(1, 2, dtype=torch.int64)},
            "weight holds torch.int64, expected",
        ),
        (
            lambda weights: weights | {"weight": weights["weight"].to_sparse()},
            "weight is a tensor without plain values",
        ),
        (lambda weights: weights | {"weight": weights["weight"].to("meta")}, "weight is a tensor without plain values"),
    ],
    ids=["integer keys", "integers", "sparse", "meta"],
)
def test_tensors_without_plain_weights_are_refused(tmp_path: Path, change: Any, text: str) -> None:
    network = nn.Linear(2, 1)
    before = network.weight.detach().clone()
    torch.save(change(weights_of(network)), tmp_path / "model.pt")
    with pytest.raises(ValueError, match=rf"model\.pt .*{text}"):
        load(network, tmp_path / "model.pt")
    assert torch.equal(network.weight, before)


@pytest.mark.parametrize("content", [b"", b"no model", "half"])
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes | str) -> None:
    path = tmp_path / "model.pt"
    network = nn.Linear(40, 40)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(network.state_dict(), path)
        path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(ValueError, match=r"cannot be read as weights: it is damaged .*; copy it again, or train again"):
        load(network, path)


def test_a_scripted_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.jit.script(nn.Linear(1, 1)).save(str(path))
    with pytest.raises(ValueError, match="cannot be read as weights: it is TorchScript; "):
        load(nn.Linear(1, 1), path)
