"""Validation of a model: pooled Dice on the validation images, computed by the bundle's evaluator."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser

METRIC = "pooled_dice"


def dice(bundle: Path, weights: Path, records: Sequence[Mapping[str, Any]], device: str, folder: Path) -> float | None:
    """Validate a model as in a training of the bundle.

    Args:
        bundle: folder of the bundle.
        weights: weights file of the model.
        records: dicts of ``image``, ``label``, and ``mpp`` if known.
        device: device of the network.
        folder: output folder of the validation.

    Returns:
        Pooled Dice in [0, 1]; ``None`` without images or without any gland.

    Raises:
        ValueError: if the weights do not fit the network.
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
            "output_dir": folder,  # a Path: in texts, MONAI's parser would replace # by ::
            "data#datalist": {"training": entries, "unlabeled": [], "validation": entries, "test": []},
            "validate#dataset#cache_rate": 0.0,
            "validate#handlers": [
                {
                    "_target_": "bundle.engines.ModelCheckpointLoader",
                    "network": "@validate#network",
                    "path": weights,
                }
            ],
        }
    )
    evaluator = parser.get_parsed_content("validate#evaluator")
    evaluator.run()
    score = float(evaluator.state.metrics[METRIC])
    return score if math.isfinite(score) else None
