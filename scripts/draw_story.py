"""Draw the story of labeling: masks that grow better, their Dice, and the tiles on which the experts disagree.

    python scripts/draw_story.py FOLDER

FOLDER is what scripts/label_story.py left, which calls this program at its end: story.json, the drawn tiles with their
masks, and the polygons that the server answered. Writes FOLDER/story.png.
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
from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bundle.annotation import draw_instances, read_annotations
from bundle.handlers.drawing import INK, PALE, PAPER, PREDICTION, TRUTH, Color, sheet
from bundle.inference.files import hidden_until_done
from bundle.inference.polygons import outlines
from bundle.report.charts import Frame, number, ticks, widened

Shapes = Sequence[shapely.Geometry]
WIDTH, GAP, CELL = 1064, 8, 256
"""px: of the picture, between pictures, and of a tile."""
SHOWN = 3
"""Tiles that are held back, and tiles at either end of the ranking."""
FINER = 2
"""The picture is drawn so many times larger and then made small, so that lines are smooth."""
SERVED = (("outlined by the server", PREDICTION),)
LINE: Color = (213, 94, 0)


def main() -> int:
    """Run the program; 0 is good, 1 an error that the last line explains."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="what scripts/label_story.py left")
    folder = parser.parse_args().folder.expanduser().absolute()
    try:
        told = json.loads((folder / "story.json").read_text(encoding="utf-8"))
        parts = [stages(folder, told["stages"]), ranking(folder, told["ranking"]), chart(told["stages"])]
        height = sum(part.shape[0] for part in parts)
        picture = Image.new("RGB", (WIDTH, height), PAPER)
        for part, top in zip(parts, np.cumsum([0, *(part.shape[0] for part in parts)]).tolist(), strict=False):
            picture.paste(Image.fromarray(part), (0, top))
        with hidden_until_done(folder / "story.png") as place:
            picture.save(place, optimize=True)
    except (OSError, ValueError, KeyError) as error:
        print(f"draw_story: {folder} holds no whole story ({error}); run scripts/label_story.py again", file=sys.stderr)
        return 1
    return 0


def stages(folder: Path, told: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Tiles that are held back: the truth, and what the server outlined at each stage."""
    names = sorted(path.stem for path in (folder / "answers" / told[0]["stage"]).glob("*.xml"))
    rows = []
    for name in names[len(names) // (2 * SHOWN) :: max(len(names) // SHOWN, 1)][:SHOWN]:
        truth = pixels(folder / "drawn" / "label" / f"{name}.png")
        pictures, scores = [traced(folder, name, [found.shape for found in outlines(truth)], TRUTH, CELL)], []
        for stage in told:
            found = read_annotations(folder / "answers" / stage["stage"] / f"{name}.xml")
            pictures.append(traced(folder, name, [annotation.shape for annotation in found], PREDICTION, CELL))
            mask = draw_instances(found, truth.shape[::-1]) > 0
            overlap = 2 * (mask & (truth > 0)).sum() / max(mask.sum() + (truth > 0).sum(), 1)
            scores.append(f"{stage['stage']} {overlap:.2f}")
        rows.append((f"{name}    Dice: {', '.join(scores)}", pictures))
    columns = ["truth", *(f"{stage['stage']}: {stage['outlined']} tiles outlined" for stage in told)]
    return sheet("Tiles that are held back", columns, rows, CELL, (("truth", TRUTH), *SERVED))


def ranking(folder: Path, scores: Mapping[str, float]) -> np.ndarray:
    """The tiles on which the experts disagreed most and least after the first training."""
    ranks = {name: place for place, name in enumerate(scores, 1)}
    names = [name for name in ranks if (folder / "answers" / "ranking" / f"{name}.xml").is_file()]
    names = [*names[:SHOWN], *names[SHOWN:][-SHOWN:]]
    cell = (WIDTH - GAP) // (2 * SHOWN) - GAP
    pictures, columns = [], []
    for name in names:
        found = read_annotations(folder / "answers" / "ranking" / f"{name}.xml")
        pictures.append(traced(folder, name, [annotation.shape for annotation in found], PREDICTION, cell))
        columns.append(f"{ranks[name]}. {name}: {scores[name]:.3f}")
    title = "Which tile next: how far the experts disagreed after the first training"
    said = f"of the {len(ranks)} tiles without a label: the highest, to which the server leads, and the lowest"
    return sheet(title, columns, [(said, pictures)], cell, SERVED)


def traced(folder: Path, name: str, shapes: Shapes, color: Color, cell: int) -> np.ndarray:
    """A tile, ``cell`` px wide, with the rings of shapes, whose coordinates are px of the tile."""
    with Image.open(folder / "drawn" / "image" / f"{name}.png") as opened:
        scale = FINER * cell / opened.width
        size = (FINER * cell, round(scale * opened.height))
        picture = opened.convert("RGB").resize(size, Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    rings = [ring for shape in shapes for part in shapely.get_parts(shape) for ring in (part.exterior, *part.interiors)]
    for width, shade in (
        (3 * FINER, INK),
        (2 * FINER - 1, color),
    ):  # a dark border: the stain is pale here and dark there
        for ring in rings:
            places = [(scale * x, scale * y) for x, y in shapely.get_coordinates(ring).tolist()]
            draw.line(places, shade, width, joint="curve")
    return np.asarray(picture.resize((cell, size[1] // FINER), Image.Resampling.LANCZOS))


def chart(told: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Dice of the server's masks over how many tiles are outlined."""
    across = widened([stage["outlined"] for stage in told])
    frame = Frame(across, (0, 1), FINER * WIDTH, FINER * 280, FINER * 60, FINER * 60, FINER * 50, FINER * 56)
    canvas = Image.new("RGB", (frame.width, frame.height), PAPER)
    draw, large = ImageDraw.Draw(canvas), ImageFont.load_default(size=16 * FINER)
    small = ImageFont.load_default(size=13 * FINER)
    foot = frame.height - frame.bottom
    draw.text((GAP * FINER, 18 * FINER), "Pooled Dice on the tiles that are held back", INK, large, anchor="lm")
    for value in ticks(0, 1):
        draw.line((frame.left, frame.down(value), frame.width - frame.right, frame.down(value)), (222, 222, 226), FINER)
        draw.text((frame.left - 8 * FINER, frame.down(value)), number(value), PALE, small, anchor="rm")
    places = [(frame.across(stage["outlined"]), frame.down(stage["dice"])) for stage in told]
    draw.line(places, LINE, 2 * FINER, joint="curve")
    for (x, y), stage in zip(places, told, strict=True):
        draw.circle((x, y), 5 * FINER, LINE, PAPER, FINER)
        draw.text((x, y - 10 * FINER), f"{stage['dice']:.3f}", INK, small, anchor="mb")
        draw.text((x, foot + 8 * FINER), f"{stage['outlined']} outlined", INK, small, anchor="mt")
        draw.text((x, foot + 26 * FINER), f"{stage['unlabeled']} not", PALE, small, anchor="mt")
    return np.asarray(canvas.resize((WIDTH, frame.height // FINER), Image.Resampling.LANCZOS))


def pixels(path: Path) -> np.ndarray:
    """Label (H, W) of a tile, whole numbers."""
    with Image.open(path) as picture:
        return np.asarray(picture)


if __name__ == "__main__":
    sys.exit(main())
