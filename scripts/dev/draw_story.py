"""Draw the results of scripts/dev/label_story.py: masks and Dice at each stage, and the ranking of unlabeled tiles.

    python scripts/dev/draw_story.py FOLDER

FOLDER is the output of scripts/dev/label_story.py, which calls this program at its end: story.json, the synthetic tiles
with their masks, and the polygons that the server returned. Writes FOLDER/story.png.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from bundle.handlers.drawing import INK, PAPER, PREDICTION, TRUTH, Color, sheet
from bundle.inference.polygons import outlines
from bundle.utils import atomic_path
from scripts.label_app.lib.annotation import draw_instances, read_annotations

Shapes = Sequence[shapely.Geometry]
WIDTH, GAP, CELL = 1064, 8, 256
"""Width of the figure, gap between images, and width of a tile, px."""
SHOWN = 3
"""Number of held-out tiles, and of tiles from each end of the ranking."""
FINER = 2
"""Supersampling factor for smooth lines."""
SERVED = (("predicted by the server", PREDICTION),)


def main() -> int:
    """Run the program. Exit codes: 0 success, 1 error, 2 invalid command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="output folder of scripts/dev/label_story.py")
    folder = parser.parse_args().folder.expanduser().absolute()
    try:
        story = json.loads((folder / "story.json").read_text(encoding="utf-8"))
        parts = [stages(folder, story["stages"]), ranking(folder, story["ranking"]), chart(story["stages"])]
        height = sum(part.shape[0] for part in parts)
        picture = Image.new("RGB", (WIDTH, height), PAPER)
        for part, top in zip(parts, np.cumsum([0, *(part.shape[0] for part in parts)]).tolist(), strict=False):
            picture.paste(Image.fromarray(part), (0, top))
        with atomic_path(folder / "story.png", ".png") as path:
            picture.save(path, optimize=True)
    except (OSError, ValueError, KeyError) as error:
        print(
            f"draw_story: {folder} is incomplete ({error}); run scripts/dev/label_story.py again",
            file=sys.stderr,
        )
        return 1
    return 0


def stages(folder: Path, records: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Draw held-out tiles: the ground truth, and the server's predictions at each stage."""
    names = sorted(path.stem for path in (folder / "answers" / records[0]["stage"]).glob("*.xml"))
    rows = []
    for name in names[len(names) // (2 * SHOWN) :: max(len(names) // SHOWN, 1)][:SHOWN]:
        truth = pixels(folder / "drawn" / "label" / f"{name}.png")
        pictures, scores = [traced(folder, name, [outline.shape for outline in outlines(truth)], TRUTH, CELL)], []
        for stage in records:
            annotations = read_annotations(folder / "answers" / stage["stage"] / f"{name}.xml")
            pictures.append(traced(folder, name, [annotation.shape for annotation in annotations], PREDICTION, CELL))
            mask = draw_instances(annotations, truth.shape[::-1]) > 0
            overlap = 2 * (mask & (truth > 0)).sum() / max(mask.sum() + (truth > 0).sum(), 1)
            scores.append(f"{stage['stage']} {overlap:.2f}")
        rows.append((f"{name}    Dice: {', '.join(scores)}", pictures))
    columns = ["ground truth", *(f"{stage['stage']}: {stage['outlined']} tiles labeled" for stage in records)]
    return sheet("Held-out tiles", columns, rows, CELL, (("ground truth", TRUTH), *SERVED))


def ranking(folder: Path, scores: Mapping[str, float]) -> np.ndarray:
    """Draw the tiles with the highest and lowest disagreement of the experts after the first training."""
    ranks = {name: rank for rank, name in enumerate(scores, 1)}
    names = [name for name in ranks if (folder / "answers" / "ranking" / f"{name}.xml").is_file()]
    names = [*names[:SHOWN], *names[SHOWN:][-SHOWN:]]
    cell = (WIDTH - GAP) // (2 * SHOWN) - GAP
    pictures, columns = [], []
    for name in names:
        annotations = read_annotations(folder / "answers" / "ranking" / f"{name}.xml")
        pictures.append(traced(folder, name, [annotation.shape for annotation in annotations], PREDICTION, cell))
        columns.append(f"{ranks[name]}. {name}: {scores[name]:.3f}")
    title = "Disagreement of the experts after the first training"
    caption = f"of the {len(ranks)} unlabeled tiles: the highest, which the server suggests next, and the lowest"
    return sheet(title, columns, [(caption, pictures)], cell, SERVED)


def traced(folder: Path, name: str, shapes: Shapes, color: Color, cell: int) -> np.ndarray:
    """Draw a tile, ``cell`` px wide, with the outlines of shapes in px of the tile."""
    with Image.open(folder / "drawn" / "image" / f"{name}.png") as opened:
        scale = FINER * cell / opened.width
        size = (FINER * cell, round(scale * opened.height))
        picture = opened.convert("RGB").resize(size, Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    rings = [ring for shape in shapes for part in shapely.get_parts(shape) for ring in (part.exterior, *part.interiors)]
    for width, shade in ((3 * FINER, INK), (2 * FINER - 1, color)):  # a dark border for contrast on pale stain
        for ring in rings:
            points = [(scale * x, scale * y) for x, y in shapely.get_coordinates(ring).tolist()]
            draw.line(points, shade, width, joint="curve")
    return np.asarray(picture.resize((cell, size[1] // FINER), Image.Resampling.LANCZOS))


def chart(records: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Draw the Dice of the server's masks over the number of labeled tiles."""
    figure = Figure((WIDTH / 100, 2.8), dpi=100, layout="constrained")
    canvas, axes = FigureCanvasAgg(figure), figure.add_subplot(ylim=(0, 1.1))
    axes.set_title("Pooled Dice on the held-out tiles", loc="left")
    counts, scores = ([stage[key] for stage in records] for key in ("outlined", "dice"))
    axes.plot(counts, scores, "o-", color="#d55e00")
    for count, score in zip(counts, scores, strict=True):
        axes.annotate(f"{score:.3f}", (count, score), (0, 7), textcoords="offset points", ha="center")
    axes.set_xticks(counts, [f"{stage['outlined']} labeled\n{stage['unlabeled']} unlabeled" for stage in records])
    axes.margins(x=0.1)
    axes.grid(axis="y", alpha=0.4)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def pixels(path: Path) -> np.ndarray:
    """Read the label (H, W) of a tile, integers."""
    with Image.open(path) as picture:
        return np.asarray(picture)


if __name__ == "__main__":
    sys.exit(main())
