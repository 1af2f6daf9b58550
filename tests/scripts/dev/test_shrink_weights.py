"""The released model file: half the size, the same outputs up to rounding, and no silent loss of values."""

from __future__ import annotations

import hashlib
import json

import pytest
import torch

from bundle.engines import ModelCheckpointLoader
from bundle.engines.model_json_reader import read_description
from bundle.networks import SemiMoE


@pytest.fixture
def program(load_program):
    return load_program("shrink_weights")


def test_the_small_file_gives_the_outputs_of_the_large_one(program, tmp_path, capsys):
    network = SemiMoE(widths=[4, 8, 8, 8, 8]).eval()
    torch.save(network.state_dict(), tmp_path / "large.pt")
    assert program.main(["--model", str(tmp_path / "large.pt"), "--output", str(tmp_path / "small.pt")]) == 0
    assert hashlib.sha256((tmp_path / "small.pt").read_bytes()).hexdigest() in capsys.readouterr().out
    small = torch.load(tmp_path / "small.pt", weights_only=True)
    assert {value.dtype for value in small.values()} == {torch.float16, torch.int64}
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = network(image)
        other = SemiMoE(widths=[4, 8, 8, 8, 8]).eval()
        ModelCheckpointLoader(other, tmp_path / "small.pt").load()
        result = other(image)
    assert {parameter.dtype for parameter in other.parameters()} == {torch.float32}
    assert torch.allclose(result, expected, atol=0.02)
    assert not torch.equal(result, expected)


def test_the_description_is_written_as_that_of_released_weights(program, repository_root, tmp_path):
    torch.save({"a": torch.ones(2)}, tmp_path / "model.pt")
    content = json.loads((repository_root / "models" / "model.json").read_text(encoding="utf-8"))
    content |= {"released": False, "weights": {"file": "model.pt", "sha256": "of the large one"}}
    (tmp_path / "model.json").write_text(json.dumps(content), encoding="utf-8")
    small = tmp_path / "small" / "model.pt"
    small.parent.mkdir()
    assert program.main(["--model", str(tmp_path / "model.pt"), "--output", str(small)]) == 0
    weights = {"file": "model.pt", "sha256": hashlib.sha256(small.read_bytes()).hexdigest()}
    assert read_description(small.with_name("model.json")) == content | {"released": True, "weights": weights}


@pytest.mark.parametrize(
    ("content", "expected"),
    [({"a": torch.tensor([1e6])}, "a has values out of the range"), ({"a": 3}, "does not contain plain weights")],
)
def test_what_does_not_fit_is_refused(program, tmp_path, capsys, content, expected):
    torch.save(content, tmp_path / "large.pt")
    assert program.main(["--model", str(tmp_path / "large.pt"), "--output", str(tmp_path / "small.pt")]) == 1
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "small.pt").exists()
