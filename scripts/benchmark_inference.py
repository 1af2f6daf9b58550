r"""Benchmark of the network's answer: torch, TorchScript and ONNX Runtime side by side, in megapixels a second.

    python scripts/benchmark_inference.py
    python scripts/benchmark_inference.py --widths 64 128 256 512 1024 --batch 1 --threads 1 --format csv
    python scripts/benchmark_inference.py --config_file "['configs/train.json','configs/methods/supervised.yaml']"

The network of configs/inference.json, or of other configs with overrides (--key value), from random weights: they
change no time. It answers one batch of windows over and over, without reading, blending or writing of pictures:

- torch: as Python runs it, float32, in either order of memory (channels_last is what the configs take).
- TorchScript: as ckpt_export writes it; frozen: with its weights as constants and what torch makes faster then.
- ONNX Runtime: the file of scripts/export_onnx.py. Left out where it is not installed.
- on a GPU also torch with automatic mixed precision, and ONNX Runtime where it has CUDA.

All ways take turns, so that a busy machine slows all alike. Told are the median of the repeats, the slowest and the
fastest, and the largest difference from torch. The default takes about a minute on two cores.
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

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

WARM_UP = 2
"""Answers before the clock starts; TorchScript looks at the first and compiles in the second."""
COLUMNS = ("device", "way", "megapixels/s", "slowest", "fastest", "differs by")
BASE = "torch"

Answer = Callable[[], Any]


@dataclass
class Way:
    """One way to an answer: where, by what name, how; how long each repeat took, and how far it is from torch's."""

    device: str
    name: str
    answer: Answer
    seconds: list[float] = field(default_factory=list)
    difference: float = 0.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; 0 is good, 1 an error that the last line explains, 2 a wrong command line, 130 a Ctrl-C."""
    from bundle.benchmark import settings_of
    from bundle.engines.error_summary import sentence

    options = _parser()
    given, words = options.parse_known_args(arguments)
    try:
        changes = settings_of(words)
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
    parser.add_argument("--config_file", default=str(shipped), help="configs that have the network")
    parser.add_argument("--widths", type=int, nargs="+", help="channels of the levels (default those of the configs)")
    parser.add_argument("--batch", type=int, default=4, help="windows at a time (default 4)")
    parser.add_argument("--size", type=int, default=256, help="side of a window, px (default 256)")
    parser.add_argument("--threads", type=int, default=_cores(), help="threads on the CPU (default one a core)")
    parser.add_argument("--repeats", type=int, default=5, help="times that each way is timed (default 5)")
    parser.add_argument("--format", choices=("markdown", "csv"), default="markdown", help="form of the table")
    return parser


def run(given: argparse.Namespace, changes: Mapping[str, Any]) -> None:
    """Measure, and print the table below what it was measured with."""
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
    said = [*machine(given.threads), f"{type(network).__name__}, {parameters:,} parameters"]
    said.append(f"batch {given.batch} of {given.size} x {given.size} px, {given.repeats} repeats")
    print("\n".join(f"# {line}" if given.format == "csv" else f"- {line}" for line in said))
    print("\n".join(["", *table(ways, pixels, given.format)]))


def network_of(config_file: str, changes: Mapping[str, Any]) -> Any:
    """The network of configs and overrides, from random weights."""
    from fire.parser import DefaultParseValue
    from monai.bundle import ConfigParser

    from bundle.benchmark import merged

    found = DefaultParseValue(config_file)
    files = [str(Path(file).absolute()) for file in (found if isinstance(found, list | tuple) else [found])]
    config = merged(ROOT, files, {"bundle_root": str(ROOT), **changes})
    return ConfigParser(config).get_parsed_content("network_def").eval()


def on_cpu(network: Any, image: Any, folder: Path, threads: int) -> list[Way]:
    """The ways on the CPU."""
    import torch

    last = torch.channels_last
    scripted = scripted_of(network)
    frozen = torch.jit.optimize_for_inference(torch.jit.freeze(scripted))
    channels_last, laid = copy.deepcopy(network).to(memory_format=last), image.to(memory_format=last)
    calls: dict[str, Answer] = {
        BASE: lambda: network(image),
        "torch, channels_last": lambda: channels_last(laid),
        "TorchScript": lambda: scripted(image),
        "TorchScript, frozen": lambda: frozen(image),
    }
    served = onnx_of(network, folder, threads)
    if served is not None:
        calls["ONNX Runtime"] = lambda: served(image)
    return [Way("cpu", name, answer) for name, answer in calls.items()]


def on_cuda(network: Any, image: Any, folder: Path) -> list[Way]:
    """The ways on the first GPU; an answer ends when the GPU has given it."""
    import torch

    last = torch.channels_last
    network, image = copy.deepcopy(network).cuda(), image.cuda()
    laid = image.to(memory_format=last)
    scripted, channels_last = scripted_of(network), copy.deepcopy(network).to(memory_format=last)

    def mixed() -> Any:
        with torch.autocast("cuda"):
            return channels_last(laid)

    calls: dict[str, Answer] = {
        BASE: lambda: network(image),
        "torch, channels_last": lambda: channels_last(laid),
        "torch, channels_last, AMP": mixed,
        "TorchScript": lambda: scripted(image),
    }
    served = onnx_of(network, folder, None)
    if served is not None and "CUDAExecutionProvider" in served.runtime.get_available_providers():
        calls["ONNX Runtime"] = lambda: served(image)
    return [Way("cuda", name, _synchronized(answer)) for name, answer in calls.items()]


def _synchronized(answer: Answer) -> Answer:
    import torch

    def finished() -> Any:
        given = answer()
        torch.cuda.synchronize()
        return given

    return finished


def scripted_of(network: Any) -> Any:
    """TorchScript as ``ckpt_export`` writes it and a server reads it."""
    import torch

    file = io.BytesIO()
    torch.jit.save(torch.jit.script(network), file)
    file.seek(0)
    return torch.jit.load(file).eval()


def onnx_of(network: Any, folder: Path, threads: int | None) -> Any:
    """The network by ONNX Runtime; ``None``, and a line that says so, where a library is missing."""
    from bundle.networks import OnnxNetwork, write_onnx

    path = folder / "model.onnx"
    try:
        if not path.exists():
            write_onnx(network, path, {})
        return OnnxNetwork(path, threads=threads)
    except RuntimeError as error:
        print(f"benchmark_inference: ONNX Runtime is left out: {error}", file=sys.stderr)
        return None


def measure(ways: Sequence[Way], repeats: int) -> None:
    """Time all ways in turns, after some answers that count for nothing but the comparison with torch."""
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
    """Lines of the table, ``markdown`` or ``csv``; ``pixels`` is what one answer covers, in megapixels."""
    rows = []
    for way in ways:
        speeds = [pixels / seconds for seconds in (statistics.median(way.seconds), max(way.seconds), min(way.seconds))]
        rows.append([way.device, way.name, *(f"{speed:.3g}" for speed in speeds), f"{way.difference:.1e}"])
    if form == "csv":
        return [",".join(f'"{cell}"' if "," in cell else cell for cell in row) for row in (list(COLUMNS), *rows)]
    rule = ["---" if index < 2 else "---:" for index in range(len(COLUMNS))]
    return [f"| {' | '.join(row)} |" for row in (list(COLUMNS), rule, *rows)]


def machine(threads: int) -> list[str]:
    """What the figures were measured on, and with what."""
    import torch

    from bundle.benchmark import processor

    lines = [f"{processor()}, {_cores()} cores, {threads} threads"]
    if torch.cuda.is_available():
        lines.append(torch.cuda.get_device_name())
    found = {one.metadata["Name"].lower(): one.version for one in metadata.distributions()}
    named = [f"{name} {found[name]}" for name in ("torch", "monai", "onnxruntime", "onnxruntime-gpu") if name in found]
    return [*lines, ", ".join([f"Python {platform.python_version()}", *named])]


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


if __name__ == "__main__":
    sys.exit(main())
