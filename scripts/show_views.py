"""Draw tiles unchanged and in random draws of a view, to check that the tissue remains recognizable.

    python scripts/show_views.py --picture views.png --dataset_dir DIR

Takes the arguments of a training: its configs and overrides. Each row shows a labeled tile after the weak augmentation
of the data pipeline, and draws of the view. The contour is the label, transformed with the view.
docs/figures/views.png shows the phantom:

    python scripts/show_views.py --picture docs/figures/views.png --tiles 3 --draws 5 --cell 160
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from scripts.interruption import end_without_traceback

end_without_traceback()

import numpy as np
from numpy.typing import NDArray

CONFIGS = str([str(ROOT / "configs" / "train.json")])


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
        show(given.config_file, changes, given.picture, given.view, (given.tiles, given.draws), given.cell, given.seed)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        print(f"show_views: {sentence(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("show_views: stopped; nothing was written", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config_file", default=CONFIGS, help="configs of the training (default: configs/train.json)")
    parser.add_argument("--picture", required=True, type=Path, help="output PNG")
    parser.add_argument("--view", default="train#strong_view", help="key of the view (default: train#strong_view)")
    parser.add_argument("--tiles", type=int, default=6, help="number of tiles (default: 6)")
    parser.add_argument("--draws", type=int, default=5, help="draws of the view per tile (default: 5)")
    parser.add_argument("--cell", type=int, default=256, help="width of a tile in the figure, px (default: 256)")
    parser.add_argument("--seed", type=int, default=0, help="seed of crops and views (default: 0)")
    return parser


def show(
    config_file: str, changes: dict[str, Any], picture: Path, key: str, counts: tuple[int, int], cell: int, seed: int
) -> None:
    """Write the figure; ``counts`` are the numbers of tiles and draws.

    Raises:
        ValueError: if the configs do not contain the view.
    """
    import torch
    from fire.parser import DefaultParseValue  # imported here, so that --help imports neither MONAI nor torch
    from monai.bundle import ConfigParser
    from monai.utils import set_determinism

    from bundle.handlers import drawing

    parser = ConfigParser()
    parser.read_config(DefaultParseValue(config_file))
    parser.update({"bundle_root": str(ROOT)} | changes)
    if key not in parser:
        raise ValueError(f"the configs do not contain `{key}`; give the key of a view with --view")
    view = parser.get_parsed_content(key)
    dataset = parser.get_parsed_content("train#dataset")
    set_determinism(seed)
    dataset.transform.set_random_state(seed=seed)
    indices = np.linspace(0, len(dataset) - 1, min(counts[0], len(dataset))).round().astype(int)
    items = [dataset[int(index)] for index in indices]
    batch = {name: torch.stack([item[name] for item in items]) for name in ("image", "label")}
    batches = [batch, *(view(batch).batch for _ in range(counts[1]))]
    scale = tuple(parser.get_parsed_content(name) for name in ("mean", "std"))
    pairs = [zip(shown["image"], shown["label"], strict=True) for shown in batches]
    columns = [[_tile(*pair, scale, cell) for pair in column] for column in pairs]
    names = [Path(dataset.data[int(index)]["image"]).name for index in indices]
    rows = [(name, list(pictures)) for name, pictures in zip(names, zip(*columns, strict=True), strict=True)]
    titles = ["unchanged", *(f"draw {number}" for number in range(1, counts[1] + 1))]
    sheet = drawing.sheet(f"{key}, seed {seed}", titles, rows, cell, key=(("label", drawing.TRUTH),))
    picture.parent.mkdir(parents=True, exist_ok=True)
    drawing.in_palette(sheet).save(picture, optimize=True)
    print(f"wrote {picture} ({picture.stat().st_size / 1000:.0f} KB)")


def _tile(image: Any, label: Any, scale: tuple[list[float], ...], cell: int) -> NDArray[np.uint8]:
    """Draw a normalized image (3, W, H) with the contour of its label (1, W, H), upright, ``cell`` px wide."""
    from bundle.handlers import drawing

    mean, deviation = (np.reshape(numbers, (3, 1, 1)) for numbers in scale)
    colors = (255.0 * (image.numpy() * deviation + mean)).round().clip(0, 255).astype(np.uint8).T
    size = (round(cell * colors.shape[0] / colors.shape[1]), cell)
    classes = drawing.resized(label[0].numpy().T, size)
    return drawing.outlined(drawing.resized(colors, size), classes, drawing.TRUTH)


if __name__ == "__main__":
    sys.exit(main())
