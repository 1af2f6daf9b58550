"""Uncertainty scores of pictures, and the config that computes them."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, run
from monai.inferers import SimpleInferer, SlidingWindowInferer
from PIL import Image
from torch import Tensor, nn

from bundle.engines import ModelCheckpointLoader
from bundle.inference import DisagreementScorer, annotation_order, disagreement
from bundle.networks import SemiMoE, UNet

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
WIDTHS = (4, 8, 8, 8, 8)
FILES = ["inference.json", "inference/scoring.yaml"]


class Columns(nn.Module):
    """Network whose heads agree in the left half of a picture and contradict each other in the right half."""

    def heads(self, image: Tensor) -> dict[str, Tensor]:
        sure = torch.arange(image.shape[-1]).lt(image.shape[-1] // 2).expand(image[:, :1].shape).float()
        scores, distance = torch.cat([-50 * sure, 50 * sure], dim=1), 50 * sure
        return {"seg": scores, "fused_seg": scores, "sdf": distance, "fused_sdf": distance}

    def forward(self, image: Tensor) -> Tensor:
        return self.heads(image)["seg"]


def read(record: dict[str, Any]) -> dict[str, Any]:
    """Preprocessing of records that already contain the picture."""
    return {"image": record["image"]}


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """Return a picture of noise with different width and height."""
    path = tmp_path / "tile.png"
    Image.fromarray(np.random.default_rng(3).integers(0, 255, (40, 56, 3)).astype(np.uint8)).save(path)
    return path


@pytest.fixture
def parser(tiny: dict[str, Any]) -> ConfigParser:
    """Return the shipped config with a tiny network, with weights in ``models/model.pt``."""
    folder = Path(tiny["ckpt_dir"])
    folder.mkdir()
    torch.manual_seed(4)
    torch.save(SemiMoE(widths=WIDTHS).state_dict(), folder / "model.pt")
    return configured(tiny)


def configured(settings: dict[str, Any], *files: str, **changes: Any) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / name) for name in [*FILES, *files]])
    names = ("bundle_root", "ckpt_dir", "device", "amp", "network_def#widths", "crop_size", "num_workers")
    parser.update({name: settings[name] for name in names} | changes)
    return parser


def loaded(parser: ConfigParser) -> DisagreementScorer:
    """Create the scorer as a caller does."""
    network = parser.get_parsed_content("network")
    ModelCheckpointLoader(network, Path(parser.get_parsed_content("ckpt_dir")) / "model.pt").load()
    return parser.get_parsed_content("scorer")


@pytest.mark.parametrize("score", ["disagreement", "entropy"])
@pytest.mark.parametrize("inferer", [SimpleInferer(), SlidingWindowInferer((8, 8), overlap=0.0)])
def test_it_is_the_mean_over_the_pixels(score, inferer):
    image = torch.zeros(3, 16, 32)
    scorer = DisagreementScorer(Columns(), read, inferer, score)
    result = scorer({"image": image})
    assert isinstance(result, float)
    assert result == pytest.approx(0.5, abs=1e-5)


def test_an_entropy_by_hand():
    class Lone(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return torch.tensor([0.5, 0.25, 0.25]).log().reshape(1, 3, 1, 1).expand(-1, -1, *image.shape[2:])

    result = DisagreementScorer(Lone(), read, SimpleInferer(), "entropy")({"image": torch.zeros(3, 4, 4)})
    assert result == pytest.approx(1.5 * math.log(2) / math.log(3), abs=1e-6)


@pytest.mark.parametrize("classes", [2, 3])
def test_it_is_the_disagreement_of_the_heads_for_any_number_of_classes(classes):
    network = SemiMoE(widths=WIDTHS, out_channels=classes).train()
    image = torch.randn(3, 32, 48)
    result = DisagreementScorer(network, read, SimpleInferer())({"image": image})
    assert network.training, "a network in training goes on so"
    with torch.no_grad():
        expected = disagreement(network.eval().heads(image[None])).mean()
    assert result == pytest.approx(float(expected), abs=1e-6)


def test_the_config_scores_a_file_from_another_folder(parser, picture, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scorer = loaded(parser)
    result = scorer({"image": str(picture)})
    assert 0 < result < 1
    assert result == scorer({"image": picture, "label": "not looked at"}), "the same picture has the same score"
    assert result != scorer({"image": picture, "mpp": 0.5}), "at half the pixel size it is another image"
    assert not list(tmp_path.glob("output*")), "nothing is written"


def test_one_window_over_the_picture_gives_the_disagreement_of_its_network(parser, picture):
    parser["crop_size"] = [64, 64]
    scorer = loaded(parser)
    image = parser.get_parsed_content("preprocessing")({"image": picture})["image"].as_tensor()
    assert image.shape == (3, 64, 64)  # a picture smaller than the window is padded with its mirror image
    with torch.no_grad():
        expected = disagreement(parser.get_parsed_content("network").eval().heads(image[None])).mean()
    assert scorer({"image": picture}) == pytest.approx(float(expected), abs=1e-5)


@pytest.mark.parametrize("others", [["disagreement"], ["watershed", "tta"]])
def test_other_overlays_beside_it_change_nothing(parser, tiny, picture, others):
    alone = loaded(parser)({"image": picture})
    beside = configured(tiny, *(f"inference/{name}.yaml" for name in others))
    assert loaded(beside)({"image": picture}) == pytest.approx(alone, abs=1e-6)


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu"), "$torch.device('cpu')"])
def test_a_device_may_be_a_name(parser, picture, device):
    parser["device"] = device
    parser["amp"] = True  # without CUDA it has no effect
    assert 0 < loaded(parser)({"image": picture}) < 1


def test_a_network_without_experts_is_told_what_to_do_and_scored_by_its_entropy(parser, tiny, picture):
    definition = {"_target_": "bundle.networks.UNet", "widths": list(WIDTHS)}
    torch.save(UNet(widths=WIDTHS).state_dict(), Path(tiny["ckpt_dir"]) / "model.pt")
    parser["network_def"] = definition
    with pytest.raises(ValueError, match=r"UNet has no head .*'sdf'.*score pictures by 'entropy'"):
        loaded(parser)({"image": picture})
    other = configured(tiny, network_def=definition, score="entropy")
    assert 0 < loaded(other)({"image": picture}) < 1


def test_what_cannot_be_scored_is_refused(parser, tmp_path):
    with pytest.raises(ValueError, match="score is 'doubt'; choose from disagreement, entropy"):
        DisagreementScorer(Columns(), read, SimpleInferer(), "doubt")
    with pytest.raises(RuntimeError) as caught:
        loaded(parser)({"image": tmp_path / "none.png"})
    assert isinstance(caught.value.__cause__, FileNotFoundError | RuntimeError)
    network = SemiMoE(widths=WIDTHS)
    with torch.no_grad():
        for weights in network.parameters():
            weights.fill_(torch.nan)
    for score in ("disagreement", "entropy"):
        with pytest.raises(ValueError, match="holds NaN"):
            DisagreementScorer(network, read, SimpleInferer(), score)({"image": torch.zeros(3, 32, 32)})


def test_a_gpu_scores_as_the_cpu(picture):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    torch.manual_seed(1)
    network, image = SemiMoE(widths=WIDTHS), torch.randn(3, 64, 64)
    slow = DisagreementScorer(network, read, SimpleInferer())({"image": image})
    for device in ("cuda", torch.device("cuda:0")):
        for amp in (False, True):
            scorer = DisagreementScorer(network.to(device), read, SimpleInferer(), device=device, amp=amp)
            assert scorer({"image": image}) == pytest.approx(slow, abs=0.01 if amp else 1e-3)


def test_a_run_writes_a_table_the_highest_score_first(parser, tiny, phantom_dir, tmp_path):
    settings = {name: tiny[name] for name in ("bundle_root", "ckpt_dir", "device", "amp", "network_def#widths")}
    settings |= {"dataset_dir": str(phantom_dir / "image"), "output_dir": str(tmp_path / "out"), "crop_size": [32, 32]}
    run(run_id="scoring", config_file=[str(CONFIGS / name) for name in FILES], **settings)
    with (tmp_path / "out" / "scores.csv").open(newline="") as file:
        rows = [(row["image"], float(row["score"])) for row in csv.DictReader(file)]
    assert {path for path, _ in rows} == {str(path) for path in (phantom_dir / "image").iterdir()}
    assert [score for _, score in rows] == sorted((score for _, score in rows), reverse=True)
    assert rows[0][1] == pytest.approx(loaded(parser)({"image": rows[0][0]}), abs=1e-6)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["scores.csv"]


def test_a_table_of_somebody_is_not_replaced(parser, phantom_dir, tmp_path):
    scorer = loaded(parser)
    record = {"image": str(next((phantom_dir / "image").iterdir()))}
    table = tmp_path / "scores.csv"
    table.write_text("patient,score\n")
    with pytest.raises(ValueError, match=r"scores.csv would be replaced, but it is not a table of scores"):
        scorer.write([record], table)
    assert table.read_text() == "patient,score\n"
    scorer.write([record], table, "True")
    before = table.read_text()
    scorer.write([record], table)
    assert table.read_text() == before


NAMES = ["c.png", "a.png", "d.png", "b.png"]
SCORES = {"a.png": 0.2, "b.png": 0.7, "c.png": 0.2, "d.png": 0.9}


def test_orders_by_hand():
    assert annotation_order("disagreement", NAMES, SCORES) == ["d.png", "b.png", "a.png", "c.png"]
    assert annotation_order("first", NAMES) == sorted(NAMES)
    assert annotation_order("random", [], seed=1) == []


def test_a_random_order_is_the_seeds_alone():
    many = [f"tile_{number}.png" for number in range(40)]
    order = annotation_order("random", many, seed=1)
    assert sorted(order) == sorted(many)
    assert order == annotation_order("random", many[::-1], SCORES, seed=1)
    assert order != annotation_order("random", many, seed=2)
    assert order != many
    fewer = [name for name in many if name != order[3]]
    assert annotation_order("random", fewer, seed=1) == [name for name in order if name != order[3]]


def test_an_order_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match="strategy is 'best'; choose from disagreement, random, first"):
        annotation_order("best", NAMES)
    with pytest.raises(ValueError, match=r"1 of 5 pictures have no score \(e.png is the first\)"):
        annotation_order("disagreement", [*NAMES, "e.png"], SCORES)
