"""The demo: Semi-MoE beside a supervised U-Net on the embedded tiles, a tenth of them labeled.

    python scripts/demo.py [--output demo] [--max-epochs 25]

For each method it trains (configs/sizes/demo.yaml), evaluates on the test tiles and writes a mask for each of them,
all through ``python -m monai.bundle``, then prints a table, draws both methods side by side and writes demo.json, which
scripts/update_results.py reads. Up to 10 minutes on two quiet CPU cores. Everything lies under the output folder; a
second call trains again.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bundle.benchmark import code_state, processor, versions
from bundle.data import load_data_list
from bundle.handlers import drawing

METHODS = ("supervised", "semi_moe")
DATA_LIST = "heldout_10_seed0.json"
COLUMNS = ("pooled_dice", "pooled_jaccard", "mean_dice", "mean_jaccard")
EPOCHS = 25


def main() -> int:
    """Run the demo; the exit code is that of the first command that fails, or 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "demo", help="folder of all that the demo writes")
    parser.add_argument("--max-epochs", type=int, default=EPOCHS, help="epochs of each training")
    parser.add_argument("--images", type=int, default=4, help="test tiles in the picture")
    arguments = parser.parse_args()
    output = arguments.output.absolute()
    started, code = time.monotonic(), code_state(ROOT)
    seconds = {}
    for method in METHODS:
        print(f"\n== {method}: training, evaluation, inference ==", flush=True)
        try:
            seconds[method] = run_method(method, output, arguments.max_epochs)
        except subprocess.CalledProcessError as error:
            print(
                f"demo: {method} stopped with exit code {error.returncode}; its last lines are above", file=sys.stderr
            )
            return error.returncode
    print("\n" + table(output, seconds))
    picture = compare(output, arguments.images)
    write_record(output, seconds, time.monotonic() - started, arguments.max_epochs, code)
    print(f"\nTest tiles, both methods side by side: {picture}")
    print(f"Curves: {Path(sys.executable).with_name('tensorboard')} --logdir {output}")
    print(f"Took {(time.monotonic() - started) / 60:.1f} minutes.")
    return 0


def run_method(method: str, output: Path, max_epochs: int) -> float:
    """Train, evaluate and infer with one method; the seconds that training took."""
    folder = output / method
    overlays = [ROOT / "configs" / name for name in ("train.json", f"methods/{method}.yaml", "sizes/demo.yaml")]
    common = ["--dataset_dir", str(output / "dataset"), "--data_list", DATA_LIST, "--ckpt_dir", str(folder / "models")]
    started = time.monotonic()
    bundle_run("training", overlays, [*common, "--output_dir", folder / "training", "--max_epochs", max_epochs])
    seconds = time.monotonic() - started
    evaluate = [*overlays, ROOT / "configs" / "evaluate.json"]
    bundle_run("evaluating", evaluate, [*common, "--output_dir", folder / "evaluation", "--max_epochs", max_epochs])
    written = ["--output_dir", folder / "masks", "--overwrite", True]
    bundle_run("inference", [ROOT / "configs" / "inference.json"], [*common, *written])
    return seconds


def bundle_run(run_id: str, configs: list[Path], overrides: list[object]) -> None:
    """One ``python -m monai.bundle run``, with its output on the screen."""
    files = str([str(path) for path in configs])
    common = ["--bundle_root", ROOT, "--meta_file", ROOT / "configs/metadata.json"]
    logging = ["--logging_file", ROOT / "configs/logging.conf"]
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", run_id, "--config_file", files]
    subprocess.run([*command, *map(str, [*common, *logging, *overrides])], cwd=ROOT, check=True)


def table(output: Path, seconds: dict[str, float]) -> str:
    """The scores on the test tiles, a line a method."""
    lines = [f"{'test, 40 tiles':<16}" + "".join(f"{name:>16}" for name in COLUMNS) + f"{'training':>12}"]
    for method in METHODS:
        scores = scores_of(output, method)
        figures = "".join(f"{scores[name]:>16.4f}" for name in COLUMNS)
        lines.append(f"{method:<16}{figures}{seconds[method]:>10.0f} s")
    return "\n".join(lines)


def scores_of(output: Path, method: str) -> dict[str, float]:
    """The scores of a method on the test tiles, by name."""
    with (output / method / "evaluation" / "metrics.csv").open(newline="") as file:
        return {name: float(value) for name, value in csv.reader(file)}


def write_record(
    output: Path, seconds: dict[str, float], whole: float, max_epochs: int, code: dict[str, object]
) -> Path:
    """Write demo.json: scores and seconds of each method, seconds of all, code, versions and machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    runs = {name: {"seconds": round(seconds[name], 1), "metrics": scores_of(output, name)} for name in METHODS}
    content = {
        "format": "semi_moe.demo/1",
        **{"data": "phantom", "protocol": "heldout", "size": "demo", "seeds": [0], "data_list": DATA_LIST},
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
            predicted = read(output / method / "masks" / f"{name}_mask.png") > 0
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
