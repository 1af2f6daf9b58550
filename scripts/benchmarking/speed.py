"""Speed and memory of a training step, by parts."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from ignite.engine import Events
from monai.data import DataLoader
from monai.engines.utils import IterationEvents
from monai.utils import set_determinism
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from bundle.engines import SemiSupervisedTrainer
from bundle.engines.trainer import tensors_of
from bundle.networks.unet import UpsampledConvolution
from bundle.types import to_bool
from scripts.benchmarking.measure import MEBIBYTE, host_mib
from scripts.benchmarking.published_step import PublishedStep

ROOT = Path(__file__).resolve().parents[2]
PAPER = ["encoders/unet.yaml", "sizes/paper.yaml"]
PLAIN = {"train#ema": None}
VARIANTS: dict[str, tuple[list[str], dict[str, Any]]] = {
    "published": (["methods/semi_moe_as_released.yaml", *PAPER], {"amp": False}),
    "semi_moe": (["methods/semi_moe.yaml", *PAPER, "schedules/paper.yaml"], PLAIN),
    "semi_moe_recipe": (["methods/semi_moe.yaml", *PAPER], {}),
    "default": ([], {}),
    "supervised": (["methods/supervised.yaml"], {}),
}
"""Variant -> overlays and settings of configs/train.json. ``published`` has only its data and widths from there."""
PARTS = ("forward", "backward", "optimizer", "average")
UPSAMPLED = ((320, 128, 8), (128, 64, 16), (64, 48, 32), (48, 32, 64), (128, 64, 128), (256, 128, 64), (512, 256, 32))
"""Upsampled convolutions of the default network, then of the paper's, for crops of 256 px; see :func:`upsampling`."""
BATCHES = 4
"""Batches in memory for the timed steps."""
WARM_UP = 2


def configured(overlays: Sequence[str], settings: Mapping[str, Any]) -> Any:
    """Return the training config with overlays (names in configs/) and settings; nothing is instantiated."""
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    parser.read_config([str(ROOT / "configs" / name) for name in ("train.json", *overlays)])
    parser.update({"bundle_root": str(ROOT), **settings})
    return parser


def loaders(config: Any) -> dict[str, Any]:
    """Return the loaders of the labeled stream and, if the method has one, of the unlabeled stream."""
    made = {"labeled": config.get_parsed_content("train#dataloader")}
    made["unlabeled"] = config.get_parsed_content("train#unlabeled_dataloader")
    return {name: loader for name, loader in made.items() if loader is not None}


def alone(loader: Any) -> Any:
    """Return the same loader without workers."""
    return DataLoader(loader.dataset, batch_size=loader.batch_size, sampler=loader.sampler, num_workers=0)


def endless(loader: Any) -> Iterator[Any]:
    """Yield the batches of a loader again and again."""
    while True:
        yield from loader


class Clock:
    """Sum the seconds of the parts of each step; waits for the device, so that a part contains its own work."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.steps: list[dict[str, float]] = []
        self._parts: dict[str, float] = defaultdict(float)
        self._last = 0.0

    def start(self) -> None:
        """Start a step."""
        self._parts = defaultdict(float)
        self._last = self._now()

    def done(self, part: str) -> None:
        """Add the time since the last call to a part."""
        now = self._now()
        self._parts[part] += now - self._last
        self._last = now

    def end(self) -> None:
        """End a step."""
        self.steps.append({**self._parts, "step": sum(self._parts.values())})

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def measure(variant: str, steps: int, overlays: Sequence[str], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Measure a variant in this process, whose peak memory is part of the result.

    Args:
        variant: key of ``VARIANTS``.
        steps: timed steps on batches in memory, and as many with the loader.
        overlays: further overlays, names in configs/.
        settings: further settings, which win.

    Returns:
        Seconds of a step and its ``parts`` (medians), seconds of a step with the loader (``loaded``), ``data``: seconds
        on one core for the batches of a step, floating-point operations of a step, parameters and peak memory.
    """
    base_overlays, base_settings = VARIANTS[variant]
    config = configured([*base_overlays, *overlays], {**base_settings, **settings})
    set_determinism(seed=config.get_parsed_content("seed"))
    config.get_parsed_content("data#datalist")  # may draw the phantom
    device = torch.device(config.get_parsed_content("device"))
    streams = loaders(config)
    started = time.thread_time()
    batches = {name: [next(iterator) for _ in range(BATCHES)] for name, iterator in _iterators(streams).items()}
    data = (time.thread_time() - started) / BATCHES
    before = host_mib()
    train, one_step, network = (_published if variant == "published" else _trainer)(config, device, steps)
    clock = train(batches)
    started = time.perf_counter()
    train(streams)
    loaded = (time.perf_counter() - started) / (WARM_UP + steps)
    moved = {name: tensors_of(stream[0], device) for name, stream in batches.items()}
    with FlopCounterMode(display=False) as counter:
        one_step(moved)
    timed = clock.steps[WARM_UP:]
    cuda = device.type == "cuda"
    return {
        "variant": variant,
        "images": sum(len(stream[0]["image"]) for stream in batches.values()),
        "step": median(step["step"] for step in timed),
        "parts": {part: median(step.get(part, 0.0) for step in timed) for part in PARTS},
        "loaded": loaded,
        "data": data,
        "operations": counter.get_total_flops(),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "host_mib": host_mib() - before,
        "device_mib": torch.cuda.max_memory_allocated(device) / MEBIBYTE if cuda else None,
    }


