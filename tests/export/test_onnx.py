"""ONNX export of the network of every overlay, and the network that runs an ONNX file."""

from __future__ import annotations

import ast
import json
import re
import shutil
import sys
from collections.abc import Callable
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.networks.trt_compiler import TrtCompiler
from torch import nn

from bundle import networks
from bundle.export import OnnxNetwork, check_onnx, write_onnx
from bundle.networks import GeneralistUNet, NamedOutputs, Peers, SemiMoE, UNet

ROOT = Path(__file__).resolve().parents[2]
WIDTHS = [4, 8, 8, 8, 8]
SHAPES = ((1, 3, 48, 32), (3, 3, 37, 50))
"""Several batch sizes, not square, and odd sides, which the decoders pad."""


def configured(method: str) -> ConfigParser:
    """Return the configs of the command in the header of an overlay, with small sizes."""
    text = (ROOT / "configs" / "methods" / f"{method}.yaml").read_text(encoding="utf-8")
    files = re.search(r"run training +--config_file \"(\[.*?\])\"", re.sub(r"\\?\n# *", " ", text))
    assert files is not None
    parser = ConfigParser()
    parser.read_config([str(ROOT / file) for file in ast.literal_eval(files[1])])
    parser.update({"network_def#widths": WIDTHS, "bundle_root": str(ROOT)})
    return parser


def distinct() -> dict[str, ConfigParser]:
    """Return one method for each different network."""
    methods: dict[str, tuple[str, ConfigParser]] = {}
    for path in sorted((ROOT / "configs" / "methods").glob("*.yaml")):
        parser = configured(path.stem)
        about = json.dumps([parser.get(key) for key in ("network_def", "train#experts", "classes")], default=str)
        methods.setdefault(about, (path.stem, parser))
    return dict(methods.values())


METHODS = distinct()
FIRST = {
    parser.get_parsed_content("network_def#_target_"): method for method, parser in reversed(METHODS.items())
}.values()
"""One method for each kind of network."""
FIXED = {"cross_teaching"}
"""Methods whose network has a layer that keeps the size it was traced at."""


def alive(network: nn.Module) -> nn.Module:
    """Return a network for evaluation, with running statistics that differ from their defaults."""
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 1.5)
    return network.eval()


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[nn.Module, Path]]:
    """Return a function that writes a small Semi-MoE to a file, cached; tests must not change it."""

    @cache
    def make(outputs: str, **metadata: str) -> tuple[nn.Module, Path]:
        network = alive(SemiMoE(widths=WIDTHS, outputs=outputs))
        path = tmp_path_factory.mktemp("export") / "model.onnx"
        write_onnx(network, path, metadata)
        return network, path

    return make


@pytest.fixture
def written(export: Callable[..., tuple[nn.Module, Path]], tmp_path: Path) -> Callable[..., tuple[nn.Module, Path]]:
    """Return a new small Semi-MoE and its file."""

    def make(outputs: str = "pred", **metadata: str) -> tuple[nn.Module, Path]:
        network, path = export(outputs, **metadata)
        return deepcopy(network), Path(shutil.copy(path, tmp_path))

    return make


def test_every_kind_of_network_is_tested():
    targets = [parser.get_parsed_content("network_def#_target_") for parser in METHODS.values()]
    components = {target.rpartition(".")[2] for target in targets if isinstance(target, str)}  # not train.json's own
    kinds = {name: kind for name in networks.__all__ if isinstance(kind := getattr(networks, name), type)}
    assert components == {name for name, kind in kinds.items() if issubclass(kind, NamedOutputs)} - {"NamedOutputs"}
    assert METHODS.keys() >= FIXED


@pytest.mark.parametrize(
    "method", [pytest.param(name, marks=() if name in FIRST else pytest.mark.slow) for name in METHODS]
)
def test_every_network_equals_its_file(method, tmp_path):
    first = alive(METHODS[method].get_parsed_content("network_def"))
    METHODS[method]["network_def#outputs"] = "all"
    every = METHODS[method].get_parsed_content("network_def").eval()
    METHODS[method]["network_def#outputs"] = "pred"
    every.load_state_dict(first.state_dict())

    image = torch.randn(2, 3, 33, 48)
    with torch.no_grad():
        output, heads, named = first(image), first.heads(image), every(image)
    assert list(named) == ["pred", *(name for name in heads if name != first.main_head)]
    assert torch.equal(named.pop("pred"), output)
    assert torch.equal(heads[first.main_head], output)
    assert all(torch.equal(named[name], heads[name]) for name in named)

    path = tmp_path / "model.onnx"
    if method in {"supervised", "semi_moe"}:  # for other methods this graph is part of the graph of all heads
        assert write_onnx(first, path, {}) == ["pred"]
        assert check_onnx(first, path, SHAPES) < 1e-4
    names = write_onnx(every, path, {})
    assert names == ["pred", *named]
    if method in FIXED:
        with pytest.raises(ValueError, match="Peers has layers that keep the size they were traced at"):
            check_onnx(every, path, SHAPES)
    else:
        assert check_onnx(every, path, SHAPES) < 1e-4


