"""Write the model file that is released with the bundle: the weights of a training in half precision.

python scripts/dev/shrink_weights.py --model runs/weights/model.pt --output models/model.pt
A network loads this file like any other; its parameters stay in single precision. The model.json of the training is
written beside it and marked as released, so that evaluations do not change it. Prints size and SHA-256 for the card.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

LARGEST = 25 * 10**6
"""Maximum size of a file in the bundle, bytes; larger files are downloaded (large_files.yml)."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program. Exit codes: 0 success, 1 error, 2 invalid command line."""
    from bundle.engines import save_whole
    from bundle.engines.model_file import read_saved
    from bundle.engines.model_json_reader import NAME

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, type=Path, help="model.pt of a training")
    parser.add_argument("--output", required=True, type=Path, help="output file")
    given = parser.parse_args(arguments)
    try:
        weights = halved(read_saved(given.model, "weights", "give the model.pt that a training wrote"))
        save_whole(weights, given.output)
        if given.model.with_name(NAME).is_file():
            release(given.model.with_name(NAME), given.output)
    except (OSError, ValueError) as error:
        print(f"shrink_weights: {error}", file=sys.stderr)
        return 1
    data = given.output.read_bytes()
    print(f"{given.output}: {len(data):,} bytes, SHA-256 {hashlib.sha256(data).hexdigest()}")
    if len(data) > LARGEST:
        print(f"shrink_weights: the file exceeds {LARGEST:,} bytes, too large for the bundle", file=sys.stderr)
        return 1
    return 0


def release(description: Path, model: Path) -> None:
    """Write the ``model.json`` of a training beside the released weights.

    Args:
        description: ``model.json`` of the training.
        model: released weights.
    """
    from bundle.engines.model_json_reader import NAME, read_description, sha256, write_description

    weights = {"file": model.name, "sha256": sha256(model)}
    write_description(model.with_name(NAME), read_description(description) | {"weights": weights, "released": True})


def halved(weights: Any) -> dict[str, torch.Tensor]:
    """Convert all floating-point weights to float16.

    Raises:
        ValueError: if ``weights`` is not a state dict, or a value is out of the range of float16.
    """
    if not isinstance(weights, Mapping) or not all(isinstance(value, torch.Tensor) for value in weights.values()):
        raise ValueError("the file does not contain plain weights; give the model.pt that a training wrote")
    small = {name: value.half() if value.is_floating_point() else value for name, value in weights.items()}
    overflowed = [name for name, value in small.items() if value.is_floating_point() and not value.isfinite().all()]
    if overflowed:
        raise ValueError(f"{overflowed[0]} has values out of the range of half precision; use the original file")
    return small


if __name__ == "__main__":
    sys.exit(main())