def convolution_rate(device: torch.device, amp: bool, seconds: float = 1.0) -> float:
    """Return the floating-point operations per second of a large 3x3 convolution: an upper bound for a training."""
    batch, channels, side = (32, 256, 128) if device.type == "cuda" else (4, 256, 64)
    kind = torch.float16 if amp and device.type == "cuda" else torch.float32
    layout = torch.channels_last
    image = torch.randn(batch, channels, side, side, device=device, dtype=kind).to(memory_format=layout)
    weight = torch.randn(channels, channels, 3, 3, device=device, dtype=kind).to(memory_format=layout)
    clock = Clock(device)
    operations = 2 * batch * channels * channels * 9 * side * side
    until = time.perf_counter() + seconds
    with torch.no_grad():
        while time.perf_counter() < until or len(clock.steps) <= WARM_UP:
            clock.start()
            torch.nn.functional.conv2d(image, weight, padding=1)
            clock.done("forward")
            clock.end()
    return operations / median(step["step"] for step in clock.steps[WARM_UP:])


def upsampling(device: torch.device, shapes: Sequence[tuple[int, int, int]], repeats: int = 5) -> list[dict[str, Any]]:
    """Time forward and backward of an upsampled convolution, as it is defined and as a transposed convolution.

    Args:
        device: device of the features.
        shapes: channels before, channels after and side (px) of the features, in batches of 2.
        repeats: timed repeats, of which the fastest counts.
    """
    rows = []
    for below, width, side in shapes:
        layer = UpsampledConvolution(below, width).to(device)
        layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        features = torch.randn(2, below, side, side, device=device).to(memory_format=torch.channels_last)
        seconds = {}
        for transposed in (False, True):
            layer.transposed = transposed
            clock = Clock(device)
            for _ in range(1 + repeats):
                clock.start()
                layer(features.requires_grad_()).sum().backward()
                clock.done("step")
                clock.end()
            seconds[transposed] = min(step["step"] for step in clock.steps[1:])
        rows.append(
            {"below": below, "width": width, "side": side, "defined": seconds[False], "transposed": seconds[True]}
        )
    return rows


def _iterators(streams: Mapping[str, Any]) -> dict[str, Iterator[Any]]:
    return {name: endless(alone(loader)) for name, loader in streams.items()}


Training = tuple[Callable[[Mapping[str, Any]], Clock], Callable[[Mapping[str, Any]], object], nn.Module]
"""Train with the batches of each stream and return the times; make one step; the network."""


def _trainer(config: Any, device: torch.device, steps: int) -> Training:
    """Return what trains with the bundle's trainer."""
    network, optimizer = config.get_parsed_content("network"), config.get_parsed_content("train#optimizer")
    step, average = config.get_parsed_content("train#step"), config.get_parsed_content("train#ema")
    amp = to_bool(config.get_parsed_content("amp"), "amp")
    rest: dict[str, Any] = {"device": device, "max_epochs": 1, "network": network, "step": step, "ema": average}
    rest |= {"optimizer": optimizer, "amp": amp, "non_blocking": True, "epoch_length": WARM_UP + steps}

    def train(sources: Mapping[str, Any]) -> Clock:
        trainer = SemiSupervisedTrainer(
            train_data_loader=sources["labeled"], unlabeled_data_loader=sources.get("unlabeled"), **rest
        )
        clock = Clock(device)
        trainer.add_event_handler(Events.ITERATION_STARTED, clock.start)
        trainer.add_event_handler(IterationEvents.LOSS_COMPLETED, clock.done, "forward")
        trainer.add_event_handler(IterationEvents.BACKWARD_COMPLETED, clock.done, "backward")
        trainer.add_event_handler(IterationEvents.MODEL_COMPLETED, clock.done, "optimizer")
        trainer.add_event_handler(Events.ITERATION_COMPLETED, clock.done, "average")
        trainer.add_event_handler(Events.ITERATION_COMPLETED, clock.end)
        trainer.run()
        return clock

    def one_step(batches: Mapping[str, Any]) -> None:
        with torch.autocast("cuda", enabled=amp and device.type == "cuda"):
            loss = step(batches["labeled"], batches.get("unlabeled"), 1.0)["loss"]
        loss.backward()

    return train, one_step, network


def _published(config: Any, device: torch.device, steps: int) -> Training:
    """Return what trains by the published step."""
    network = PublishedStep(config.get_parsed_content("network_def#widths")).to(device)
    network.make_optimizers()

    def train(sources: Mapping[str, Any]) -> Clock:
        clock = Clock(device)
        iterators = {name: endless(source) for name, source in sources.items()}
        for _ in range(WARM_UP + steps):
            labeled, unlabeled = (tensors_of(next(iterators[name]), device) for name in ("labeled", "unlabeled"))
            clock.start()
            network.run(labeled, unlabeled, clock.done)
            clock.end()
        return clock

    return train, lambda batches: network.run(batches["labeled"], batches["unlabeled"], lambda part: None), network
