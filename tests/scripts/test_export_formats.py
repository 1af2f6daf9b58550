"""Exports to bioimage.io and Hugging Face, read by their libraries, and the examples of docs/exports.md."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import yaml
from monai import bundle as monai_bundle
from monai.bundle import ConfigParser
from PIL import Image
from torch import nn

from bundle.data.phantom import draw_tile
from bundle.engines import ModelCheckpointLoader

NEEDED = {"bioimageio": "bioimageio.core", "huggingface": "safetensors.torch"}


@pytest.fixture(scope="module")
def program(load_program: Callable[[str], ModuleType]) -> ModuleType:
    return load_program("export_bundle")


@pytest.fixture(scope="module")
def shipped(repository_root: Path) -> ConfigParser:
    """Configs of inference with the shipped weights."""
    parser = ConfigParser()
    parser.read_config(str(repository_root / "configs" / "inference.json"))
    parser.update({"bundle_root": str(repository_root), "device": "cpu"})
    return parser


@pytest.fixture(scope="module")
def network(shipped: ConfigParser, repository_root: Path) -> nn.Module:
    model = shipped.get_parsed_content("network_def").eval()
    ModelCheckpointLoader(model, repository_root / "models" / "model.pt").load()
    return model


def logits_of(image: np.ndarray, network: nn.Module, shipped: ConfigParser) -> torch.Tensor:
    """Return the logits (C, H, W) of an RGB image (H, W, 3), with the transforms of the configs."""
    record = {"image": torch.tensor(image).permute(2, 1, 0).float()}
    for step in shipped.get_parsed_content("data#normalization"):
        record = step(record)
    with torch.no_grad():
        return network(record["image"].as_tensor()[None])[0].transpose(1, 2)


def export(program: ModuleType, repository_root: Path, output: Path, form: str) -> int:
    arguments = ["--ckpt_dir", str(repository_root / "models"), "--output", str(output), "--format", form]
    return program.main(arguments)


@pytest.mark.filterwarnings("default")  # of libraries that are not the project's
def test_bioimageio_gets_the_probabilities_of_the_bundle(program, network, shipped, repository_root, tmp_path):
    core = pytest.importorskip("bioimageio.core", reason="make test-formats")
    from bioimageio.core.digest_spec import create_sample_for_model

    package = tmp_path / "package"
    assert export(program, repository_root, package, "bioimageio") == 0, "its own test passes, or there is no package"
    description = core.load_model_description(package)
    assert (description.format_version[:3], len(description.covers), len(description.cite)) == ("0.5", 1, 2)
    assert "research only" in (package / "LICENSE.txt").read_text(encoding="utf-8")
    assert "## Validation" in (package / "README.md").read_text(encoding="utf-8")
    image, _ = draw_tile(5, (75, 130))
    expected = logits_of(image, network, shipped).softmax(dim=0).numpy()
    for weights in ("torchscript", "onnx"):
        pipeline = core.create_prediction_pipeline(description, weight_format=weights, devices=["cpu"])
        sample = create_sample_for_model(
            description, inputs={"image": image.transpose(2, 0, 1)[None].astype(np.float32)}
        )
        result = pipeline.predict_sample_without_blocking(sample).members["probability"].data.to_numpy()
        np.testing.assert_allclose(result[0], expected, atol=1e-4)


def test_huggingface_gets_the_weights_and_monai_loads_them(program, network, repository_root, tmp_path, monkeypatch):
    safetensors = pytest.importorskip("safetensors.torch", reason="make test-formats")
    folder = tmp_path / "made"
    assert export(program, repository_root, folder, "huggingface") == 0
    assert {"README.md", "LICENSE", "configs", "models", "docs", "bundle"} == {path.name for path in folder.iterdir()}
    _, front, card = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    facts = yaml.safe_load(front)
    assert (facts["library_name"], facts["license_link"]) == ("monai", "LICENSE")
    assert card == (folder / "docs" / "README.md").read_text(encoding="utf-8")
    assert "research only" in (folder / "LICENSE").read_text(encoding="utf-8")
    parser = ConfigParser()
    parser.read_config(str(folder / "configs" / "inference.json"))
    parser.update({"bundle_root": str(folder)})
    loaded = parser.get_parsed_content("network_def").eval()
    loaded.load_state_dict(safetensors.load_file(folder / "models" / "model.safetensors"))
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        assert torch.equal(loaded(image), network(image))
    monkeypatch.setattr(sys, "path", [*sys.path])  # MONAI adds the folder
    hub = {"source": "huggingface_hub", "repo": "nobody/made", "args_file": {"bundle_root": str(folder)}}
    served = monai_bundle.load("made", bundle_dir=tmp_path, workflow_type="inference", device="cpu", **hub).eval()
    with torch.no_grad():
        assert torch.equal(served(image), network(image))


@pytest.mark.parametrize("form", NEEDED)
def test_a_missing_library_is_one_sentence(form, program, repository_root, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, NEEDED[form], None)
    assert export(program, repository_root, tmp_path / "made", form) == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.search(rf"need {NEEDED[form]}, which is missing; pip install .* \.\[{form}\]$", last), last
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["TorchScript", "ONNX"])
def test_the_example_of_the_page_gives_the_mask(kind, network, shipped, repository_root, tmp_path, monkeypatch):
    page = (repository_root / "docs" / "exports.md").read_text(encoding="utf-8")
    code = re.search(rf"### With {kind}\n.*?```python\n(.*?)```", page, re.DOTALL)[1]
    assert len(code.strip().splitlines()) <= 12
    image, _ = draw_tile(5, (192, 256))
    (tmp_path / "models").mkdir()
    Image.fromarray(image).save(tmp_path / "tile.png")
    (tmp_path / "models" / "model.json").write_bytes((repository_root / "models" / "model.json").read_bytes())
    monkeypatch.chdir(tmp_path)
    if kind == "TorchScript":
        configs = {"config_file": "inference.json", "meta_file": "metadata.json"}
        paths = {name: str(repository_root / "configs" / file) for name, file in configs.items()}
        weights = str(repository_root / "models" / "model.pt")
        monai_bundle.ckpt_export("network_def", "models/model.ts", weights, bundle_root=str(repository_root), **paths)
    else:
        pytest.importorskip("onnxruntime")
        from bundle.export import write_onnx

        write_onnx(network, "models/model.onnx", {})
    exec(compile(code, "docs/exports.md", "exec"), {})
    expected = logits_of(image, network, shipped).argmax(dim=0).numpy() * 255
    with Image.open("tile_mask.png") as mask:
        result = np.asarray(mask)
    assert result.shape == image.shape[:2]
    assert (result != expected).mean() < 1e-3, "rounding may decide at pixels of equal scores"
    assert 0.05 < (result == 255).mean() < 0.95
