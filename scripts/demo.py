"""The demo: Semi-MoE beside a supervised U-Net on the embedded tiles, a tenth of them labeled.

    python scripts/demo.py [--output demo] [--max-epochs 25]

It is a small benchmark: scripts/benchmark.py trains each method (configs/sizes/demo.yaml) and evaluates it on the test
tiles. Then each network writes a mask for each test tile through ``python -m monai.bundle``; a table and a picture show
both methods side by side, scripts/report.py makes one HTML page of it all, and demo.json keeps the figures for
scripts/update_results.py. 10 to 15 minutes on two quiet CPU cores. Everything lies under the output folder; a second
call keeps what is finished and goes on with what is not.
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

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bundle.benchmark import code_state, processor, versions
from bundle.data import load_data_list
from bundle.handlers import drawing
from bundle.report import Cell, chosen, load_cells

METHODS = ("supervised", "semi_moe")
LABELS, SEED = 10, 0
DATA_LIST = f"heldout_{LABELS}_seed{SEED}.json"
EPOCH = 23
"""Steps of an epoch: once through the 90 unlabeled tiles in batches of 4."""
EPOCHS = 25
COLUMNS = ("pooled_dice", "pooled_jaccard", "mean_dice", "mean_jaccard")


def main() -> int:
    """Run the demo; the exit code is that of the first command that fails, or 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "demo", help="folder of all that the demo writes")
    parser.add_argument("--max-epochs", type=int, default=EPOCHS, help="epochs of each training")
    parser.add_argument("--images", type=int, default=4, help="test tiles in the picture")
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
        print(f"demo: a command ended with exit code {error.returncode}; its last lines are above", file=sys.stderr)
        return error.returncode
    except KeyboardInterrupt:
        print("\ndemo: stopped; the same command goes on from here", file=sys.stderr)
        return 130
    if is_new:  # a demo that went on from an earlier one does not know how long it takes
        write_record(output, finished(output), time.monotonic() - started, arguments.max_epochs, code)
    print(f"\nTest tiles, both methods side by side: {picture}")
    print(f"Curves: {Path(sys.executable).with_name('tensorboard')} --logdir {output}")
    print(f"The report, a page for the browser: {page}")
    print(f"Took {(time.monotonic() - started) / 60:.1f} minutes.")
    return 0


def train(output: Path, max_epochs: int) -> None:
    """Train and evaluate both methods, as a benchmark of one share of labels and one seed."""
    print("== training and evaluation ==", flush=True)
    what = ["--methods", *METHODS, "--labels", LABELS, "--seeds", SEED, "--size", "demo"]
    length = ["--set", f"max_epochs={max_epochs}", "--budget", f"{EPOCH * max_epochs}steps"]
    where = ["--output", output, "--dataset_dir", output / "dataset", "--force"]
    program("benchmark.py", [*what, *length, *where])


def report(output: Path) -> Path:
    """Make the report page of what the benchmark left; where it is."""
    folder = output / "report"
    program("report.py", ["--cells", output, "--output", folder, "--methods", *METHODS], stdout=subprocess.DEVNULL)
    return folder / "report.html"


def program(name: str, words: list[object], **settings: Any) -> None:
    """Run another program of this folder."""
    subprocess.run([sys.executable, str(ROOT / "scripts" / name), *map(str, words)], check=True, **settings)


def infer(method: str, output: Path) -> None:
    """Write a mask for each test tile with the trained network of a method."""
    models = output / "cells" / f"{method}-{LABELS}-seed{SEED}" / "models"
    where = ["--dataset_dir", output / "dataset", "--data_list", DATA_LIST, "--ckpt_dir", models]
    written = ["--output_dir", output / "masks" / method, "--overwrite", True]
    bundle_run("inference", [ROOT / "configs" / "inference.json"], [*where, *written])


def bundle_run(run_id: str, configs: list[Path], overrides: list[object]) -> None:
    """One ``python -m monai.bundle run``, with its output on the screen."""
    files = str([str(path) for path in configs])
    common = ["--bundle_root", ROOT, "--meta_file", ROOT / "configs/metadata.json"]
    logging = ["--logging_file", ROOT / "configs/logging.conf"]
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", run_id, "--config_file", files]
    subprocess.run([*command, *map(str, [*common, *logging, *overrides])], cwd=ROOT, check=True)


def finished(output: Path) -> list[Cell]:
    """What the benchmark left of each method, in their order."""
    cells = [cell for cell in chosen(load_cells(output), METHODS, [str(LABELS)]) if cell.seed == SEED]
    return sorted(cells, key=lambda cell: METHODS.index(cell.method))


def table(cells: Sequence[Cell]) -> str:
    """The scores on the test tiles, a line a method."""
    count = cells[0].content["counts"]["test"]
    lines = [f"{f'test, {count} tiles':<16}" + "".join(f"{name:>16}" for name in COLUMNS) + f"{'training':>12}"]
    for cell in cells:
        figures = "".join(f"{cell.metrics[name]:>16.4f}" for name in COLUMNS)
        lines.append(f"{cell.method:<16}{figures}{cell.content['seconds']['training']:>10.0f} s")
    return "\n".join(lines)


def write_record(
    output: Path, cells: Sequence[Cell], whole: float, max_epochs: int, code: Mapping[str, object]
) -> Path:
    """Write demo.json: scores and seconds of each method, seconds of all, code, versions and machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    runs = {
        cell.method: {"seconds": round(cell.content["seconds"]["training"], 1), "metrics": dict(cell.metrics)}
        for cell in cells
    }
    content = {
        "format": "semi_moe.demo/1",
        **{"data": "phantom", "protocol": "heldout", "size": "demo", "seeds": [SEED], "data_list": DATA_LIST},
        **{"usual": max_epochs == EPOCHS, "command": f"python scripts/demo.py --max-epochs {max_epochs}"},
        **{"methods": runs, "seconds": round(whole, 1), **code, "versions": versions(ROOT)},
        "hardware": {"cpu": processor(), "cores": cores},
        "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    path = output / "demo.json"
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return path


def compare(output: Path, count: int) -> Path:
    """Draw some test tiles: the image, and truth and prediction of each method as contours."""
    entries = load_data_list(output / "dataset", DATA_LIST)["test"]
    chosen = entries[:: max(len(entries) // count, 1)][:count]
    rows = []
    for entry in chosen:
        photo = read(entry["image"])
        truth = read(entry["label"]) > 0
        pictures, scores = [photo], []
        for method in METHODS:
            name = Path(entry["image"]).stem
            predicted = read(output / "masks" / method / f"{name}_mask.png") > 0
            overlap = 2 * (predicted & truth).sum() / max(predicted.sum() + truth.sum(), 1)
            scores.append(f"{method} {overlap:.3f}")
            outlined = drawing.outlined((photo * 0.85).astype(np.uint8), truth, drawing.TRUTH, thick=True)
            pictures.append(drawing.outlined(outlined, predicted, drawing.PREDICTION))
        rows.append((f"{name}    Dice: {', '.join(scores)}", pictures))
    sheet = drawing.sheet("test tiles", ("image", *METHODS), rows, rows[0][1][0].shape[1])
    path = output / "comparison.png"
    drawing.in_palette(sheet).save(path, optimize=True)
    return path


def read(path: str | Path) -> np.ndarray:
    """A picture, RGB (H, W, 3), or a label map (H, W)."""
    with Image.open(path) as picture:
        return np.asarray(picture)


if __name__ == "__main__":
    sys.exit(main())