def test_the_network_is_not_changed(tmp_path):
    network = UNet(widths=WIDTHS).to(memory_format=torch.channels_last)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    kinds = [type(part) for part in network.modules()]
    write_onnx(network, tmp_path / "model.onnx", {})
    assert network.training
    assert [type(part) for part in network.modules()] == kinds
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_outputs_do_not_change_the_state_dict():
    assert SemiMoE(widths=WIDTHS).state_dict().keys() == SemiMoE(widths=WIDTHS, outputs="all").state_dict().keys()


@pytest.mark.parametrize("kind", [UNet, GeneralistUNet])
def test_torchscript_with_one_and_with_all_outputs(kind):
    """Both in one process, in both orders: TorchScript shares compiled code between similar modules."""
    image = torch.randn(1, 3, 33, 32)
    for outputs in ("pred", "all", "pred"):
        network = alive(kind(widths=WIDTHS, outputs=outputs))
        with torch.no_grad():
            expected, actual = network(image), torch.jit.script(network)(image)
        if outputs == "all":
            assert list(actual) == list(expected)
            assert all(torch.allclose(actual[name], expected[name], atol=1e-6) for name in expected)
        else:
            assert torch.allclose(actual, expected, atol=1e-6)


def test_torchscript_of_peers_is_one_tensor_or_refused():
    assert isinstance(torch.jit.script(Peers(widths=WIDTHS).eval())(torch.zeros(1, 3, 32, 32)), torch.Tensor)
    with pytest.raises(ValueError, match="TorchScript cannot contain the peer of Peers"):
        torch.jit.script(Peers(widths=WIDTHS, outputs="all").eval())


def test_other_outputs_are_refused():
    with pytest.raises(ValueError, match=r"outputs is 'both'; choose pred .* or all"):
        UNet(widths=WIDTHS, outputs="both")


# What the check finds


def test_a_file_with_other_weights_is_detected(written):
    network, path = written()
    with torch.no_grad():
        network.encoders[0].conv_0.conv_0.conv.weight[0, 0, 0, 0] += 0.05
    with pytest.raises(ValueError, match=r"the output pred of the ONNX file differs from SemiMoE by .* at 1x3x48x32"):
        check_onnx(network, path, SHAPES)


def test_nan_is_detected(written):
    network, path = written()
    with torch.no_grad():
        network.tasks["seg"].head.bias.fill_(float("nan"))
    with pytest.raises(ValueError, match=r"output for an image of 1x3x48x32 \(pred\) holds NaN"):
        check_onnx(network, path, SHAPES)


def test_a_file_with_other_outputs_is_detected(written):
    _, path = written("all")
    with pytest.raises(ValueError, match=r"has the outputs \['pred', 'seg'.*but the network \['pred'\]"):
        check_onnx(SemiMoE(widths=WIDTHS), path, SHAPES)


# The file as a network


def test_the_file_gives_the_output_of_the_network(written):
    network, path = written()
    served = OnnxNetwork(path, threads=1).to("cpu", memory_format=torch.channels_last).eval()
    for shape in SHAPES:
        image = torch.randn(shape)
        with torch.no_grad():
            expected = network(image)
        actual = served(MetaTensor(image).to(memory_format=torch.channels_last))
        assert type(actual) is torch.Tensor
        assert torch.allclose(actual, expected, atol=1e-4)
        assert served.heads(image).keys() == {"seg"}  # the file does not record the name of its head
    assert not served.state_dict()


def test_a_file_with_all_maps_has_heads(written):
    network, path = written("all", main_head="fused_seg")
    served, image = OnnxNetwork(path, threads=1), torch.randn(2, 3, 32, 48)
    with torch.no_grad():
        expected = network.heads(image)
    actual = served.heads(image)
    assert actual.keys() == expected.keys()
    assert all(torch.allclose(actual[name], expected[name], atol=1e-4) for name in expected)
    assert torch.allclose(served(image), expected["fused_seg"], atol=1e-4)


