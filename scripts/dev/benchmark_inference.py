r"""Benchmark the network's inference with torch, TorchScript and ONNX Runtime, in megapixels per second.

    python scripts/dev/benchmark_inference.py
    python scripts/dev/benchmark_inference.py --widths 64 128 256 512 1024 --batch 1 --threads 1 --format csv
    python scripts/dev/benchmark_inference.py --config_file "['configs/train.json','configs/methods/supervised.yaml']"

The network is that of configs/inference.json, or of other configs with overrides (--key value), with random weights,
which do not change the time. It predicts one batch of windows repeatedly; reading, blending and writing of images are
not measured:

- torch: float32, contiguous or channels_last memory (the configs use channels_last).
- TorchScript: as written by ckpt_export; frozen: with constant weights and torch's optimizations for inference.
- ONNX Runtime: the file of scripts/export_onnx.py. Skipped if it is not installed.
- On a GPU, also torch with automatic mixed precision, and ONNX Runtime if it supports CUDA.

All backends run in turns, so that the load of the machine affects all of them equally. The table contains the median,
slowest and fastest repeat, and the largest difference from torch. The default takes about a minute on two cores.
"""

from __future__ import annotations

import argparse
import copy
import io
import os
import platform
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

WARM_UP = 2
"""Untimed predictions; TorchScript profiles the first and compiles in the second."""
COLUMNS = ("device", "way", "megapixels/s", "slowest", "fastest", "differs by")
BASE = "torch"

Answer = Callable[[], Any]


