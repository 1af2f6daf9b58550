"""Tests that need a GPU; they are skipped without one. `make test-cuda` runs this file alone.

CUDA_TESTS_DEVICE=cpu runs the same tests on the CPU, to check the tests themselves.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.bundle import ConfigParser
from PIL import Image

from bundle.export.onnx_export import write_onnx
from bundle.networks import UNet
from bundle.networks.unet import UpsampledConvolution
from bundle.types import PseudoLabel
from tests.methods.conftest import method  # noqa: F401
from tests.methods.test_every_method import METHODS, WITHOUT_ENCODERS

pytestmark = pytest.mark.cuda

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nnodes=1", "--nproc_per_node=2")
LITE0 = {"network_def#encoder#pretrained": False}


@pytest.fixture
def device() -> torch.device:
    """The GPU."""
    named = torch.device(os.environ.get("CUDA_TESTS_DEVICE", "cuda:0"))
    if named.type == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return named


def on(device: torch.device, **more: Any) -> dict[str, Any]:
    """Settings of a training on a device, with mixed precision."""
    return {"device": f"$torch.device('{device}')", "amp": True, **more}


def trained(setup: Any) -> list[float]:
    """Train and return the losses of all steps."""
    losses: list[float] = []
    setup.trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda engine: losses.append(float(engine.state.step["loss"]))
    )
    setup.trainer.run()
    return losses


def run(setup: Any, entry: str, configs: str, *arguments: str, launcher: Sequence[str] = ()) -> None:
    """Run a command of the bundle in a process that sees the GPUs."""
    command = [sys.executable, *launcher, "-m", "monai.bundle", "run", entry, "--config_file", configs, *arguments]
    completed = subprocess.run(command, cwd=setup.root, capture_output=True, text=True, timeout=300)
    assert completed.returncode == 0, completed.stderr


def same_on_the_cpu(network: torch.nn.Module, device: torch.device, size: int = 64) -> bool:
    """Return whether predictions in mixed precision are close to those on the CPU in float32."""
    image = torch.randn(2, 3, size, size)
    network = network.eval()
    with torch.no_grad(), torch.autocast(device.type, enabled=device.type == "cuda"):
        result = network(image.to(device).to(memory_format=torch.channels_last)).float().cpu()
    with torch.no_grad():
        expected = network.cpu()(image)
    network.to(device)
    return bool((result - expected).abs().max() <= 0.02 * max(1.0, float(expected.abs().max())))


@pytest.mark.parametrize("name", METHODS)
def test_each_method_trains_in_mixed_precision(name, method, device):  # noqa: F811
    setup = method(name, **on(device))
    before = [value.detach().clone() for value in setup.network.parameters()]
    assert all(np.isfinite(trained(setup)))
    values = list(setup.network.parameters())
    assert {value.device.type for value in [*values, *setup.network.buffers()]} == {device.type}
    assert all(torch.isfinite(value).all() for value in values)
    assert any(not torch.equal(*pair) for pair in zip(before, values, strict=True))
    average = setup.parser.get_parsed_content("train#ema").average
    assert {value.device.type for value in average.parameters()} == {device.type}
    assert same_on_the_cpu(average, device)


@pytest.mark.parametrize("name", ["semi_moe_plus", "fixmatch", "k_experts"])
@pytest.mark.parametrize("precision", ["torch.float16", "torch.bfloat16"])
def test_the_default_encoder_trains_in_both_precisions(name, precision, method, device):  # noqa: F811
    assert name not in WITHOUT_ENCODERS
    setup = method(
        name, encoder="lite0", **LITE0, **on(device, **{"train#trainer#amp_kwargs": {"dtype": f"${precision}"}})
    )
    assert all(np.isfinite(trained(setup)))
    assert next(iter(setup.network.parameters())).is_contiguous(memory_format=torch.channels_last)


def test_views_stay_on_the_device_and_move_labels_with_pixels(method, device):  # noqa: F811
    view = method("fixmatch", **on(device, **{"train#cut_mix#probability": 1.0})).parser.get_parsed_content(
        "train#cut_mix"
    )
    image = torch.rand(4, 3, 32, 32, device=device)
    viewed = view({"image": image})
    label = viewed.transform_label(PseudoLabel((image[:, :1] > 0.5).long(), image[:, :1].clone()))
    assert viewed.batch["image"].device == image.device
    assert torch.equal(label.target, (viewed.batch["image"][:, :1] > 0.5).long())
    assert torch.equal(label.weight, viewed.batch["image"][:, :1])
    assert not torch.equal(viewed.batch["image"], image)


@pytest.mark.parametrize("to_gpu", [False, True])
def test_a_training_resumes_on_another_device(to_gpu, method, device):  # noqa: F811
    devices = [torch.device("cpu"), device] if to_gpu else [device, torch.device("cpu")]
    first = method("semi_moe_plus", **on(devices[0]))
    first.parser.get_parsed_content("train#resume_file").attach(first.trainer)
    trained(first)
    second = method("semi_moe_plus", **on(devices[1], resume=True, max_epochs=2))
    second.parser.get_parsed_content("train#resume_file").attach(second.trainer)
    for saved, loaded in zip(first.network.parameters(), second.network.parameters(), strict=True):
        assert torch.equal(saved.cpu(), loaded.cpu())
    assert all(np.isfinite(trained(second)))
    assert second.trainer.state.iteration == 4
    state = next(iter(second.trainer.optimizer.state.values()))
    assert state["exp_avg"].device.type == devices[1].type


@pytest.mark.parametrize("overlay", [None, "inference/tta.yaml"])
def test_masks_are_those_of_the_cpu(overlay, tiny, repository_root, phantom_dir, tmp_path, device):
    """With the shipped weights; a few pixels of the border of a gland may differ."""
    configs = repository_root / "configs"
    masks = []
    for number, (name, amp) in enumerate([("cpu", False), (str(device), True)]):
        parser = ConfigParser()
        parser.read_config([str(configs / "inference.json"), *([str(configs / overlay)] if overlay else [])])
        paths = {"dataset_dir": str(phantom_dir / "image"), "output_dir": str(tmp_path / str(number))}
        parser.update({"bundle_root": str(repository_root), "device": f"$torch.device('{name}')", "amp": amp, **paths})
        parser.get_parsed_content("checkpoint_loader").load()
        parser.get_parsed_content("evaluator").run()
        files = sorted((tmp_path / str(number)).glob("*_mask.png"))
        masks.append(np.concatenate([np.asarray(Image.open(file)).ravel() > 0 for file in files]))
    assert masks[0].any()
    assert (masks[0] != masks[1]).mean() < 0.005


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_upsampling_by_a_transposed_convolution_equals_its_definition(dtype, device):
    layer = UpsampledConvolution(32, 16).to(device, dtype).eval()
    image = torch.randn(2, 32, 24, 40, device=device, dtype=dtype).to(memory_format=torch.channels_last)
    outputs = []
    for layer.transposed in (True, False):
        with torch.no_grad(), torch.backends.cudnn.flags(allow_tf32=False):
            outputs.append(layer(image).float())
    tolerance = 1e-5 if dtype == torch.float32 else 1e-2
    torch.testing.assert_close(*outputs, rtol=tolerance, atol=tolerance)


def test_a_compiled_network_predicts_and_learns_the_same(method, device):  # noqa: F811
    if device.type != "cuda":
        pytest.skip("compiling for the CPU takes a compiler and minutes")
    network = method("semi_moe_plus", **on(device)).network.train()
    compiled = torch.compile(network.heads)
    image = torch.randn(2, 3, 64, 64, device=device)
    gradients = []
    for heads in (network.heads, compiled):
        network.zero_grad()
        torch.manual_seed(0)
        heads(image)["fused_seg"].square().mean().backward()
        gradients.append([p.grad.clone() for p in network.parameters() if p.grad is not None and p.ndim > 1])
    for eager, result in zip(*gradients, strict=True):
        torch.testing.assert_close(result, eager, rtol=1e-2, atol=1e-3 * float(eager.abs().max()))


def test_onnx_runtime_on_the_gpu_predicts_the_same(tmp_path, device):
    onnxruntime = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("ONNX Runtime is installed without CUDA (onnxruntime-gpu)")
    network = UNet(widths=[4, 8, 8, 8, 8]).eval()
    write_onnx(network, tmp_path / "model.onnx", {})
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CUDAExecutionProvider"])
    image = torch.randn(1, 3, 64, 64)
    (result,) = session.run(None, {session.get_inputs()[0].name: image.numpy()})
    torch.testing.assert_close(torch.from_numpy(result), network(image).detach(), rtol=1e-3, atol=1e-3)


def test_tensorrt_answers_like_torch(copy_bundle, phantom_dir, tmp_path, device):
    missing = [name for name in ("tensorrt", "polygraphy") if importlib.util.find_spec(name) is None]
    if missing or device.type != "cuda":
        pytest.skip(f"{', '.join(missing) or 'CUDA'} is missing")
    bundle_copy, masks = copy_bundle("tensorrt"), []
    run(bundle_copy, "training", bundle_copy.configs("train.json"))
    for config in ("['configs/inference.json']", "['configs/inference.json','configs/inference_trt.json']"):
        output = tmp_path / str(len(masks))
        paths = ["--dataset_dir", str(phantom_dir / "image"), "--ckpt_dir", "runs/semi_moe_plus"]
        run(bundle_copy, "inference", config, *paths, "--output_dir", str(output))
        masks.append(
            np.concatenate([np.asarray(Image.open(file)).ravel() for file in sorted(output.glob("*_mask.png"))])
        )
    assert (masks[0] != masks[1]).mean() < 0.01


def test_two_gpus_train_together(copy_bundle, device):
    if device.type != "cuda" or torch.cuda.device_count() < 2:
        pytest.skip("fewer than two GPUs")
    bundle_copy = copy_bundle("nccl")
    files = "['configs/train.json','configs/multi_gpu_train.json']"
    run(bundle_copy, "training", files, launcher=TORCHRUN)
    description = json.loads(
        (Path(bundle_copy.root) / "runs" / "semi_moe_plus" / "model.json").read_text(encoding="utf-8")
    )
    assert description["training"]["epoch"] >= 1
