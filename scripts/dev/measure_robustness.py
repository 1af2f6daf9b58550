"""Measure how the scores of a trained network change if its images are changed.

    python scripts/dev/measure_robustness.py --dataset_dir DIR --ckpt_dir DIR \
        --config_file "['configs/train.json','configs/evaluate.json']" [--part test] [--output FILE.json]

Takes the arguments of the evaluating run: its configs and overrides. The images of one part of the data list are
evaluated unchanged and once for each change: other amounts of stain, blur, JPEG compression, brightness, and a wrong
pixel size (the images are the same, but `mpp` of the data list is wrong by a factor). The changes are the same for all
images. The table, as Markdown, has the scores and their differences from the unchanged images.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from scripts.benchmarking import settings_of

DATA = "validate#dataset#data"
SCORES = ("pooled_dice", "class_mean_dice", "object_dice")
UNCHANGED = "unchanged"

Picture = NDArray[np.uint8]
"""Colors (H, W, 3)."""
Change = Callable[[Picture], Picture]


def stained(hematoxylin: float, eosin: float) -> Change:
    """Return a change that multiplies the amounts of two stains, as :class:`bundle.transforms.StainJitter` does."""

    def change(picture: Picture) -> Picture:
        from skimage.color import hed_from_rgb, rgb_from_hed

        light = np.maximum(picture / 255, 1 / 255)
        amounts = -np.log(light) @ hed_from_rgb
        added = amounts * np.array([hematoxylin - 1, eosin - 1, 0]) @ rgb_from_hed
        return np.round(255 * np.clip(light * np.exp(-added), 0, 1)).astype(np.uint8)

    return change


def blurred(sd: float) -> Change:
    """Return a Gaussian blur; ``sd`` is its standard deviation in px."""

    def change(picture: Picture) -> Picture:
        from scipy.ndimage import gaussian_filter

        return gaussian_filter(picture, sigma=(sd, sd, 0))

    return change


def compressed(quality: int) -> Change:
    """Return JPEG compression of a quality, 1 to 95."""

    def change(picture: Picture) -> Picture:
        from PIL import Image

        file = io.BytesIO()
        Image.fromarray(picture).save(file, "JPEG", quality=quality)
        return np.asarray(Image.open(file))

    return change


def brightened(factor: float) -> Change:
    """Return a change that multiplies all colors."""
    return lambda picture: np.clip(np.round(factor * picture.astype(np.float32)), 0, 255).astype(np.uint8)


CHANGES: dict[str, Change] = {
    "hematoxylin x 0.75": stained(0.75, 1.0),
    "hematoxylin x 1.25": stained(1.25, 1.0),
    "eosin x 0.75": stained(1.0, 0.75),
    "eosin x 1.25": stained(1.0, 1.25),
    "blur, 1 px": blurred(1.0),
    "blur, 2 px": blurred(2.0),
    "JPEG, quality 50": compressed(50),
    "brightness x 0.8": brightened(0.8),
    "brightness x 1.2": brightened(1.2),
}
PIXEL_SIZES = {"pixel size x 0.8": 0.8, "pixel size x 1.25": 1.25}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program. Exit codes: 0 success, 1 error, 2 invalid command line, 130 interrupted."""
    from bundle.engines.error_summary import sentence

    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--config_file", required=True, help="configs of the evaluating run")
    options.add_argument(
        "--part", default="test", choices=["validation", "test"], help="part of the data list (default: test)"
    )
    options.add_argument("--output", type=Path, help="also write the scores to this JSON file")
    given, overrides = options.parse_known_args(arguments)
    try:
        changes = settings_of(overrides)
    except ValueError as error:
        options.error(str(error))
    try:
        scores = measured(given.config_file, changes, given.part)
        if given.output:
            given.output.write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")
        print(as_table(scores))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        print(f"measure_robustness: {sentence(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("measure_robustness: stopped", file=sys.stderr)
        return 130
    return 0


def measured(config_file: str, overrides: Mapping[str, Any], part: str) -> dict[str, dict[str, float]]:
    """Return the scores for the unchanged images and for each change."""
    from PIL import Image

    from bundle.data import read_image

    items = configured(config_file, overrides, part).get_parsed_content(DATA)
    scores = {UNCHANGED: evaluated(configured(config_file, overrides, part), items)}
    with tempfile.TemporaryDirectory() as folder:
        for name, change in CHANGES.items():
            altered = []
            for number, item in enumerate(items):
                path = Path(folder) / f"{number}.png"
                Image.fromarray(change(read_image(item["image"]).pixels)).save(path)
                altered.append({**item, "image": str(path)})
            scores[name] = evaluated(configured(config_file, overrides, part), altered)
    for name, factor in PIXEL_SIZES.items():
        parser = configured(config_file, overrides, part)
        size = parser.get_parsed_content("pixel_size")
        scores[name] = evaluated(parser, [{**item, "mpp": factor * (item.get("mpp") or size)} for item in items])
    return scores


def configured(config_file: str, overrides: Mapping[str, Any], part: str) -> Any:
    """Return the config of the evaluating run on a part of the data list, without handlers that write files.

    Raises:
        ValueError: if the overrides set the data, which ``part`` selects.
    """
    from fire.parser import DefaultParseValue
    from monai.bundle import ConfigParser

    if any(key.startswith(DATA) for key in overrides):
        raise ValueError(f"--part selects the images from the data list; omit --{DATA}")
    parser = ConfigParser()
    parser.read_config(DefaultParseValue(config_file))
    parser.update(dict(overrides))
    parser[DATA] = {"_target_": "bundle.data.required_part", "datalist": "@data#datalist", "part": part}
    kept = ("CheckpointLoader", "RunProgress")
    parser["validate#handlers"] = [
        handler for handler in parser["validate#handlers"] if handler["_target_"].endswith(kept)
    ]
    return parser


def evaluated(parser: Any, items: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Evaluate the network on images of a data list and return the scores."""
    parser[DATA] = list(items)
    evaluator = parser.get_parsed_content("validate#evaluator")
    evaluator.run()
    return {name: float(evaluator.state.metrics[name]) for name in SCORES}


def as_table(scores: Mapping[str, Mapping[str, float]]) -> str:
    """Return the scores as Markdown, each with its difference to the unchanged images."""
    lines = [f"| change | {' | '.join(SCORES)} |", "|---" * (len(SCORES) + 1) + "|"]
    for name, values in scores.items():
        texts = [
            f"{values[key]:.3f}" + ("" if name == UNCHANGED else f" ({values[key] - scores[UNCHANGED][key]:+.3f})")
            for key in SCORES
        ]
        lines.append(f"| {name} | {' | '.join(texts)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