def test_outputs_can_be_written_into_torch_tensors(written):
    """As on a GPU, where outputs are not copied to the CPU."""
    network, path = written("all")
    served, image = OnnxNetwork(path, threads=1), torch.randn(2, 3, 33, 48)
    bound = served._run_with_binding(served._session(image.device), image, served.names)
    with torch.no_grad():
        expected = network(image)
    assert all(torch.allclose(bound[name], expected[name], atol=1e-4) for name in expected)


def test_without_cuda_in_onnx_runtime_a_warning_names_the_cpu(written, caplog):
    _, path = written()
    served = OnnxNetwork(path)
    assert served._providers(torch.device("cuda")) == ["CPUExecutionProvider"]
    assert "cannot use the GPU (pip install onnxruntime-gpu)" in caplog.text
    assert OnnxNetwork(path, providers=["CPUExecutionProvider"])(torch.zeros(1, 3, 32, 32)).shape == (1, 2, 32, 32)


def test_wrong_files_are_refused(written, tmp_path, monkeypatch):
    _, path = written(classes="2", pixel_size="1.0")
    assert OnnxNetwork(path, settings={"classes": 2, "pixel_size": 1, "crop_size": [8, 8]}).written_for["classes"] == 2
    with pytest.raises(ValueError, match=r"was exported with classes 2, not 3;"):
        OnnxNetwork(path, settings={"classes": 3})
    with pytest.raises(
        FileNotFoundError, match=r"no ONNX file at .*nothing\.onnx; write it with scripts/export_onnx.py"
    ):
        OnnxNetwork(tmp_path / "nothing.onnx")
    (tmp_path / "cut.onnx").write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"cut\.onnx cannot be read as an ONNX file"):
        OnnxNetwork(tmp_path / "cut.onnx")
    foreign(tmp_path / "foreign.onnx")
    with pytest.raises(ValueError, match=r"has the inputs pixels and the outputs logits, not image and pred"):
        OnnxNetwork(tmp_path / "foreign.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(RuntimeError, match=r"ONNX files need onnxruntime, which is missing; pip install"):
        OnnxNetwork(path)


def foreign(path: Path) -> None:
    """Write an ONNX file with other names."""
    onnx: Any = pytest.importorskip("onnx")
    pixels, logits = (onnx.helper.make_tensor_value_info(name, 1, [1, 3, 8, 8]) for name in ("pixels", "logits"))
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["pixels"], ["logits"])], "foreign", [pixels], [logits]
    )
    opsets = [onnx.helper.make_opsetid("", 18)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9), path)


# TensorRT, as far as a CPU goes


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning", "ignore::UserWarning")
def test_the_graph_for_tensorrt_gives_the_output_of_the_network(tmp_path, monkeypatch):
    parser = ConfigParser()
    parser.read_config([str(ROOT / "configs" / name) for name in ("inference.json", "inference_trt.json")])
    parser.update({"bundle_root": str(ROOT), "crop_size": [48, 32], "ckpt_dir": str(tmp_path)})
    network = alive(SemiMoE(widths=WIDTHS))
    with torch.no_grad():
        image = torch.randn(1, 3, 48, 32)
        expected = network(image.repeat(4, 1, 1, 1))
    recorded: dict[str, Any] = {}

    def engine_of(self: TrtCompiler, path: str) -> bytes:
        recorded["profiles"], recorded["answer"] = self.profiles, answered(path, image.repeat(4, 1, 1, 1))
        return b"engine"

    monkeypatch.setattr(TrtCompiler, "_onnx_to_trt", engine_of)
    plan = f"{parser.get_parsed_content('plan')}.plan"
    compiler = TrtCompiler(network, plan, **parser.get_parsed_content("trt_args"))
    compiler._build_and_save(network, {"image": image})
    assert recorded["profiles"] == [{"image": [[1, 3, 48, 32], [4, 3, 48, 32], [4, 3, 48, 32]]}]
    assert torch.allclose(recorded["answer"], expected, atol=1e-4)
    assert (tmp_path / "model_48x32_fp16.plan").read_bytes() == b"engine"


def answered(path: str, image: torch.Tensor) -> torch.Tensor:
    """Return the first output of a file."""
    runtime: Any = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"image": image.numpy()})[0])
