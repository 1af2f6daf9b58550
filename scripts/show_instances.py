"""Draw tiles with touching glands: ground truth, connected components and watershed, with one outline per gland.

    python scripts/show_instances.py --picture instances.png --dataset_dir DIR --ckpt_dir DIR \
        --config_file "['configs/train.json','configs/evaluate.json','configs/postprocessing/watershed.yaml']"

Takes the arguments of the evaluating run: its configs and overrides. Shows the test tiles with the most touching pairs
of glands, one per patient; colors only separate neighbors. docs/figures/instances.png shows a network trained on the
phantom:

    TRAINING="'configs/train.json','configs/methods/semi_moe.yaml','configs/sizes/demo.yaml'"
    CHANGES="--objective#ramp#maximum 0.5 --network_def#gate equal --ckpt_dir runs/demo"
    python -m monai.bundle run training --config_file "[$TRAINING]" $CHANGES
    python scripts/show_instances.py --picture docs/figures/instances.png $CHANGES \
        --config_file "[$TRAINING,'configs/evaluate.json','configs/postprocessing/watershed.yaml']"
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from scripts.interruption import end_without_traceback

end_without_traceback()

import numpy as np
from numpy.typing import NDArray

COLORS = ((255, 238, 0), (86, 180, 233), (0, 255, 80), (230, 159, 0), (255, 255, 255), (204, 121, 167))
"""Colors of glands; neighbors get different colors if possible."""
VEIL = 0.25
"""Opacity of the color inside a gland; its outline is opaque."""
NEAR = 6
"""Maximum distance of neighbors, px."""
POSTPROCESSING = ("components", "watershed")
"""Columns beside the ground truth: names of the transforms in the config."""

Tile = tuple[str, NDArray[np.uint8], dict[str, NDArray[Any]]]
"""File name, image (H, W, 3) and column -> instances (H, W)."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program. Exit codes: 0 success, 1 error, 2 invalid command line, 130 interrupted."""
    from bundle.engines.error_summary import sentence
    from scripts.benchmarking import settings_of

    options = _parser()
    given, overrides = options.parse_known_args(arguments)
    try:
        changes = settings_of(overrides)
    except ValueError as error:
        options.error(str(error))
    try:
        show(given.config_file, changes, given.picture, given.tiles, given.cell)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        print(f"show_instances: {sentence(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("show_instances: stopped; nothing was written", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config_file", required=True, help="configs of the evaluating run, postprocessing last")
    parser.add_argument("--picture", required=True, type=Path, help="output PNG")
    parser.add_argument("--tiles", type=int, default=3, help="number of tiles (default: 3)")
    parser.add_argument("--cell", type=int, default=232, help="width of a tile in the figure, px (default: 232)")
    return parser


