"""Measure time and memory of whole-slide inference, which runs in a separate process.

python scripts/dev/draw_slide.py --output slide.tif --size 20000 20000 --tissue 0.3
python scripts/dev/benchmark_slides.py --slide slide.tif --output runs/slide --ckpt_dir models
Peak memory is the sum over all processes of the run, sampled five times per second; shared memory counts in each
process. Other options go to the run: --block 1024 --num_workers 2 --network_def#widths "[8, 16, 32, 64, 128]".
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs"
INTERVAL = 0.2
"""Seconds between two samples of the memory."""
PROC = Path("/proc")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program. Exit codes: 0 success, 1 error, 2 invalid command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slide", required=True, type=Path, help="slide file")
    parser.add_argument("--output", required=True, type=Path, help="output folder for mask and polygons")
    parser.add_argument("--ckpt_dir", type=Path, default=ROOT / "models", help="folder with model.pt (default: models)")
    parser.add_argument("--overlays", nargs="+", default=[], help="files in configs/: inference/onnx.yaml")
    given, overrides = parser.parse_known_args(arguments)
    if not PROC.is_dir():
        print("benchmark_slides: requires Linux, to read the memory of processes from /proc", file=sys.stderr)
        return 1
    configs = [str(CONFIGS / name) for name in ("inference.json", "inference/slides.yaml", *given.overlays)]
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", "inference", "--config_file", str(configs)]
    common = ["--bundle_root", ROOT, "--dataset_dir", given.slide, "--output_dir", given.output, "--overwrite", True]
    command += [*map(str, common), "--ckpt_dir", str(given.ckpt_dir), *overrides]
    started = time.monotonic()
    with subprocess.Popen(command, cwd=ROOT) as process:
        peak = watched(process)
    if process.returncode != 0:
        print(f"benchmark_slides: inference failed with exit code {process.returncode}; see above", file=sys.stderr)
        return 1
    print(table(facts_of(given.output), peak, time.monotonic() - started))
    return 0


def watched(process: subprocess.Popen[bytes]) -> float:
    """Wait for a process and return the peak resident memory of it and its descendants, MiB."""
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, sum(map(resident, family(process.pid))))
        time.sleep(INTERVAL)
    return peak


def family(parent: int) -> list[int]:
    """Return the ids of a process and its descendants."""
    processes = [parent]
    for number in processes:
        for task in PROC.glob(f"{number}/task/*/children"):
            processes.extend(map(int, _text(task).split()))
    return processes


def resident(number: int) -> float:
    """Return the resident memory of a process, MiB; 0 if it has ended."""
    lines = [line for line in _text(PROC / str(number) / "status").splitlines() if line.startswith("VmRSS:")]
    return int(lines[0].split()[1]) / 1024 if lines else 0.0


def _text(path: Path) -> str:
    """Return the text of a file; empty if its process has ended."""
    try:
        return path.read_text()
    except OSError:
        return ""


def facts_of(output: Path) -> dict[str, Any]:
    """Return the facts about the slide from the journal of the run."""
    lines = (output / "journal_0.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["facts"] for line in lines if "facts" in line][-1]


def table(facts: dict[str, Any], peak: float, seconds: float) -> str:
    """Return the results as a Markdown table."""
    times = facts["seconds"]
    rows = {
        "slide": f"{facts['width']} x {facts['height']} px, {facts['um per px']} um/px",
        "predicted at working resolution": f"{100 * facts['share predicted']:.1f} % in {facts['blocks']} blocks",
        "glands": facts["glands"],
        "seconds, with start of the program": f"{seconds:.0f}",
        "seconds of the slide": f"{times['all']:.0f}",
        "predicted megapixels per second": facts["megapixels a second"],
        "peak resident memory": f"{peak:.0f} MiB",
    }
    rows |= {
        f"{name.replace('_', ' for ')}": f"{value:.1f} s, {100 * value / max(times['all'], 1e-9):.0f} %"
        for name, value in times.items()
        if name != "all"
    }
    machine = f"{platform.machine()}, Python {platform.python_version()}"
    return "\n".join([f"| {machine} | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])


if __name__ == "__main__":
    sys.exit(main())
