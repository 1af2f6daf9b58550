"""Tune the settings of the watershed postprocessing for a trained network on the validation part.

    python scripts/tune_postprocessing.py --dataset_dir DIR --ckpt_dir DIR \
        --config_file "['configs/train.json','configs/evaluate.json','configs/postprocessing/watershed.yaml']"

Takes the arguments of the evaluating run: its configs and overrides. The network predicts each validation image once;
then a grid of settings is applied to the predictions and evaluated with the metrics of the config. Prints a table, best
first, and the best settings as arguments of the evaluating run. Tuning on the test part is refused, because it would
bias the test score. In a tie, the settings of the config are preferred, then those tried first.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from scripts.interruption import end_without_traceback

end_without_traceback()

from tqdm import tqdm

GRID = {"seed_level": [0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.9], "boundary_level": [0.1, 0.3, 1.0]}
"""Default grid; other settings are those of the config."""
SCORES = {"object_dice": 1, "object_f1": 1, "object_hausdorff": -1}
"""Metrics to tune for: 1 if higher is better, -1 if lower is better."""
USUAL = ("object_dice", "object_f1")
"""Metrics that are always shown; both are fast."""
PREFIX = "watershed_"
DATA = "validate#dataset#data"

Row = tuple[dict[str, Any], dict[str, float]]
"""Settings, and metric -> score."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program. Exit codes: 0 success, 1 error, 2 invalid command line, 130 interrupted."""
    from bundle.engines.error_summary import sentence
    from scripts.benchmarking import settings_of

    options = _parser()
    given, overrides = options.parse_known_args(arguments)
    try:
        grid = dict(_parse_values(text) for text in given.tried) or GRID
        changes = settings_of(overrides)
    except ValueError as error:
        options.error(str(error))
    try:
        choose(given.config_file, changes, grid, given.score, given.rows)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        print(f"tune_postprocessing: {sentence(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("tune_postprocessing: stopped; no settings were chosen", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config_file", required=True, help="configs of the evaluating run, postprocessing last")
    parser.add_argument(
        "--score", choices=list(SCORES), default="object_dice", help="metric to tune for (default: object_dice)"
    )
    parser.add_argument(
        "--try",
        dest="tried",
        action="append",
        default=[],
        metavar="NAME=VALUE,...",
        help="values of one setting of the watershed; repeatable (default grid: "
        + ", ".join(f"{name} {values}" for name, values in GRID.items())
        + ")",
    )
    parser.add_argument("--rows", type=int, default=12, help="rows of the table (default: 12)")
    return parser


def choose(config_file: str, changes: dict[str, Any], grid: dict[str, list[Any]], score: str, rows: int) -> Row:
    """Print the table and the best settings; return the best settings and their scores."""
    # imported here, so that --help does not import torch
    from bundle.inference import WatershedInstancesd, collect_predictions, postprocessing_scores

    parser = configured(config_file, changes)
    postprocessing = parser.get_parsed_content("watershed")
    own = postprocessing.settings
    unknown = [name for name in grid if name not in own]
    if unknown:
        raise ValueError(f"the watershed has no setting {unknown[0]!r}; choose from {', '.join(own)}")
    keys = (postprocessing.keys, postprocessing.distance_key, postprocessing.boundary_key, postprocessing.target_keys)
    settings = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    default = {name: own[name] for name in grid}
    settings = [default, *(candidate for candidate in settings if candidate != default)]
    variants = [WatershedInstancesd(*keys, **{**own, **candidate}) for candidate in settings]  # checks all values
    names = dict.fromkeys((score, *USUAL))
    metrics = {name: parser.get_parsed_content(f"validate#additional_metrics#{PREFIX}{name}") for name in names}
    plain = {name: parser.get_parsed_content(f"validate#additional_metrics#{name}") for name in names}
    records = collect_predictions(parser.get_parsed_content("validate#evaluator"), without=("image",))
    table: list[Row] = []
    for candidate, variant in zip(tqdm(settings, desc="postprocessing", leave=False), variants, strict=True):
        table.append((candidate, postprocessing_scores(records, variant, metrics)))
    table.sort(key=lambda row: SCORES[score] * row[1][score], reverse=True)
    components = postprocessing_scores(records, parser.get_parsed_content("components"), plain)
    print(f"{len(records)} validation images, {len(table)} settings, best {score} first; * marks the config's settings")
    print(as_text(table, components, settings[0], rows))
    print("Arguments for the evaluating run:")
    print(" ".join(f"--watershed#{name} {value}" for name, value in table[0][0].items()))
    return table[0]


