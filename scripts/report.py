"""The report of a benchmark: a Markdown table and one HTML page that needs no other file.

    python scripts/report.py --cells OUTPUT_OF_BENCHMARK --output FOLDER

writes FOLDER/table.md and FOLDER/report.html from the finished cells under OUTPUT_OF_BENCHMARK/cells: mean and spread
over seeds, comparison image by image, curves, gate weights, calibration, worst and best test images, cost, and
published figures apart from ours. Cells of different data, protocol, size, steps, test images or settings are refused;
what else a reader should know stands as notes in both files and on the terminal.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import io
import logging
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bundle import report
from bundle.data import load_data_list
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
        print(f"report: {_sentence(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("report: stopped; what was there before is still there", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", required=True, type=Path, help="output folder of scripts/benchmark.py")
    parser.add_argument("--output", required=True, type=Path, help="folder of report.html and table.md")
    parser.add_argument("--methods", nargs="+", default=[], help="methods to show (default: all)")
    parser.add_argument("--labels", nargs="+", default=[], help="shares of labels to show, in percent (default: all)")
    parser.add_argument(
        "--metrics",
        nargs="+",
        default=[],
        help="scores of the table (default: all that any cell has; - where one has none)",
    )
    parser.add_argument(
        "--against", help="method that the others are compared with (default: supervised, or the first)"
    )
    parser.add_argument(
        "--tiles", type=_count, default=3, help="worst and best test images a method (default 3; 0: none)"
    )
    parser.add_argument("--anchors", type=Path, default=ROOT / "docs" / "anchors.json", help="published figures")
    return parser


def _count(text: str) -> int:
    """A whole number from 0, as argparse takes it."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is no whole number from 0")
    return int(text)


def write_report(options: argparse.Namespace) -> None:
    """Read the cells, write both files whole and say where they are."""
    everything = report.load_cells(options.cells)
    cells = report.chosen(everything, options.methods, options.labels)
    report.check_comparable(cells)
    metrics = chosen_metrics(cells, options.metrics)
    against = chosen_baseline(cells, options.against)
    anchors = report.read_anchors(options.anchors, str(cells[0].content["data"]))
    leaks = leaks_of(cells)
    tiles, undrawn = draw_tiles(cells, options.tiles)
    absent = report.missing_note(cells, report.unfinished(options.cells, options.methods, options.labels))
    notes = [*absent, *leaks, *report.warnings_of(cells), *undrawn]
    made = f"Made {datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC by scripts/report.py from {len(cells)} cells."
    about = {name: words for name in report.methods_of(cells) if (words := method_words(name))}
    page = report.build(cells, metrics, against, tiles, anchors, notes, made, about)
    table = markdown(cells, metrics, against, notes)
    options.output.mkdir(parents=True, exist_ok=True)
    for name, text in (("table.md", table), ("report.html", page)):
        unfinished = options.output / f".{name}.part"
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(options.output / name)
    for sentence in notes:
        print(f"note: {sentence}", file=sys.stderr)
    print(table)
    print(f"{len(cells)} cells: {options.output / 'report.html'} and {options.output / 'table.md'}")


def method_words(method: str) -> str:
    """What a method is: the first line of its overlay in ``configs/methods``; empty where there is none."""
    overlay = ROOT / "configs" / "methods" / f"{method}.yaml"
    if not overlay.is_file():
        return ""
    first = overlay.read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""


def chosen_baseline(cells: Sequence[report.Cell], asked: str | None) -> str:
    """The method that the others are compared with: the one asked for, or the first, which is ``supervised`` if there.

    Raises:
        ValueError: for a method that no cell has.
    """
    methods = report.methods_of(cells)
    if asked is not None and asked not in methods:
        raise ValueError(f"--against {asked}: no cell shown is of that method; there are {', '.join(methods)}")
    return asked or methods[0]


def chosen_metrics(cells: Sequence[report.Cell], asked: Sequence[str]) -> list[str]:
    """Scores of the table: those asked for, or all that the cells have.

    Raises:
        ValueError: for a score that no cell has.
    """
    there = report.metrics_of(cells)
    unknown = [name for name in asked if name not in there]
    if unknown:
        raise ValueError(f"no cell has the score {unknown[0]!r}; there are {', '.join(there)}")
    return list(dict.fromkeys(asked)) or there


