"""Demo: Semi-MoE and a supervised U-Net on synthetic tiles, 10 % of them labeled.

    python scripts/demo.py [--output demo] [--max-epochs 25]

The demo is a small benchmark: scripts/benchmark.py trains each method (configs/sizes/demo.yaml) and evaluates it on the
test tiles. Then each network predicts a mask for each test tile through ``python -m monai.bundle``. A table and a
figure compare both methods, scripts/report.py writes an HTML report, and demo.json stores the results for
scripts/dev/update_results.py. This takes less than 10 minutes on two idle CPU cores. All files are written to the
output folder; repeat the command to resume a stopped demo.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from scripts.interruption import end_without_traceback

end_without_traceback()

from bundle.data import load_data_list
from scripts.benchmarking import code_state, processor, versions
from scripts.reporting.cells import Cell, chosen, load_cells
from scripts.reporting.comparison import draw_comparison

METHODS = ("supervised", "semi_moe_plus")
LABELS, SEED = 10, 0
DATA_LIST = f"heldout_{LABELS}_seed{SEED}.json"
EPOCH = 23
"""Steps per epoch: one pass over the 90 unlabeled tiles in batches of 4."""
EPOCHS = 25
COLUMNS = ("pooled_dice", "pooled_jaccard", "mean_dice", "mean_jaccard")


def main() -> int:
    """Run the demo. Exit codes: 0 success, 130 interrupted, or that of the first command that fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "demo", help="output folder (default: demo)")
    parser.add_argument("--max-epochs", type=int, default=EPOCHS, help=f"epochs of each training (default: {EPOCHS})")
    parser.add_argument("--images", type=int, default=4, help="number of test tiles in the figure (default: 4)")
    arguments = parser.parse_args()
    output = arguments.output.absolute()
    started, code = time.monotonic(), code_state(ROOT)
    is_new = not (output / "cells").exists()
    try:
        train(output, arguments.max_epochs)
        for method in METHODS:
            print(f"\n== {method}: inference ==", flush=True)
            infer(method, output)
        print("\n" + table(finished(output)))
        picture = compare(output, arguments.images)
        page = report(output)
    except subprocess.CalledProcessError as error:
        print(f"demo: a command failed with exit code {error.returncode}; see its output above", file=sys.stderr)
        return error.returncode
    except KeyboardInterrupt:
        print("\ndemo: stopped; repeat the command to resume", file=sys.stderr)
        return 130
    if is_new:  # the time of a resumed demo is unknown
        write_record(output, finished(output), time.monotonic() - started, arguments.max_epochs, code)
    print(f"\nPredictions of both methods on test tiles: {picture}")
    print(f"Training curves: {Path(sys.executable).with_name('tensorboard')} --logdir {output}")
    print(f"Report (HTML): {page}")
    print(f"The demo took {(time.monotonic() - started) / 60:.1f} minutes.")
    return 0


def train(output: Path, max_epochs: int) -> None:
    """Train and evaluate both methods in a benchmark with one label percentage and one seed."""
    print("== training and evaluation ==", flush=True)
    what = ["--methods", *METHODS, "--labels", LABELS, "--seeds", SEED, "--size", "demo"]
    length = ["--set", f"max_epochs={max_epochs}", "--budget", f"{EPOCH * max_epochs}steps"]
    where = ["--output", output, "--dataset_dir", output / "dataset", "--force"]
    program("benchmark.py", [*what, *length, *where])


def report(output: Path) -> Path:
    """Write the report of the benchmark and return its path."""
    folder = output / "report"
    program("report.py", ["--cells", output, "--output", folder, "--methods", *METHODS], stdout=subprocess.DEVNULL)
    return folder / "report.html"


def program(name: str, arguments: list[object], **settings: Any) -> None:
    """Run another program of this folder."""
    subprocess.run([sys.executable, str(ROOT / "scripts" / name), *map(str, arguments)], check=True, **settings)


def infer(method: str, output: Path) -> None:
    """Write a mask for each test tile with the trained network of a method."""
    models = output / "cells" / f"{method}-{LABELS}-seed{SEED}" / "models"
    where = ["--dataset_dir", output / "dataset", "--data_list", DATA_LIST, "--ckpt_dir", models]
    written = ["--output_dir", output / "masks" / method, "--overwrite", True]
    bundle_run("inference", [ROOT / "configs" / "inference.json"], [*where, *written])


def bundle_run(run_id: str, configs: list[Path], overrides: list[object]) -> None:
    """Run ``python -m monai.bundle run``; its output is shown."""
    files = str([str(path) for path in configs])
    common = ["--bundle_root", ROOT, "--meta_file", ROOT / "configs/metadata.json"]
    logging = ["--logging_file", ROOT / "configs/logging.conf"]
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", run_id, "--config_file", files]
    subprocess.run([*command, *map(str, [*common, *logging, *overrides])], cwd=ROOT, check=True)


def finished(output: Path) -> list[Cell]:
    """Return the benchmark cell of each method, in the order of ``METHODS``."""
    cells = [cell for cell in chosen(load_cells(output), METHODS, [str(LABELS)]) if cell.seed == SEED]
    return sorted(cells, key=lambda cell: METHODS.index(cell.method))


def table(cells: Sequence[Cell]) -> str:
    """Return the scores on the test tiles, one line per method."""
    count = cells[0].content["counts"]["test"]
    lines = [f"{f'test, {count} tiles':<16}" + "".join(f"{name:>16}" for name in COLUMNS) + f"{'training':>12}"]
    for cell in cells:
        figures = "".join(f"{cell.metrics[name]:>16.4f}" for name in COLUMNS)
        lines.append(f"{cell.method:<16}{figures}{cell.content['seconds']['training']:>10.0f} s")
    return "\n".join(lines)


def write_record(
    output: Path, cells: Sequence[Cell], total_seconds: float, max_epochs: int, code: Mapping[str, object]
) -> Path:
    """Write demo.json: scores and seconds of each method, total seconds, code, versions and hardware."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    runs = {
        cell.method: {"seconds": round(cell.content["seconds"]["training"], 1), "metrics": dict(cell.metrics)}
        for cell in cells
    }
    content = {
        "format": "semi_moe.demo/1",
        **{"data": "phantom", "protocol": "heldout", "size": "demo", "seeds": [SEED], "data_list": DATA_LIST},
        **{"usual": max_epochs == EPOCHS, "command": f"python scripts/demo.py --max-epochs {max_epochs}"},
        **{"methods": runs, "seconds": round(total_seconds, 1), **code, "versions": versions(ROOT)},
        "hardware": {"cpu": processor(), "cores": cores},
        "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    path = output / "demo.json"
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return path


def compare(output: Path, count: int) -> Path:
    """Draw some test tiles: the image, and ground truth and prediction of each method as contours."""
    entries = load_data_list(output / "dataset", DATA_LIST)["test"]
    chosen = entries[:: max(len(entries) // count, 1)][:count]
    path = output / "comparison.png"
    draw_comparison(chosen, {method: output / "masks" / method for method in METHODS}, path)
    return path


if __name__ == "__main__":
    sys.exit(main())
