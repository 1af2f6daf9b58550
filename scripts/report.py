"""The report of a benchmark: a Markdown table and one HTML page that needs no other file.

    python scripts/report.py --cells OUTPUT_OF_BENCHMARK --output FOLDER

writes FOLDER/table.md and FOLDER/report.html from the finished cells under OUTPUT_OF_BENCHMARK/cells: mean and spread
over seeds, comparison image by image, curves, gate weights, calibration, worst and best test images, cost, and
published figures apart from ours. Cells of different data, protocol, size, steps or settings are refused.
"""

from __future__ import annotations

import argparse
import base64
import io
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bundle import report
from bundle.data.pictures import read_image, read_label, stem_of
from bundle.handlers import drawing

SIDE = 300
"""Longest side of a drawn test image, px."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; 0 is good, 1 an error that the last line explains, 2 a wrong command line."""
    options = _parser().parse_args(arguments)
    try:
        write_report(options)
    except (OSError, ValueError) as error:
        print(f"report: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("report: stopped; nothing was written", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", required=True, type=Path, help="output folder of scripts/benchmark.py")
    parser.add_argument("--output", required=True, type=Path, help="folder of report.html and table.md")
    parser.add_argument("--methods", nargs="+", default=[], help="methods to show (default: all)")
    parser.add_argument("--labels", nargs="+", default=[], help="shares of labels to show, in percent (default: all)")
    parser.add_argument(
        "--metrics", nargs="+", default=[], help="scores of the table (default: all that all cells have)"
    )
    parser.add_argument("--against", default="supervised", help="method that the others are compared with")
    parser.add_argument("--tiles", type=int, default=3, help="worst and best test images a method (default 3; 0: none)")
    parser.add_argument("--anchors", type=Path, default=ROOT / "docs" / "anchors.json", help="published figures")
    return parser


def write_report(options: argparse.Namespace) -> None:
    """Read the cells, write both files whole and say where they are."""
    everything = report.load_cells(options.cells)
    cells = report.chosen(everything, options.methods, options.labels)
    report.check_comparable(cells)
    metrics = chosen_metrics(cells, options.metrics)
    methods = report.methods_of(cells)
    against = options.against if options.against in methods else methods[0]
    warnings = report.warnings_of(cells)
    data = str(cells[0].content["data"])
    tiles = draw_tiles(cells, options.tiles)
    made = f"Made {datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC by scripts/report.py from {len(cells)} cells."
    page = report.build(cells, metrics, against, tiles, report.read_anchors(options.anchors, data), warnings, made)
    options.output.mkdir(parents=True, exist_ok=True)
    for name, text in (("table.md", markdown(cells, metrics, against)), ("report.html", page)):
        unfinished = options.output / f".{name}.part"
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(options.output / name)
    for sentence in warnings:
        print(f"note: {sentence}", file=sys.stderr)
    print(markdown(cells, metrics, against))
    print(f"{len(cells)} cells: {options.output / 'report.html'} and {options.output / 'table.md'}")


def chosen_metrics(cells: Sequence[report.Cell], asked: Sequence[str]) -> list[str]:
    """Scores of the table: those asked for, or all that the cells have.

    Raises:
        ValueError: for a score that no cell has.
    """
    there = report.metrics_of(cells)
    unknown = [name for name in asked if name not in there]
    if unknown:
        raise ValueError(f"no cell has the score {unknown[0]!r}; there are {', '.join(there)}")
    return list(asked) or there


def markdown(cells: Sequence[report.Cell], metrics: Sequence[str], against: str) -> str:
    """The table for docs/results.md, and the comparison below it."""
    parts = [report.markdown(report.score_table(cells, metrics))]
    found = report.comparisons(cells, "mean_dice", against)
    if found:
        parts += ["Mean Dice, image by image:", report.markdown(report.comparison_table(found, against))]
    return "\n\n".join(parts) + "\n"


def draw_tiles(cells: Sequence[report.Cell], count: int) -> dict[str, list[dict[str, Any]]]:
    """The worst and the best test images of the first seed of each method and share of labels, as data: addresses."""
    drawn: dict[str, list[dict[str, Any]]] = {}
    for labels in report.labels_of(cells):
        for method in report.methods_of(cells):
            found = [cell for cell in cells if cell.method == method and cell.labels == labels]
            scores = found[0].per_image("mean_dice") if found else {}
            order = sorted(scores, key=lambda name: scores[name])
            if not order or not count:
                continue
            places = truth_of(found[0])
            half = min(count, len(order) // 2 or 1)
            for what, names in (("worst", order[:half]), ("best", order[::-1][:half])):
                tiles = [tile(found[0], places, name, scores[name]) for name in names]
                kept = [picture for picture in tiles if picture is not None]
                if kept:
                    drawn[f"{method}, {labels} % labels, seed {found[0].seed}: {what}"] = kept
    return drawn


def truth_of(cell: report.Cell) -> dict[str, tuple[Path, Path]]:
    """Image and mask of each test image of a cell, by the image's name; empty where its data have moved."""
    from bundle.data import load_data_list

    folder, name = cell.content.get("dataset_dir"), cell.content.get("data_list")
    if not folder or not name or not (Path(folder) / name).is_file():
        print(f"note: no data list {name} in {folder}: no test images of {cell.name} are drawn", file=sys.stderr)
        return {}
    entries = load_data_list(folder, name)["test"]
    return {stem_of(entry["image"]): (Path(entry["image"]), Path(entry["label"])) for entry in entries}


def tile(cell: report.Cell, places: Mapping[str, tuple[Path, Path]], name: str, score: float) -> dict[str, Any] | None:
    """One test image with the contours of truth and answer; ``None`` where image or mask is not there.

    Raises:
        ValueError: where the answer has another size than the truth.
    """
    mask = cell.folder / str(cell.content.get("masks", "evaluation/masks")) / f"{name}_mask.png"
    if name not in places or not mask.is_file():
        return None
    picture, truth, answer = (
        read_image(places[name][0]).pixels,
        read_label(places[name][1]).pixels,
        read_label(mask).pixels,
    )
    if answer.shape != truth.shape:
        raise ValueError(
            f"{mask} is {answer.shape[1]} x {answer.shape[0]} px and its truth {truth.shape[1]} x {truth.shape[0]} px; "
            f"run the cell {cell.name} again on these data"
        )
    scale = SIDE / max(truth.shape)
    size = (max(1, round(truth.shape[0] * scale)), max(1, round(truth.shape[1] * scale)))
    small = (drawing.resized(picture, size) * 0.85).astype(np.uint8)
    outlined = drawing.outlined(small, drawing.resized(truth > 0, size, smooth=False), drawing.TRUTH, thick=True)
    outlined = drawing.outlined(outlined, drawing.resized(answer > 0, size, smooth=False), drawing.PREDICTION)
    file = io.BytesIO()
    Image.fromarray(outlined).save(file, "WEBP", quality=82)
    source = f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
    return {"title": name, "caption": f"{name}: Dice {score:.3f}", "source": source}


if __name__ == "__main__":
    sys.exit(main())
