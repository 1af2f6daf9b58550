"""Write the report of a benchmark: a Markdown table and a self-contained HTML page.

    python scripts/report.py --cells OUTPUT_OF_BENCHMARK --output FOLDER

Writes FOLDER/table.md and FOLDER/report.html from the finished cells in OUTPUT_OF_BENCHMARK/cells: mean and standard
deviation over seeds, paired comparison of images, curves, gate weights, calibration, worst and best test images, cost,
and, separately, published results. Cells of different data, protocol, size, steps, test images or settings are refused.
Warnings are written as notes to both files and to the terminal.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import io
import logging
import re
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from scripts.interruption import end_without_traceback

end_without_traceback()

from PIL import Image

from bundle.data import load_data_list
from bundle.data.image_io.pictures import read_image, read_label, stem_of
from bundle.handlers import drawing
from bundle.utils import atomic_path
from scripts.reporting.cells import Cell, chosen, load_cells, read_published_scores, unfinished
from scripts.reporting.comparability import check_comparable, facts_of, missing_note, warnings_of
from scripts.reporting.differences import comparison_table, comparisons
from scripts.reporting.page import Tiles, build
from scripts.reporting.tables import labels_of, markdown, methods_of, metrics_of, score_tables

SIDE = 300
"""Longest side of a drawn test image, px."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program. Exit codes: 0 success, 1 error, 2 invalid command line, 130 interrupted."""
    options = _parser().parse_args(arguments)
    try:
        write_report(options)
    except (OSError, ValueError) as error:
        print(f"report: {_sentence(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("report: stopped; existing files are unchanged", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", required=True, type=Path, help="output folder of scripts/benchmark.py")
    parser.add_argument("--output", required=True, type=Path, help="output folder for report.html and table.md")
    parser.add_argument("--methods", nargs="+", default=[], help="methods to show (default: all)")
    parser.add_argument("--labels", nargs="+", default=[], help="label percentages to show (default: all)")
    parser.add_argument("--metrics", nargs="+", default=[], help="metrics of the table (default: all of any cell)")
    parser.add_argument("--against", help="baseline method of the comparison (default: supervised, or the first)")
    parser.add_argument(
        "--tiles", type=_count, default=3, help="number of worst and best test images per method (default: 3)"
    )
    parser.add_argument(
        "--published",
        type=Path,
        default=ROOT / "docs" / "published_scores.json",
        help="published results (docs/published_scores.json)",
    )
    return parser


def _count(text: str) -> int:
    """Parse a non-negative integer."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is not a non-negative integer")
    return int(text)


def write_report(options: argparse.Namespace) -> None:
    """Read the cells, write both files and print their paths."""
    everything = load_cells(options.cells)
    cells = chosen(everything, options.methods, options.labels)
    check_comparable(cells)
    metrics = chosen_metrics(cells, options.metrics)
    against = chosen_baseline(cells, options.against)
    published_scores = read_published_scores(options.published, str(cells[0].content["data"]))
    leaks = leaks_of(cells)
    tiles, undrawn = draw_tiles(cells, options.tiles)
    missing = missing_note(cells, unfinished(options.cells, options.methods, options.labels))
    notes = [*missing, *leaks, *warnings_of(cells), *undrawn]
    written = f"Written {datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC by scripts/report.py from {len(cells)} cells."
    about = {name: explanation for name in methods_of(cells) if (explanation := method_words(name))}
    page = build(cells, metrics, against, tiles, published_scores, notes, written, about)
    table = markdown_tables(cells, metrics, against, notes)
    options.output.mkdir(parents=True, exist_ok=True)
    for name, text in (("table.md", table), ("report.html", page)):
        with atomic_path(options.output / name, clean=True) as temporary:
            temporary.write_text(text, encoding="utf-8")
    for sentence in notes:
        print(f"note: {sentence}", file=sys.stderr)
    print(table)
    print(f"wrote {options.output / 'report.html'} and {options.output / 'table.md'} from {len(cells)} cells")


def method_words(method: str) -> str:
    """Return the title of a method's overlay, with its indented lines; empty if there is none."""
    overlay = ROOT / "configs" / "methods" / f"{method}.yaml"
    if not overlay.is_file():
        return ""
    title = re.match(r"# ?(.*(?:\n#   .*)*)", overlay.read_text(encoding="utf-8"))
    return re.sub(r"\n#\s+", " ", title[1]).strip() if title else ""


def chosen_baseline(cells: Sequence[Cell], requested: str | None) -> str:
    """Return the baseline method: the requested one, or the first, which is ``supervised`` if available.

    Raises:
        ValueError: if no cell has the requested method.
    """
    methods = methods_of(cells)
    if requested is not None and requested not in methods:
        raise ValueError(f"--against {requested}: no such method in these cells; choose from {', '.join(methods)}")
    return requested or methods[0]


def chosen_metrics(cells: Sequence[Cell], requested: Sequence[str]) -> list[str]:
    """Return the metrics of the table: the requested ones, or all of the cells.

    Raises:
        ValueError: if no cell has a requested metric.
    """
    available = metrics_of(cells)
    unknown = [name for name in requested if name not in available]
    if unknown:
        raise ValueError(f"no cell has the metric {unknown[0]!r}; choose from {', '.join(available)}")
    return list(dict.fromkeys(requested)) or available


