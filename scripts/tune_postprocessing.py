"""Choose the settings of the watershed postprocessing for a trained network, on the validation part alone.

    python scripts/tune_postprocessing.py --dataset_dir DIR --ckpt_dir DIR \
        --config_file "['configs/train.json','configs/evaluate.json','configs/postprocessing/watershed.yaml']"

Takes the words of the evaluating run: its configs and its overrides. The network answers each validation image once;
then every setting of a small grid reads these answers, and the metrics of the config score it. The end is a table, best
first, and the best settings as words for the evaluating run. The test part is refused: a setting chosen there would
make its score worthless. Among equals the settings of the config win, then those tried first.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

GRID = {"seed_level": [0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.9], "boundary_level": [0.1, 0.3, 1.0]}
"""What is tried unless ``--try`` says otherwise; all other settings stay those of the config."""
SCORES = {"object_dice": 1, "object_f1": 1, "object_hausdorff": -1}
"""What may be chosen by, and whether more is better (1) or less (-1)."""
USUAL = ("object_dice", "object_f1")
"""Shown in any case; both are fast."""
PREFIX = "watershed_"
DATA = "validate#dataset#data"

Row = tuple[dict[str, Any], dict[str, float]]
"""Settings, and their scores by metric."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; 0 is good, 1 an error that the last line explains, 2 a wrong command line, 130 a Ctrl-C."""
    from bundle.benchmark import settings_of
    from bundle.engines.error_summary import sentence

    options = _parser()
    given, words = options.parse_known_args(arguments)
    try:
        grid = dict(_tried(text) for text in given.tried) or GRID
        changes = settings_of(words)
    except ValueError as error:
        options.error(str(error))
    try:
        choose(given.config_file, changes, grid, given.score, given.rows)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        print(f"tune_postprocessing: {sentence(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("tune_postprocessing: stopped; nothing was chosen", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config_file", required=True, help="configs of the evaluating run, the postprocessing's last")
    parser.add_argument("--score", choices=list(SCORES), default="object_dice", help="what is chosen by")
    parser.add_argument(
        "--try",
        dest="tried",
        action="append",
        default=[],
        metavar="NAME=VALUE,...",
        help="values of one setting of the watershed; may come more than once and replaces the grid of "
        + " and ".join(f"{name} {values}" for name, values in GRID.items()),
    )
    parser.add_argument("--rows", type=int, default=12, help="lines of the table")
    return parser


def choose(config_file: str, changes: dict[str, Any], grid: dict[str, list[Any]], score: str, rows: int) -> Row:
    """Print the table and the best settings, which are returned with their scores."""
    from bundle.inference import WatershedInstancesd, kept_answers, reading_scores  # late: --help needs no torch

    parser = configured(config_file, changes)
    postprocessing = parser.get_parsed_content("watershed")
    own = postprocessing.settings
    unknown = [name for name in grid if name not in own]
    if unknown:
        raise ValueError(f"the watershed has no setting {unknown[0]!r}; it has {', '.join(own)}")
    keys = (postprocessing.keys, postprocessing.distance_key, postprocessing.boundary_key, postprocessing.target_keys)
    settings = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    settings = [{name: own[name] for name in grid}, *(one for one in settings if any(own[n] != one[n] for n in one))]
    variants = [WatershedInstancesd(*keys, **{**own, **one}) for one in settings]  # a wrong value ends here
    names = dict.fromkeys((score, *USUAL))
    metrics = {name: parser.get_parsed_content(f"validate#additional_metrics#{PREFIX}{name}") for name in names}
    plain = {name: parser.get_parsed_content(f"validate#additional_metrics#{name}") for name in names}
    records = kept_answers(parser.get_parsed_content("validate#evaluator"), without=("image",))
    table: list[Row] = []
    for one, tried in zip(tqdm(settings, desc="postprocessing", leave=False), variants, strict=True):
        table.append((one, reading_scores(records, tried, metrics)))
    table.sort(key=lambda row: SCORES[score] * row[1][score], reverse=True)
    components = reading_scores(records, parser.get_parsed_content("components"), plain)
    print(f"{len(records)} validation images, {len(table)} settings, best {score} first; * is the config's own")
    print(as_text(table, components, settings[0], rows))
    print("For the evaluating run:")
    print(" ".join(f"--watershed#{name} {value}" for name, value in table[0][0].items()))
    return table[0]


def configured(config_file: str, changes: dict[str, Any]) -> Any:
    """The configs of the evaluating run, turned to the validation part, with nothing to write and nothing to score.

    Raises:
        ValueError: for configs without the watershed, or where validation images are test images too.
    """
    from fire.parser import DefaultParseValue
    from monai.bundle import ConfigParser

    if any(key.startswith(DATA) for key in changes):
        raise ValueError(f"postprocessing is tuned on the validation part of the data list; leave --{DATA} out")
    parser = ConfigParser()
    parser.read_config(DefaultParseValue(config_file))
    if "watershed" not in parser or "components" not in parser:
        raise ValueError(
            "the configs hold no `components` and `watershed`; end --config_file with 'configs/evaluate.json' and "
            "'configs/postprocessing/watershed.yaml'"
        )
    parser.update(changes)
    parser[DATA] = {"_target_": "bundle.data.required_part", "datalist": "@datalist", "part": "validation"}
    wanted = ("CheckpointLoader", "RunProgress")  # the rest writes files
    parser["validate#handlers"] = [one for one in parser["validate#handlers"] if one["_target_"].endswith(wanted)]
    parser["validate#evaluator#key_val_metric"] = None
    parser["validate#evaluator#additional_metrics"] = None
    lists = parser.get_parsed_content("datalist")
    shared = {one["image"] for one in lists["validation"]} & {one["image"] for one in lists["test"]}
    if shared:
        raise ValueError(
            f"{len(shared)} validation images are test images too, for example {min(shared)}; a postprocessing tuned "
            "on them would be chosen on the test part: take a list with a validation part of its own"
        )
    return parser


def as_text(table: Sequence[Row], components: dict[str, float], own: dict[str, Any], rows: int) -> str:
    """The first rows of the table, the config's own settings and the components."""
    settings, scores = list(table[0][0]), list(components)
    wide = [max(len(name) + 2, 10) for name in settings + scores]
    lines = ["  " + "".join(f"{name:>{width}}" for name, width in zip(settings + scores, wide, strict=True))]
    for number, (one, figures) in enumerate(table):
        if number < rows or one == own:
            cells = [*(f"{one[name]:g}" for name in settings), *(f"{figures[name]:.4f}" for name in scores)]
            mark = "* " if one == own else "  "
            lines.append(mark + "".join(f"{cell:>{width}}" for cell, width in zip(cells, wide, strict=True)))
    cells = [f"{components[name]:.4f}" for name in scores]
    text = "".join(f"{cell:>{width}}" for cell, width in zip(cells, wide[len(settings) :], strict=True))
    return "\n".join([*lines, f"  {'components':>{sum(wide[: len(settings)])}}{text}"])


def _tried(text: str) -> tuple[str, list[Any]]:
    """Read ``NAME=VALUE,VALUE``."""
    from fire.parser import DefaultParseValue

    name, sign, values = text.partition("=")
    numbers = [DefaultParseValue(value.strip()) for value in values.split(",")]
    if not sign or not all(isinstance(value, int | float) for value in numbers):
        raise ValueError(f"--try {text!r} is no NAME=VALUE,VALUE with numbers, for example seed_level=0.3,0.5")
    return name.strip(), numbers


if __name__ == "__main__":
    sys.exit(main())
