"""Benchmark the training step on a busy CPU: numbers of threads, and how threads wait for each other.

    python scripts/dev/benchmark_threads.py
    python scripts/dev/benchmark_threads.py --busy 0 2 4 --threads 1 2 4 --variant supervised

OpenMP threads spin while they wait at the end of each parallel region. On a machine with other processes this takes
time from the thread that they wait for. With OMP_WAIT_POLICY=PASSIVE they sleep instead. Each measurement is a separate
process of scripts/benchmark_speed.py; --busy processes compute beside it, each on one core.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[2]
WAITING = {"spin": {}, "sleep": {"OMP_WAIT_POLICY": "PASSIVE"}}
"""How threads wait -> environment."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program. Exit codes: 0 success, 1 a measurement failed, 2 invalid command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cores = os.cpu_count() or 1
    parser.add_argument("--threads", nargs="+", type=int, default=[1, cores], help="threads (default: 1 and all cores)")
    parser.add_argument(
        "--busy", nargs="+", type=int, default=[0, cores], help="busy processes (default: 0, all cores)"
    )
    parser.add_argument("--variant", default="default", help="variant of scripts/benchmark_speed.py (default: default)")
    parser.add_argument("--dataset_dir", type=Path, default=ROOT / "dataset", help="data folder (default: dataset)")
    parser.add_argument("--steps", type=int, default=5, help="timed steps of a measurement (default: 5)")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each way (default: 3)")
    options = parser.parse_args(arguments)
    if min(*options.threads, options.steps, options.rounds) < 1 or min(options.busy) < 0:
        parser.error("--threads, --steps and --rounds must be at least 1, and --busy at least 0")
    ways = [(threads, name) for threads in dict.fromkeys(options.threads) for name in WAITING]
    ways = [(threads, name) for threads, name in ways if threads > 1 or name == "spin"]  # one thread never waits
    print("| busy processes | threads | waiting | images/s | step, s |\n| --- | --- | --- | --- | --- |")
    for busy in dict.fromkeys(options.busy):
        with busy_processes(busy):
            try:
                rounds = [[measure(options, *way) for way in ways] for _ in range(options.rounds)]
            except subprocess.CalledProcessError as error:
                last = (error.stderr or "").strip().rpartition("\n")[2]
                print(f"benchmark_threads: {last or 'a measurement failed'}", file=sys.stderr)
                return 1
        for (threads, name), steps in zip(ways, zip(*rounds, strict=True), strict=True):
            step = median(seconds for seconds, _ in steps)
            images = steps[0][1]
            waiting = name if threads > 1 else "-"
            print(f"| {busy} | {threads} | {waiting} | {images / step:.2f} | {step:.2f} |", flush=True)
    return 0


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Keep some processes busy, one core each."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def measure(options: argparse.Namespace, threads: int, waiting: str) -> tuple[float, int]:
    """Return the seconds of a training step and its number of images."""
    command = [
        sys.executable,
        "-W",
        "ignore",
        str(ROOT / "scripts" / "benchmark_speed.py"),
        "--measure",
        options.variant,
    ]
    command += ["--steps", str(options.steps), "--threads", str(threads), "--dataset_dir", str(options.dataset_dir)]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)} | WAITING[waiting]
    process = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    result = json.loads(process.stdout.strip().rpartition("\n")[2])
    return result["step"], result["images"]


if __name__ == "__main__":
    sys.exit(main())
