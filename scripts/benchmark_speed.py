r"""Benchmark the training step: time by parts, memory and operations, compared with the published step.

    python scripts/benchmark_speed.py
    python scripts/benchmark_speed.py --sweep crop_size=128,256,512 --variants default --output speed.json
    python scripts/benchmark_speed.py --upsampling
    python scripts/benchmark_speed.py --sizes 256 --set amp=True --overlays data/glas.yaml --dataset_dir DIR

Variants:
    published       the published step, written plainly: three separate U-Nets of the paper's widths, a backward pass
                    for each stream, an SGD optimizer for each expert, float32
    semi_moe        the same by configs/methods/semi_moe.yaml and configs/schedules/paper.yaml, without moving average
    semi_moe_recipe the same network with the default recipe: AdamW, color augmentation, moving average
    default         configs/train.json
    supervised      configs/methods/supervised.yaml

Each variant runs in a separate process, so peak memory is that of one variant. All variants run once in each round, so
that other load on the machine affects all of them. Medians over the rounds are printed; --output saves them as JSON
with hardware and versions. Without --dataset_dir, the phantom is drawn into dataset/ on first use.

"of rate" compares the operations of a step with those of a large 3x3 convolution in the same time. "with loader"
includes the start of an epoch and of its loader processes; take enough --steps to compare it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from scripts.interruption import end_without_traceback

end_without_traceback()

BASE = "published"
"""The variant with which the others are compared."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program. Exit codes: 0 success, 1 a measurement failed, 2 invalid command line, 130 interrupted."""
    options = parse(arguments)
    if options.measure:
        print(json.dumps(measured(options)))
        return 0
    if options.upsampling:
        return print_upsampling(options)
    try:
        results = [result for point in points(options) for result in compared(options, point)]
    except subprocess.CalledProcessError as error:
        last = (error.stderr or "").strip().rpartition("\n")[2]
        print(f"benchmark_speed: {last or f'a measurement ended with exit code {error.returncode}'}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("benchmark_speed: stopped", file=sys.stderr)
        return 130
    if options.output:
        save(options, results)
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse and check the command line."""
    import yaml

    from scripts.benchmarking.speed import VARIANTS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--variants", nargs="+", default=["published", "semi_moe", "default"], choices=list(VARIANTS), metavar="NAME"
    )
    parser.add_argument("--sweep", metavar="KEY=A,B,C", help="measure for each value, such as batch_size=2,4,8")
    parser.add_argument("--sizes", nargs="+", type=int, default=[256], help="sides of the crops, px (default: 256)")
    parser.add_argument("--dataset_dir", type=Path, default=ROOT / "dataset", help="data folder (default: dataset)")
    parser.add_argument("--overlays", nargs="+", default=[], metavar="NAME", help="files in configs/: data/glas.yaml")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", dest="settings", help="other settings")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads (default: all cores)")
    parser.add_argument("--steps", type=int, default=5, help="timed steps of a measurement (default: 5)")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each variant (default: 3)")
    parser.add_argument("--upsampling", action="store_true", help="time only convolutions after upsampling, two ways")
    parser.add_argument("--output", type=Path, help="JSON file of the results")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if min(options.steps, options.rounds, options.threads, *options.sizes) < 1:
        parser.error("--steps, --rounds, --threads and --sizes must be at least 1")
    for name in options.overlays:
        if not (ROOT / "configs" / name).is_file():
            parser.error(f"--overlays: no file configs/{name}")
    for word in [*options.settings, *([options.sweep] if options.sweep else [])]:
        if word.find("=") < 1:
            parser.error(f"{word!r} must have the form KEY=VALUE")
    try:
        options.overrides = {
            key: yaml.safe_load(value) for key, _, value in (word.partition("=") for word in options.settings)
        }
    except yaml.YAMLError:
        parser.error(f"--set {' '.join(options.settings)}: a value is not valid YAML")
    options.overrides |= {"dataset_dir": str(options.dataset_dir.expanduser().absolute())}
    return options


def points(options: argparse.Namespace) -> Iterator[list[str]]:
    """Yield the settings of each point of the sweep, as KEY=VALUE."""
    key, _, values = (options.sweep or "").partition("=")
    for size in options.sizes:
        crop = f"crop_size=[{size}, {size}]"
        if not options.sweep:
            yield [crop]
        for value in values.split(",") if options.sweep else []:
            yield [crop, f"{key}={value}"]


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """Return the result of one variant in this process."""
    import torch

    from bundle.types import to_bool
    from scripts.benchmarking.speed import VARIANTS, configured, convolution_rate, measure

    torch.set_num_threads(options.threads)
    overlays, settings = VARIANTS[options.measure]
    config = configured([*overlays, *options.overlays], {**settings, **options.overrides})
    device = torch.device(config.get_parsed_content("device"))
    rate = convolution_rate(device, to_bool(config.get_parsed_content("amp"), "amp"))
    result = measure(options.measure, options.steps, options.overlays, options.overrides)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {**result, "rate": rate, "device": name}


def print_upsampling(options: argparse.Namespace) -> int:
    """Print the time of the convolutions after upsampling, by their definition and as transposed convolutions."""
    import torch

    from scripts.benchmarking.speed import UPSAMPLED, upsampling

    torch.set_num_threads(options.threads)
    device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    print(f"{'channels':>12s}{'side, px':>10s}{'defined, ms':>13s}{'transposed, ms':>16s}")
    for row in upsampling(device, UPSAMPLED):
        channels = f"{row['below']} -> {row['width']}"
        print(
            f"{channels:>12s}{row['side']:10d}{1000 * row['defined']:13.1f}{1000 * row['transposed']:16.1f}", flush=True
        )
    return 0


def compared(options: argparse.Namespace, point: list[str]) -> list[dict[str, Any]]:
    """Measure all variants in rounds; print and return the medians."""
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in options.variants}
    for _ in range(options.rounds):
        for name, results in rounds.items():
            results.append(child(options, name, point))
    print(f"\n{', '.join(point)}; {options.threads} threads; {rounds[options.variants[0]][0]['device']}")
    print(
        f"{'':15s}{'images/s':>9s}{'of ' + BASE:>14s}{'step, s':>9s}{'forward':>9s}{'backward':>9s}"
        f"{'optimizer':>10s}{'average':>8s}{'with loader':>12s}{'data, s':>8s}{'MiB':>7s}{'of rate':>9s}"
    )
    merged = [{"settings": point, **medians(results)} for results in rounds.values()]
    base = next((result for result in merged if result["variant"] == BASE), None)
    for result in merged:
        ratio = f"{result['speed'] / base['speed']:.2f}" if base else "-"
        parts = result["parts"]
        memory = result["device_mib"] or result["host_mib"]
        share = result["operations"] / result["step"] / result["rate"]
        print(
            f"{result['variant']:15s}{result['speed']:9.2f}{ratio:>14s}{result['step']:9.3f}{parts['forward']:9.3f}"
            f"{parts['backward']:9.3f}{parts['optimizer']:10.3f}{parts['average']:8.3f}{result['loaded']:12.3f}"
            f"{result['data']:8.3f}{memory:7.0f}{share:9.0%}",
            flush=True,
        )
    return merged


def child(options: argparse.Namespace, name: str, point: list[str]) -> dict[str, Any]:
    """Return the result of a variant from a process of its own.

    Raises:
        subprocess.CalledProcessError: if it failed.
    """
    command = [sys.executable, "-W", "ignore", __file__, "--measure", name, "--steps", str(options.steps)]
    command += ["--threads", str(options.threads), "--dataset_dir", str(options.dataset_dir)]
    command += ["--set", *options.settings, *point]
    command += ["--overlays", *options.overlays] if options.overlays else []
    environment = os.environ | {"OMP_NUM_THREADS": str(options.threads)}
    process = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(process.stdout.strip().rpartition("\n")[2])


def medians(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Merge the rounds of a variant: the median of each number."""
    merged = dict(results[0])
    for key in ("step", "loaded", "data", "rate", "host_mib"):
        merged[key] = median(result[key] for result in results)
    merged["parts"] = {part: median(result["parts"][part] for result in results) for part in merged["parts"]}
    merged["steps"] = [result["step"] for result in results]
    return {**merged, "speed": merged["images"] / merged["step"]}


def save(options: argparse.Namespace, results: list[dict[str, Any]]) -> None:
    """Write the results with hardware, versions and command."""
    from bundle.utils import atomic_path
    from scripts.benchmarking import code_state, versions
    from scripts.benchmarking.provenance import processor

    content = {
        "command": ["python", "scripts/benchmark_speed.py", *sys.argv[1:]],
        "processor": processor(),
        "threads": options.threads,
        "versions": versions(ROOT),
        **code_state(ROOT),
        "results": results,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(options.output) as partial:
        partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