def markdown_tables(cells: Sequence[Cell], metrics: Sequence[str], against: str, notes: Sequence[str]) -> str:
    """Return the tables for docs/results.md: settings, scores, comparisons and notes."""
    parts = [facts_of(cells)]
    for title, table in score_tables(cells, metrics):
        parts += [f"{title}:", markdown(table)]
    for title, metric in (("Mean Dice", "mean_dice"), ("Object Dice", "object_dice")):
        results = comparisons(cells, metric, against)
        if results:
            parts += [f"{title}, image by image:", markdown(comparison_table(results, against))]
    if notes:
        parts.append("\n".join(f"- {sentence}" for sentence in ("Notes:", *notes)).removeprefix("- "))
    return "\n\n".join(parts) + "\n"


def leaks_of(cells: Sequence[Cell]) -> list[str]:
    """Return the warnings of the data lists, such as test images of patients in the training part; each once.

    The warnings are not logged. Data lists that no longer exist are skipped.
    """
    names_of: dict[str, list[str]] = {}

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            name, _, sentence = record.getMessage().partition(": ")
            names_of.setdefault(sentence, []).append(name)

    logger, listener = logging.getLogger("bundle.data"), Listener(logging.WARNING)
    logger.addHandler(listener)
    logger.propagate = False
    for folder, name in sorted(
        {(str(cell.content.get("dataset_dir")), str(cell.content.get("data_list"))) for cell in cells}
    ):
        with contextlib.suppress(OSError, ValueError):
            load_data_list(folder, name)
    logger.removeHandler(listener)
    logger.addHandler(logging.NullHandler())
    return [f"{', '.join(names)}: {sentence}." for sentence, names in names_of.items()]


def draw_tiles(cells: Sequence[Cell], count: int) -> tuple[Tiles, list[str]]:
    """Draw the worst and best test images of the first seed of each method and label percentage, as data URLs.

    Returns:
        Tiles by run and group (worst, best), and a note for each cell with missing files.
    """
    drawn: Tiles = {}
    notes: list[str] = []
    pairs = [(labels, method) for labels in labels_of(cells) for method in methods_of(cells)]
    for labels, method in pairs if count else []:
        selected = [cell for cell in cells if cell.method == method and cell.labels == labels]
        scores = selected[0].per_image("mean_dice") if selected else {}
        if not scores:
            continue
        order = sorted(scores, key=lambda name: scores[name])
        half = min(count, len(order) // 2 or 1)
        groups = {"worst": order[:half], "best": order[::-1][:half]}
        files, note = files_of(selected[0], [name for names in groups.values() for name in names])
        notes += [note] if note else []
        for group, names in groups.items():
            tiles = [tile(selected[0], *files[name], name, scores[name]) for name in names if name in files]
            if tiles:
                run = f"{method}, {labels} % labels, seed {selected[0].seed}"
                drawn.setdefault(run, {})[group] = tiles
    return drawn, notes


def files_of(cell: Cell, names: Sequence[str]) -> tuple[dict[str, tuple[Path, Path, Path]], str | None]:
    """Find image, ground truth and prediction of test images of a cell.

    Returns:
        The three files by name, where all exist, and a note if some are missing.
    """
    try:
        entries = load_data_list(str(cell.content.get("dataset_dir")), str(cell.content.get("data_list")))["test"]
    except (OSError, ValueError) as error:
        return {}, f"No test images of {cell.name} are shown: {_sentence(error)}."
    masks = cell.folder / (cell.content.get("masks") or "evaluation/masks")
    listed = {stem_of(entry["image"]): (Path(entry["image"]), Path(entry["label"])) for entry in entries}
    predictions = {name: masks / f"{name}_mask.png" for name in names}
    files = {name: (*listed[name], mask) for name, mask in predictions.items() if name in listed and mask.is_file()}
    if len(files) == len(predictions):
        return files, None
    missing = next(name for name in predictions if name not in files)
    in_list = f"{cell.content['data_list']} does not contain {missing}"
    reason = f"{predictions[missing]} does not exist" if missing in listed else in_list
    if not files:
        return files, f"No test images of {cell.name} are shown: {reason}."
    count = len(predictions) - len(files)
    return files, f"{count} of {len(predictions)} test images of {cell.name} are not shown: {reason}."


def tile(cell: Cell, image: Path, label: Path, mask: Path, name: str, score: float) -> dict[str, str]:
    """Draw a test image with the contours of ground truth and prediction.

    Raises:
        ValueError: if prediction and ground truth differ in size, or a file is not an image.
    """
    picture, truth, predicted = read_image(image).pixels, read_label(label).pixels, read_label(mask).pixels
    if predicted.shape != truth.shape:
        height, width = predicted.shape
        raise ValueError(
            f"{mask} is {width} x {height} px, but its ground truth {truth.shape[1]} x {truth.shape[0]} px; "
            f"run the cell {cell.name} again with these data"
        )
    size = drawing.fitted(truth.shape, SIDE)
    small, masks = drawing.resized(picture, size), [drawing.resized(mask > 0, size) for mask in (predicted, truth)]
    file = io.BytesIO()
    Image.fromarray(drawing.compared(small, *masks)).save(file, "WEBP", quality=82)
    source = f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
    return {"caption": f"{name}: Dice {score:.3f}", "source": source}


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.strerror}: {error.filename}; check that it is readable and writable"
    return " ".join(str(error).split())


if __name__ == "__main__":
    sys.exit(main())