def configured(config_file: str, changes: dict[str, Any]) -> Any:
    """Return the config of the evaluating run on the validation part, without metrics and output files.

    Raises:
        ValueError: if the configs have no watershed, or validation images are also test images.
    """
    from fire.parser import DefaultParseValue
    from monai.bundle import ConfigParser

    if any(key.startswith(DATA) for key in changes):
        raise ValueError(f"postprocessing is tuned on the validation part of the data list; omit --{DATA}")
    parser = ConfigParser()
    parser.read_config(DefaultParseValue(config_file))
    if "watershed" not in parser or "components" not in parser:
        raise ValueError(
            "the configs do not contain `components` and `watershed`; add 'configs/evaluate.json' and "
            "'configs/postprocessing/watershed.yaml' at the end of --config_file"
        )
    parser.update(changes)
    parser[DATA] = {"_target_": "bundle.data.required_part", "datalist": "@data#datalist", "part": "validation"}
    kept = ("CheckpointLoader", "RunProgress")  # the other handlers write files
    handlers = [handler for handler in parser["validate#handlers"] if handler["_target_"].endswith(kept)]
    parser["validate#handlers"] = handlers
    parser["validate#evaluator#key_val_metric"] = None
    parser["validate#evaluator#additional_metrics"] = None
    lists = parser.get_parsed_content("data#datalist")
    shared = {entry["image"] for entry in lists["validation"]} & {entry["image"] for entry in lists["test"]}
    if shared:
        raise ValueError(
            f"{len(shared)} validation images are also test images, for example {min(shared)}; tuning on them would "
            "bias the test score; use a data list with a separate validation part"
        )
    return parser


def as_text(table: Sequence[Row], components: dict[str, float], own: dict[str, Any], rows: int) -> str:
    """Return the first rows of the table, that of the config's settings, and that of the components, as text."""
    settings, scores = list(table[0][0]), list(components)
    widths = [max(len(name) + 2, 10) for name in settings + scores]
    lines = ["  " + "".join(f"{name:>{width}}" for name, width in zip(settings + scores, widths, strict=True))]
    for number, (candidate, values) in enumerate(table):
        if number < rows or candidate == own:
            cells = [*(f"{candidate[name]:g}" for name in settings), *(f"{values[name]:.4f}" for name in scores)]
            mark = "* " if candidate == own else "  "
            lines.append(mark + "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True)))
    cells = [f"{components[name]:.4f}" for name in scores]
    text = "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths[len(settings) :], strict=True))
    return "\n".join([*lines, f"  {'components':>{sum(widths[: len(settings)])}}{text}"])


def _parse_values(text: str) -> tuple[str, list[Any]]:
    """Read ``NAME=VALUE,VALUE``."""
    from fire.parser import DefaultParseValue

    name, sign, values = text.partition("=")
    numbers = [DefaultParseValue(value.strip()) for value in values.split(",")]
    if not sign or not all(isinstance(value, int | float) for value in numbers):
        raise ValueError(f"--try {text!r} must have the form NAME=VALUE,VALUE, for example seed_level=0.3,0.5")
    return name.strip(), numbers


if __name__ == "__main__":
    sys.exit(main())