@dataclass
class Way:
    """One backend: its device, name and prediction, the seconds of each repeat, and the difference from torch."""

    device: str
    name: str
    answer: Answer
    seconds: list[float] = field(default_factory=list)
    difference: float = 0.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program. Exit codes: 0 success, 1 error, 2 invalid command line, 130 interrupted."""
    from bundle.engines.error_summary import sentence
    from scripts.benchmarking import settings_of

    options = _parser()
    given, overrides = options.parse_known_args(arguments)
    try:
        changes = settings_of(overrides)
        for name in ("batch", "size", "threads", "repeats"):
            if getattr(given, name) < 1:
                raise ValueError(f"--{name} must be at least 1")
    except ValueError as error:
        options.error(str(error))
    if given.widths:
        changes["network_def#widths"] = given.widths
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # torch deprecates TorchScript, which is timed here
            run(given, changes)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        print(f"benchmark_inference: {sentence(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("benchmark_inference: stopped", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    shipped = ROOT / "configs" / "inference.json"
    parser.add_argument("--config_file", default=str(shipped), help="configs of the network (default: inference.json)")
    parser.add_argument("--widths", type=int, nargs="+", help="channels per level (default: as in the configs)")
    parser.add_argument("--batch", type=int, default=4, help="windows per batch (default: 4)")
    parser.add_argument("--size", type=int, default=256, help="side of a window, px (default: 256)")
    parser.add_argument("--threads", type=int, default=_cores(), help="CPU threads (default: one per core)")
    parser.add_argument("--repeats", type=int, default=5, help="timed repeats of each backend (default: 5)")
    parser.add_argument("--format", choices=("markdown", "csv"), default="markdown", help="format of the table")
    return parser


def run(given: argparse.Namespace, changes: Mapping[str, Any]) -> None:
    """Run the benchmark and print the hardware, the software and the table."""
    import torch

    torch.set_num_threads(given.threads)
    network = network_of(given.config_file, changes)
    image = torch.randn(given.batch, 3, given.size, given.size, generator=torch.Generator().manual_seed(0))
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        ways = on_cpu(network, image, Path(folder), given.threads)
        if torch.cuda.is_available():
            ways += on_cuda(network, image, Path(folder))
        measure(ways, given.repeats)
    pixels = image.shape[0] * image.shape[2] * image.shape[3] / 1e6
    parameters = sum(parameter.numel() for parameter in network.parameters())
    header = [*machine(given.threads), f"{type(network).__name__}, {parameters:,} parameters"]
    header.append(f"batch {given.batch} of {given.size} x {given.size} px, {given.repeats} repeats")
    print("\n".join(f"# {line}" if given.format == "csv" else f"- {line}" for line in header))
    print("\n".join(["", *table(ways, pixels, given.format)]))


def network_of(config_file: str, changes: Mapping[str, Any]) -> Any:
    """Return the network of configs and overrides, with random weights."""
    from fire.parser import DefaultParseValue
    from monai.bundle import ConfigParser

    from scripts.benchmarking import merged

    value = DefaultParseValue(config_file)
    files = [str(Path(file).absolute()) for file in (value if isinstance(value, list | tuple) else [value])]
    config = merged(ROOT, files, {"bundle_root": str(ROOT), **changes})
    return ConfigParser(config).get_parsed_content("network_def").eval()


def on_cpu(network: Any, image: Any, folder: Path, threads: int) -> list[Way]:
    """Return the backends on the CPU."""
    import torch

    last = torch.channels_last
    scripted = scripted_of(network)
    frozen = torch.jit.optimize_for_inference(torch.jit.freeze(scripted))
    channels_last, image_last = copy.deepcopy(network).to(memory_format=last), image.to(memory_format=last)
    calls: dict[str, Answer] = {
        BASE: lambda: network(image),
        "torch, channels_last": lambda: channels_last(image_last),
        "TorchScript": lambda: scripted(image),
        "TorchScript, frozen": lambda: frozen(image),
    }
    session = onnx_of(network, folder, threads)
    if session is not None:
        calls["ONNX Runtime"] = lambda: session(image)
    return [Way("cpu", name, answer) for name, answer in calls.items()]


def on_cuda(network: Any, image: Any, folder: Path) -> list[Way]:
    """Return the backends on the first GPU; each prediction waits for the GPU."""
    import torch

    last = torch.channels_last
    network, image = copy.deepcopy(network).cuda(), image.cuda()
    image_last = image.to(memory_format=last)
    scripted, channels_last = scripted_of(network), copy.deepcopy(network).to(memory_format=last)

    def mixed() -> Any:
        with torch.autocast("cuda"):
            return channels_last(image_last)

    calls: dict[str, Answer] = {
        BASE: lambda: network(image),
        "torch, channels_last": lambda: channels_last(image_last),
        "torch, channels_last, AMP": mixed,
        "TorchScript": lambda: scripted(image),
    }
    session = onnx_of(network, folder, None)
    if session is not None and "CUDAExecutionProvider" in session.runtime.get_available_providers():
        calls["ONNX Runtime"] = lambda: session(image)
    return [Way("cuda", name, _synchronized(answer)) for name, answer in calls.items()]


def _synchronized(answer: Answer) -> Answer:
    import torch

    def finished() -> Any:
        output = answer()
        torch.cuda.synchronize()
        return output

    return finished


def scripted_of(network: Any) -> Any:
    """Return the network as TorchScript, saved and loaded again, as by ``ckpt_export`` and a server."""
    import torch

    file = io.BytesIO()
    torch.jit.save(torch.jit.script(network), file)
    file.seek(0)
    return torch.jit.load(file).eval()


def onnx_of(network: Any, folder: Path, threads: int | None) -> Any:
    """Return the network in ONNX Runtime; ``None``, with a message, if a library is missing."""
    from bundle.export import OnnxNetwork, write_onnx

    path = folder / "model.onnx"
    try:
        if not path.exists():
            write_onnx(network, path, {})
        return OnnxNetwork(path, threads=threads)
    except RuntimeError as error:
        print(f"benchmark_inference: ONNX Runtime is skipped: {error}", file=sys.stderr)
        return None


def measure(ways: Sequence[Way], repeats: int) -> None:
    """Time all backends in turns, after a warm-up whose outputs are compared with torch."""
    expected = {way.device: way.answer() for way in ways if way.name == BASE}
    for way in ways:
        for _ in range(WARM_UP):
            answer = way.answer()
        way.difference = float((answer.float() - expected[way.device]).abs().max())
    for _ in range(repeats):
        for way in ways:
            start = time.perf_counter()
            way.answer()
            way.seconds.append(time.perf_counter() - start)


def table(ways: Sequence[Way], pixels: float, form: str) -> list[str]:
    """Return the lines of the table, ``markdown`` or ``csv``.

    Args:
        ways: backends with their timings.
        pixels: megapixels of one batch.
        form: ``markdown`` or ``csv``.
    """
    rows = []
    for way in ways:
        speeds = [pixels / seconds for seconds in (statistics.median(way.seconds), max(way.seconds), min(way.seconds))]
        rows.append([way.device, way.name, *(f"{speed:.3g}" for speed in speeds), f"{way.difference:.1e}"])
    if form == "csv":
        return [",".join(f'"{cell}"' if "," in cell else cell for cell in row) for row in (list(COLUMNS), *rows)]
    rule = ["---" if index < 2 else "---:" for index in range(len(COLUMNS))]
    return [f"| {' | '.join(row)} |" for row in (list(COLUMNS), rule, *rows)]


def machine(threads: int) -> list[str]:
    """Return lines that describe the hardware and the software versions."""
    import torch

    from scripts.benchmarking import processor

    lines = [f"{processor()}, {_cores()} cores, {threads} threads"]
    if torch.cuda.is_available():
        lines.append(torch.cuda.get_device_name())
    installed = {package.metadata["Name"].lower(): package.version for package in metadata.distributions()}
    names = [name for name in ("torch", "monai", "onnxruntime", "onnxruntime-gpu") if name in installed]
    versions = [f"{name} {installed[name]}" for name in names]
    return [*lines, ", ".join([f"Python {platform.python_version()}", *versions])]


def _cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


if __name__ == "__main__":
    sys.exit(main())