def show(config_file: str, changes: dict[str, Any], picture: Path, count: int, cell: int) -> None:
    """Write the figure.

    Raises:
        ValueError: if the configs have no watershed.
    """
    from fire.parser import DefaultParseValue  # imported here, so that --help imports neither MONAI nor torch
    from monai.bundle import ConfigParser

    from bundle.data import read_image, read_label
    from bundle.handlers import drawing
    from bundle.inference import collect_predictions

    parser = ConfigParser()
    parser.read_config(DefaultParseValue(config_file))
    if any(name not in parser for name in POSTPROCESSING):
        raise ValueError(
            "the configs do not contain `components` and `watershed`; add 'configs/evaluate.json' and "
            "'configs/postprocessing/watershed.yaml' at the end of --config_file"
        )
    parser.update(changes)
    kept = ("CheckpointLoader", "RunProgress")  # the other handlers write files
    handlers = [handler for handler in parser["validate#handlers"] if handler["_target_"].endswith(kept)]
    parser["validate#handlers"] = handlers
    parser["validate#evaluator#key_val_metric"] = None
    parser["validate#evaluator#additional_metrics"] = None
    entries = parser.get_parsed_content("validate#dataset#data")
    labels = [read_label(entry["label"]).pixels for entry in entries]
    most = sorted(range(len(entries)), key=lambda number: -len(touching(labels[number], 1)))
    patients = [entries[number].get("patient", number) for number in most]
    most = [number for rank, number in enumerate(most) if patients[rank] not in patients[:rank]][:count]
    parser["validate#dataset#data"] = [entries[number] for number in most]
    records = collect_predictions(parser.get_parsed_content("validate#evaluator"), without=("image",))
    tiles: list[Tile] = []
    variants = {name: parser.get_parsed_content(name) for name in POSTPROCESSING}
    for number, record in zip(most, records, strict=True):
        instances = {name: _upright(transform, record) for name, transform in variants.items()}
        maps = {"ground truth": labels[number], **instances}
        tiles.append((Path(entries[number]["image"]).name, read_image(entries[number]["image"]).pixels, maps))
    sheet = drawing.sheet("test tiles", list(tiles[0][2]), [_row(tile, cell) for tile in tiles], cell, key=())
    picture.parent.mkdir(parents=True, exist_ok=True)
    drawing.in_palette(sheet).save(picture, optimize=True)
    print(f"wrote {picture} ({picture.stat().st_size / 1000:.0f} KB)")


def touching(instances: NDArray[Any], reach: int) -> set[tuple[int, int]]:
    """Return the pairs of instances (H, W), smaller number first, within ``reach`` px of each other along an axis."""
    pairs: set[tuple[int, int]] = set()
    for step in range(1, reach + 1):
        for first, second in ((instances[step:], instances[:-step]), (instances[:, step:], instances[:, :-step])):
            meet = (first != second) & (first > 0) & (second > 0)
            both = np.sort(np.stack([first[meet], second[meet]]), axis=0)
            pairs |= {(int(low), int(high)) for low, high in np.unique(both, axis=1).T}
    return pairs


def color_numbers(instances: NDArray[Any]) -> dict[int, int]:
    """Assign each gland of a map (H, W) the number of a color, the first that none of its previous neighbors has."""
    neighbors = touching(instances, NEAR)
    chosen: dict[int, int] = {}
    for gland in np.unique(instances[instances > 0]).tolist():
        taken = {chosen.get(low if high == gland else high) for low, high in neighbors if gland in (low, high)}
        free = [number for number in range(len(COLORS)) if number not in taken]
        chosen[gland] = free[0] if free else gland % len(COLORS)
    return chosen


def _row(tile: Tile, cell: int) -> tuple[str, list[NDArray[np.uint8]]]:
    """Return caption and images of one tile."""
    from bundle.handlers import drawing

    name, photo, maps = tile
    size = (round(cell * photo.shape[0] / photo.shape[1]), cell)
    small = drawing.resized(photo, size)
    pictures = []
    for instances in maps.values():
        colors = color_numbers(instances)
        shown = drawing.resized(instances, size)
        drawn = small
        for number, color in enumerate(COLORS):
            glands = [gland for gland, chosen in colors.items() if chosen == number]
            own = np.where(np.isin(shown, glands), shown, 0)
            veiled = ((1 - VEIL) * drawn + VEIL * np.array(color)).astype(np.uint8)
            drawn = drawing.outlined(np.where(own[..., None] > 0, veiled, drawn), own, color, thick=True)
        pictures.append(drawn)
    counts = ", ".join(f"{column} {len(np.unique(glands[glands > 0]))}" for column, glands in maps.items())
    return f"{name}    glands: {counts}", pictures


def _upright(postprocessing: Any, record: dict[Hashable, Any]) -> NDArray[Any]:
    """Return the instances (H, W) of a postprocessing; the maps of the record have width first."""
    return postprocessing(record)[postprocessing.target_keys[0]][0].numpy().T


if __name__ == "__main__":
    sys.exit(main())
