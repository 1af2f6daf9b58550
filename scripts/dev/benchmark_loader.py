r"""Benchmark the data loader: crops per second from the loader, compared with the training step.

    python scripts/dev/benchmark_loader.py
    python scripts/dev/benchmark_loader.py --dataset_dir DIR --overlays data/glas.yaml --set batch_size=4 num_workers=2

Loader, network and step are those of configs/train.json with overlays and settings. Without --dataset_dir, the phantom
is drawn into dataset/ on first use. No other file is written.

- loader: both streams in epochs, as in training, including the start of workers; crops with targets and augmentation,
  cached and, for comparison, uncached.
- one core: CPU time of crop, augmentation, targets and collation, which is the speed of one worker.
- training: optimizer steps on this device, on one batch in memory.

Each measurement takes --seconds; filling the cache takes one pass over all tiles.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

WARM_UP = 2
"""Untimed steps."""
ENOUGH = 3.0
"""Target ratio of the loader's speed to that of the training step."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program. Exit codes: 0 success, 1 error, 2 invalid command line, 130 interrupted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_dir", type=Path, default=ROOT / "dataset", help="data folder (default: dataset)")
    parser.add_argument("--overlays", nargs="+", default=[], metavar="NAME", help="files in configs/: data/glas.yaml")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", dest="settings", help="other settings")
    parser.add_argument("--seconds", type=float, default=10.0, help="time of each measurement (default: 10)")
    options = parser.parse_args(arguments)
    try:
        _check(options)
    except ValueError as error:
        parser.error(str(error))
    try:
        run(options)
    except (OSError, ValueError, RuntimeError) as error:
        print(f"benchmark_loader: {_sentence(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("benchmark_loader: stopped", file=sys.stderr)
        return 130
    return 0


def _check(options: argparse.Namespace) -> None:
    """Check the command line and parse its settings, whose values are YAML.

    Raises:
        ValueError: if an option is invalid.
    """
    import yaml

    for name in options.overlays:
        if not (ROOT / "configs" / name).is_file():
            raise ValueError(f"--overlays: no file configs/{name}")
    if not options.seconds > 0:
        raise ValueError("--seconds must be above 0")
    options.overrides = {}
    for word in options.settings:
        key, _, value = word.partition("=")
        if word.find("=") < 1:
            raise ValueError(f"--set {word!r} must have the form KEY=VALUE")
        try:
            options.overrides[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ValueError(f"--set {word!r}: the value is not valid YAML") from error


def run(options: argparse.Namespace) -> None:
    """Run the benchmark and print each result as soon as it is measured."""
    from monai.utils import set_determinism

    from scripts.benchmarking.speed import alone, loaders

    config = configured(options)
    set_determinism(seed=config.get_parsed_content("seed"))
    config.get_parsed_content("data#datalist")  # may draw the phantom
    started = time.perf_counter()
    streams = loaders(config)
    spent = time.perf_counter() - started
    for name, loader in streams.items():
        data = loader.dataset
        cached = f"{data.cache_num} of {len(data)} cached, {bytes_a_tile(data) / 1024:.0f} KiB per tile"
        print(f"{name + ' tiles':18s} {cached if data.cache_num else f'{len(data)}, none cached'}")
    print(f"{'cache':18s} filled in {spent:.1f} s")
    per_core = {name: core_seconds(alone(loader), options.seconds) for name, loader in streams.items()}
    for name, seconds in per_core.items():
        print(f"{'one core':18s} {1 / seconds:.1f} {name} crops/s ({1000 * seconds:.2f} ms each)")
    steps = config.get_parsed_content("train#trainer#epoch_length")
    loaded = crops_a_second(streams, steps, options.seconds)
    workers = config.get_parsed_content("num_workers")
    print(f"{'loader, cached':18s} {loaded:.1f} crops/s ({workers or 'no'} workers per stream)", flush=True)
    uncached = crops_a_second(loaders(configured(options, **{"data#cache_rate": 0.0})), steps, options.seconds)
    print(f"{'loader, uncached':18s} {uncached:.1f} crops/s", flush=True)
    trained, seconds = training_speed(config, streams, options.seconds)
    device = config.get_parsed_content("device")
    print(f"{'training':18s} {trained:.1f} crops/s ({1000 * seconds:.0f} ms per step on {device})")
    verdict = "enough" if loaded >= ENOUGH * trained else f"less than {ENOUGH:g}: increase --set num_workers=N"
    print(f"{'ratio':18s} {loaded / trained:.1f} times as fast as training ({verdict})")
    cores = ENOUGH * sum(per_core.values()) / len(per_core)
    print(f"{'cores':18s} {1000 * cores:.1f} for {ENOUGH:g} times the speed of a device that trains on 1000 crops/s")


def configured(options: argparse.Namespace, **more: Any) -> Any:
    """Return the training config with overlays and settings; nothing is instantiated."""
    from scripts.benchmarking import speed

    dataset_dir = str(options.dataset_dir.expanduser().absolute())
    return speed.configured(options.overlays, {"dataset_dir": dataset_dir, **options.overrides, **more})


def bytes_a_tile(dataset: Any) -> float:
    """Return the mean size of the tensors of a cached tile, bytes."""
    from torch import Tensor

    tensors = [value for item in dataset._cache for value in item.values() if isinstance(value, Tensor)]
    return sum(value.untyped_storage().nbytes() for value in tensors) / max(dataset.cache_num, 1)


def core_seconds(loader: Any, seconds: float) -> float:
    """Return the CPU time of one crop on one core, s."""
    import torch

    from scripts.benchmarking.speed import endless

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    crops, until, start = 0, time.perf_counter() + seconds, time.thread_time()
    for batch in endless(loader):
        crops += len(batch["image"])
        if time.perf_counter() > until:
            break
    torch.set_num_threads(threads)
    return (time.thread_time() - start) / crops


def crops_a_second(streams: dict[str, Any], steps: int, seconds: float) -> float:
    """Return the crops per second of both streams together, in epochs of ``steps`` steps with a batch of each."""
    from scripts.benchmarking.speed import endless

    crops, start = 0, time.perf_counter()
    while True:
        iterators = [endless(loader) for loader in streams.values()]
        for _ in range(steps):
            crops += sum(len(next(batches)["image"]) for batches in iterators)
            if time.perf_counter() - start > seconds:
                return crops / (time.perf_counter() - start)


def training_speed(config: Any, streams: dict[str, Any], seconds: float) -> tuple[float, float]:
    """Return crops per second and seconds per step of the bundle's trainer on one batch of each stream."""
    import torch
    from ignite.engine import Events

    from bundle.engines import SemiSupervisedTrainer
    from bundle.types import to_bool
    from scripts.benchmarking.speed import alone

    batches = {name: next(iter(alone(loader))) for name, loader in streams.items()}
    device = torch.device(config.get_parsed_content("device"))
    clock: list[float] = []

    def tick(engine: Any) -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        clock.append(time.perf_counter())
        if len(clock) > WARM_UP + 1 and clock[-1] - clock[WARM_UP] > seconds:
            engine.terminate()

    trainer = SemiSupervisedTrainer(
        device=device,
        max_epochs=1,
        train_data_loader=[batches["labeled"]],  # type: ignore[arg-type]
        unlabeled_data_loader=[batches["unlabeled"]] if "unlabeled" in batches else None,  # type: ignore[arg-type]
        epoch_length=sys.maxsize // 2,
        network=config.get_parsed_content("network"),
        step=config.get_parsed_content("train#step"),
        optimizer=config.get_parsed_content("train#optimizer"),
        non_blocking=True,
        amp=to_bool(config.get_parsed_content("amp"), "amp"),
    )
    trainer.add_event_handler(Events.ITERATION_COMPLETED, tick)
    trainer.run()
    a_step = (clock[-1] - clock[WARM_UP]) / (len(clock) - 1 - WARM_UP)
    return sum(len(batch["image"]) for batch in batches.values()) / a_step, a_step


def _sentence(error: BaseException) -> str:
    """Return the message of the root cause, without MONAI's messages about the config."""
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}; check that it exists and can be read and written"
    return " ".join(str(error).split())


if __name__ == "__main__":
    sys.exit(main())