def markdown(cells: Sequence[report.Cell], metrics: Sequence[str], against: str, notes: Sequence[str]) -> str:
    """The tables for docs/results.md: what they hold, the scores, the comparisons, the notes."""
    parts = [report.facts_of(cells)]
    for title, table in report.score_tables(cells, metrics):
        parts += [f"{title}:", report.markdown(table)]
    for title, metric in (("Mean Dice", "mean_dice"), ("Object Dice", "object_dice")):
        found = report.comparisons(cells, metric, against)
        if found:
            parts += [f"{title}, image by image:", report.markdown(report.comparison_table(found, against))]
    if notes:
        parts.append("\n".join(f"- {sentence}" for sentence in ("Notes:", *notes)).removeprefix("- "))
    return "\n\n".join(parts) + "\n"


def leaks_of(cells: Sequence[report.Cell]) -> list[str]:
    """What the data lists of the cells warn of, such as test images of patients that are learned from; each once.

    The log is silent about it from here on. A list that is not there any more warns of nothing.
    """
    said: dict[str, list[str]] = {}

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            name, _, sentence = record.getMessage().partition(": ")
            said.setdefault(sentence, []).append(name)

    logger, listener = logging.getLogger("bundle.data"), Listener(logging.WARNING)
    logger.addHandler(listener)
    logger.propagate = False
    for place, name in sorted(
        {(str(cell.content.get("dataset_dir")), str(cell.content.get("data_list"))) for cell in cells}
    ):
        with contextlib.suppress(OSError, ValueError):
            load_data_list(place, name)
    logger.removeHandler(listener)
    logger.addHandler(logging.NullHandler())
    return [f"{', '.join(names)}: {sentence}." for sentence, names in said.items()]


def draw_tiles(cells: Sequence[report.Cell], count: int) -> tuple[dict[str, list[dict[str, Any]]], list[str]]:
    """The worst and the best test images of the first seed of each method and share of labels, as data: addresses.

    Returns:
        Pictures by the title of their group, and a sentence for each cell that lacks what is to be drawn.
    """
    drawn: dict[str, list[dict[str, Any]]] = {}
    notes: list[str] = []
    pairs = [(labels, method) for labels in report.labels_of(cells) for method in report.methods_of(cells)]
    for labels, method in pairs if count else []:
        found = [cell for cell in cells if cell.method == method and cell.labels == labels]
        scores = found[0].per_image("mean_dice") if found else {}
        if not scores:
            continue
        order = sorted(scores, key=lambda name: scores[name])
        half = min(count, len(order) // 2 or 1)
        groups = {"worst": order[:half], "best": order[::-1][:half]}
        places, note = truth_of(found[0], [name for names in groups.values() for name in names])
        notes += [note] if note else []
        for what, names in groups.items():
            tiles = [tile(found[0], *places[name], name, scores[name]) for name in names if name in places]
            if tiles:
                drawn[f"{method}, {labels} % labels, seed {found[0].seed}: {what}"] = tiles
    return drawn, notes


def truth_of(cell: report.Cell, names: Sequence[str]) -> tuple[dict[str, tuple[Path, Path, Path]], str | None]:
    """Image, truth and answer of some test images of a cell, by name.

    Returns:
        Those of which all three files are there, and a sentence where some are not.
    """
    try:
        entries = load_data_list(str(cell.content.get("dataset_dir")), str(cell.content.get("data_list")))["test"]
    except (OSError, ValueError) as error:
        return {}, f"No test images of {cell.name} are drawn: {_sentence(error)}."
    masks = cell.folder / (cell.content.get("masks") or "evaluation/masks")
    listed = {stem_of(entry["image"]): (Path(entry["image"]), Path(entry["label"])) for entry in entries}
    wanted = {name: masks / f"{name}_mask.png" for name in names}
    places = {name: (*listed[name], mask) for name, mask in wanted.items() if name in listed and mask.is_file()}
    if len(places) == len(wanted):
        return places, None
    lost = next(name for name in wanted if name not in places)
    why = f"there is no {wanted[lost]}" if lost in listed else f"{cell.content['data_list']} holds no {lost}"
    many = "No test images" if not places else f"{len(wanted) - len(places)} of {len(wanted)} test images"
    return places, f"{many} of {cell.name} are {'' if not places else 'not '}drawn: {why}."


def tile(cell: report.Cell, image: Path, label: Path, mask: Path, name: str, score: float) -> dict[str, Any]:
    """One test image with the contours of truth and answer.

    Raises:
        ValueError: where the answer has another size than the truth, or a file is no picture.
    """
    picture, truth, answer = read_image(image).pixels, read_label(label).pixels, read_label(mask).pixels
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


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.strerror}: {error.filename}; give files and folders that can be read and written"
    return " ".join(str(error).split())


if __name__ == "__main__":
    sys.exit(main())
