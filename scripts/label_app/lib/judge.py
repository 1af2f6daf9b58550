"""How good a model is: pooled Dice on the images that judge, by the bundle's own validation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser

METRIC = "pooled_dice"


def dice(bundle: Path, weights: Path, records: Sequence[Mapping[str, Any]], device: str, folder: Path) -> float | None:
    """Judge a model as a training of the bundle judges its own.

    Args:
        bundle: folder of the bundle.
        weights: the model.
        records: ``image``, ``label``, and ``mpp`` where it is known.
        device: where to calculate.
        folder: for what the validation writes.

    Returns:
        Pooled Dice in [0, 1]; ``None`` where there is nothing to judge by: no image, or no gland in any.

    Raises:
        ValueError: where the weights are of another network.
    """
    if not records:
        return None
    parser = ConfigParser()
    parser.read_config(str(bundle / "configs" / "train.json"))
    entries = [dict(record) for record in records]
    parser.update(
        {
            "bundle_root": str(bundle),
            "device": torch.device(device),
            "output_dir": str(folder),
            "datalist": {"training": entries, "unlabeled": [], "validation": entries, "test": []},
            "validate#dataset#cache_rate": 0.0,
            "validate#handlers": [
                {
                    "_target_": "bundle.engines.ModelCheckpointLoader",
                    "network": "@evaluated",
                    "path": str(weights),
                }
            ],
        }
    )
    evaluator = parser.get_parsed_content("validate#evaluator")
    evaluator.run()
    score = float(evaluator.state.metrics[METRIC])
    return score if math.isfinite(score) else None
